"""python -m parity_tests.golden.tf_image_resize: makes the pictures that TensorFlow resized again

It needs tensorflow. What vit_jax and big_vision do with a picture is written out below in their own order
(google-research/vision_transformer vit_jax/input_pipeline.py; google-research/big_vision pp/ops_image.py,
ops_general.py), around the real tf.image.resize.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from parity_tests.photographs import path_of

FILE = Path(__file__).parent / "tensorflow" / "image_resize.npz"
BOX, SMALLER, LARGER = (200, 100, 240, 132), (14, 18), (34, 48)


def main() -> None:
    tf = importlib.import_module("tensorflow")
    with path_of("china") as path:
        whole = np.asarray(Image.open(path))
        print("levels between TensorFlow's decoders and Pillow's: largest, mean")
        for method in ("", "INTEGER_FAST", "INTEGER_ACCURATE"):
            apart = np.abs(tf.io.decode_jpeg(path.read_bytes(), dct_method=method).numpy().astype(int) - whole)
            print(f"  {method or 'default'}: {apart.max()}, {apart.mean():.2f}")
    left, top, right, bottom = BOX
    picture = whole[top:bottom, left:right]
    arrays = {
        "picture": picture,
        "smaller": tf.image.resize(picture, SMALLER).numpy(),
        "larger": tf.image.resize(picture, LARGER).numpy(),
        "smaller_antialias": tf.image.resize(picture, SMALLER, antialias=True).numpy(),
        "smaller_antialias_bicubic": tf.image.resize(picture, SMALLER, method="bicubic", antialias=True).numpy(),
        "vit_jax": vit_jax(tf, picture, SMALLER),
        "big_vision": big_vision(tf, picture, SMALLER),
        "tensorflow": np.array(tf.__version__),
    }
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **arrays)


def vit_jax(tf: Any, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return ((tf.image.resize(picture, size) - 127.5) / 127.5).numpy()


def big_vision(tf: Any, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """resize(size)|value_range(-1, 1)"""
    resized = tf.image.resize(picture, size, method="bilinear", antialias=False)
    image = tf.cast(tf.cast(tf.clip_by_value(resized, 0, 255), tf.uint8), tf.float32)
    return (-1 + image / 255 * 2).numpy()


if __name__ == "__main__":
    main()
