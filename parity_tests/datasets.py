"""Small datasets that the tests write: image folders, and a TFDS dataset as ArrayRecord, without TensorFlow."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from parity_tests.photographs import photograph
from train.config import DataConfig, TrainConfig
from vit_convert.config import ViTConfig

Encoded = tuple[bytes, int]  # an image file, and its label
FEATURES = "tensorflow_datasets.core.features"


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The file of a picture."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def picture(number: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    """A part of a photograph, (width, height), another one for every number."""
    left, top = 37 * number % (640 - size[0]), 23 * number % (427 - size[1])
    return photograph("flower" if number % 2 else "china").crop((left, top, left + size[0], top + size[1]))


def jpegs(count: int, classes: int = 2) -> list[Encoded]:
    """JPEG files of several sizes, with labels in turn."""
    return [(encoded(picture(i, (40 + i % 7, 50 - i % 5)), quality=90), i % classes) for i in range(count)]


def pngs(count: int, classes: int = 2) -> list[Encoded]:
    """Grey PNG files of 16 x 16, with labels in turn."""
    return [(encoded(picture(i, (16, 16)).convert("L"), "PNG"), i % classes) for i in range(count)]


def write_folder(split: Path, examples: Sequence[Encoded], suffix: str = "jpg") -> None:
    """SPLIT/class0/0000.jpg and so on."""
    for number, (image, label) in enumerate(examples):
        folder = split / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04}.{suffix}").write_bytes(image)


def write_tfds(
    data_dir: Path,
    splits: Mapping[str, Sequence[Encoded]],
    shape: tuple[int | None, int | None, int] = (None, None, 3),
    file_format: str = "array_record",
) -> None:
    """The dataset `written` 1.0.0, with the classes cat and dog, as TFDS 4.9 writes it; two shards a split."""
    folder = data_dir / "written" / "1.0.0"
    folder.mkdir(parents=True)
    infos = [_write_split(folder, name, examples, file_format) for name, examples in splits.items()]
    info = {"name": "written", "version": "1.0.0", "fileFormat": file_format, "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "features.json").write_text(json.dumps(_features(shape)))
    (folder / "label.labels.txt").write_text("cat\ndog\n")


def _write_split(folder: Path, name: str, examples: Sequence[Encoded], file_format: str) -> dict[str, Any]:
    from array_record.python.array_record_module import ArrayRecordWriter

    half = len(examples) // 2
    for shard, part in enumerate((examples[:half], examples[half:])):
        writer = ArrayRecordWriter(str(folder / f"written-{name}.{file_format}-0000{shard}-of-00002"), "group_size:1")
        for image, label in part:
            writer.write(_record(image, label))
        writer.close()
    lengths = [str(half), str(len(examples) - half)]
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    return {"name": name, "shardLengths": lengths, "numBytes": "1000", "filepathTemplate": template}


def _record(image: bytes, label: int) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
    example.features.feature["image"].bytes_list.value.append(image)
    example.features.feature["label"].int64_list.value.append(label)
    return example.SerializeToString()


def _features(shape: tuple[int | None, int | None, int]) -> dict[str, Any]:
    dimensions = [str(-1 if n is None else n) for n in shape]
    image = {"shape": {"dimensions": dimensions}, "dtype": "uint8", "encodingFormat": "png" if shape[0] else "jpeg"}
    label = {"numClasses": "2"}
    features = {
        "image": {"pythonClassName": f"{FEATURES}.image_feature.Image", "image": image},
        "label": {"pythonClassName": f"{FEATURES}.class_label_feature.ClassLabel", "classLabel": label},
    }
    return {
        "pythonClassName": f"{FEATURES}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def tiny_config(
    name: str,
    *,
    size: int = 16,
    channels: int = 3,
    classes: int = 2,
    batch_size: int = 8,
    seed: int = 0,
    **options: Any,
) -> TrainConfig:
    """A run over a dataset; options are DataConfig's."""
    small: dict[str, Any] = dict(patch_size=8, dim=16, depth=1, num_heads=2, mlp_dim=16)
    model = ViTConfig(image_size=size, in_channels=channels, num_classes=classes, **small)
    return TrainConfig(model=model, data=DataConfig(name=name, **options), batch_size=batch_size, seed=seed)
