"""tf.data, in a Python that has TensorFlow: photographs by decode_and_crop_jpeg, small records of TFRecord files"""

import sys
from pathlib import Path

import tensorflow as tf  # pyright: ignore[reportMissingImports, reportMissingModuleSource]

from benchmarks.serving import serve

BATCH, SMALL_BATCH, SIZE = 64, 256, 224


def photographs(folder: str) -> "tf.data.Dataset":
    """Inception's crop as big_vision's and the TPU reference models' input pipelines make it."""

    def load(path: "tf.Tensor") -> "tf.Tensor":
        image = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(image),
            tf.zeros((0, 0, 4), tf.float32),
            min_object_covered=0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        # its own default is the fast DCT, and neighbouring pixels alone whatever the scale
        part = tf.io.decode_and_crop_jpeg(image, window, channels=3, dct_method="INTEGER_ACCURATE" if EXACT else "")
        pixels = tf.image.resize(part, (SIZE, SIZE), METHOD, antialias=EXACT)
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)

    paths = sorted(str(path) for path in Path(folder, "train").glob("*/*.jpg"))
    return tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths)).repeat().map(load, tf.data.AUTOTUNE)


def records(file: str, *, cached: bool) -> "tf.data.Dataset":
    """PNG of 28 x 28 in tf.Example; decoded every time, or kept in memory as pixels."""
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

    def load(record: "tf.Tensor") -> "tf.Tensor":
        image = tf.io.decode_png(tf.io.parse_single_example(record, features)["image"], 1)
        return tf.ensure_shape(image, (28, 28, 1))

    read = tf.data.TFRecordDataset(file)
    if cached:
        return read.map(load, tf.data.AUTOTUNE).cache().shuffle(60_000).repeat()
    return read.shuffle(10_000).repeat().map(load, tf.data.AUTOTUNE)


if __name__ == "__main__":
    kind, source, cores = sys.argv[1:]
    METHOD = "bilinear" if "bilinear" in kind else "bicubic"
    EXACT = "antialiased" in kind
    tf.config.threading.set_intra_op_parallelism_threads(int(cores))
    tf.config.threading.set_inter_op_parallelism_threads(int(cores))
    if kind == "write":  # what is before the comma of each line is a record in hexadecimal digits
        with tf.io.TFRecordWriter(source + ".tfrecord") as writer, Path(source).open() as lines:
            for line in lines:
                writer.write(bytes.fromhex(line))
        sys.exit()
    large = kind.startswith("tf.data, bi")
    data = photographs(source) if large else records(source, cached="cached" in kind)
    options = tf.data.Options()
    options.threading.private_threadpool_size = int(cores)
    data = data.batch(BATCH if large else SMALL_BATCH, drop_remainder=True).prefetch(2).with_options(options)
    serve(data.as_numpy_iterator(), len)
