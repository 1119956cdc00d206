"""Images of every kind have Pillow's pixels; what is resized or decoded at a reduced scale stays near to them."""

import io
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from parity_tests.datasets import encoded
from parity_tests.photographs import of_other_kinds, photograph
from train.input.crop import Box, crop_draws, random_resized_box
from train.input.decode import CorruptImage, crop_and_resize, decode, decode_at, image_size, reduction, resize
from train.input.load import evaluated, simple_crop
from train.input.sources import Example
from vit_convert.preprocess import Preprocess

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
PHOTOGRAPH = photograph("china").crop((50, 20, 251, 170))
GREY_16 = (np.asarray(PHOTOGRAPH.convert("L"), np.uint16) << 8) + 77
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def turned() -> bytes:
    """A JPEG that says it lies on its side (EXIF orientation 6)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(PHOTOGRAPH, exif=exif)


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(PHOTOGRAPH, quality=90),
    "jpeg, 4:4:4": lambda: encoded(PHOTOGRAPH, subsampling=0),
    "jpeg, progressive": lambda: encoded(PHOTOGRAPH, progressive=True),
    "jpeg, grey": lambda: encoded(PHOTOGRAPH.convert("L")),
    "jpeg, CMYK": lambda: encoded(of_other_kinds()["CMYK"]),
    "jpeg, turned": turned,
    "jpeg, something after its end": lambda: encoded(PHOTOGRAPH) + b"junk",
    "jpeg, something before its end": lambda: encoded(PHOTOGRAPH)[:-2] + b"\0\0\0\xff\xd9",
    "jpeg, 1 x 1": lambda: encoded(PHOTOGRAPH.crop((0, 0, 1, 1))),
    "jpeg, 3 x 2": lambda: encoded(PHOTOGRAPH.crop((0, 0, 3, 2))),
    "png": lambda: encoded(PHOTOGRAPH, "PNG"),
    "png, grey": lambda: encoded(PHOTOGRAPH.convert("L"), "PNG"),
    "png, grey, 16 bits": lambda: encoded(Image.fromarray(GREY_16), "PNG"),
    "png, palette": lambda: encoded(of_other_kinds()["P"], "PNG"),
    "png, one transparent colour": lambda: encoded(of_other_kinds()["P transparent"], "PNG", transparency=7),
    "png, alpha": lambda: encoded(of_other_kinds()["RGBA"], "PNG"),
    "png, grey and alpha": lambda: encoded(of_other_kinds()["LA"], "PNG"),
    "png, black and white": lambda: encoded(PHOTOGRAPH.convert("1"), "PNG"),
    "tiff, 16 bits": lambda: encoded(Image.fromarray(GREY_16), "TIFF"),
    "webp": lambda: encoded(PHOTOGRAPH, "WEBP"),
    "gif": lambda: encoded(of_other_kinds()["P"], "GIF"),
    "bmp": lambda: encoded(PHOTOGRAPH, "BMP"),
}


def by_pillow(file: bytes, channels: int) -> np.ndarray:
    """What Pillow reads, 16 bits as the nearest of 8."""
    with Image.open(io.BytesIO(file)) as opened:
        picture = opened
        if opened.mode.startswith("I;16"):
            picture = Image.fromarray(np.round(np.asarray(opened, np.float64) / 257).astype(np.uint8))
        pixels = np.asarray(picture.convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


@pytest.mark.parametrize("channels", MODES)
@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file_has_pillows_pixels(kind: str, channels: int):
    file = FILES[kind]()
    expected = by_pillow(file, channels)
    found = decode(file, channels)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert (found == expected).all()
    assert image_size(file) == expected.shape[:2]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FILES)
def test_training_and_evaluation_see_the_same_pixels(kind: str, channels: int):
    """Where nothing is resized; resizing is Pillow's own in evaluation, and near to it in training."""
    example = Example(FILES[kind](), 0, "")
    size = image_size(example.image)
    preprocess = Preprocess(resize=size, crop=size, mode="squash", mean=(0.5,) * channels, std=(0.5,) * channels)
    assert (evaluated(preprocess)(example, 0) == decode(example.image, channels)).all()


def promising_png(width: int, height: int) -> bytes:
    """A small file whose header names this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    written = (struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(lambda: b"", id="empty"),
        pytest.param(lambda: b"<html>404</html>", id="html"),
        pytest.param(lambda: encoded(PHOTOGRAPH)[:3000], id="half a jpeg"),
        pytest.param(lambda: encoded(PHOTOGRAPH)[:-2], id="jpeg without its end"),
        pytest.param(lambda: b"\xff\xd8\xff", id="a jpeg's first bytes"),
        pytest.param(lambda: encoded(PHOTOGRAPH, "PNG")[:-400], id="cut png"),
        pytest.param(lambda: encoded(PHOTOGRAPH, "WEBP")[:500], id="cut webp"),
        pytest.param(lambda: promising_png(2**17, 2**17), id="a png that promises 17 billion pixels"),
    ],
)
def test_what_is_no_whole_image_is_said_to_be_corrupt(file: Callable[[], bytes]):
    example = Example(file(), 0, "")
    preprocess = Preprocess(resize=(8, 8), crop=(8, 8))
    with pytest.raises(CorruptImage):
        decode(example.image, 3)
    with pytest.raises(CorruptImage):
        evaluated(preprocess)(example, 0)


DECODED = """
import sys

from train.input.decode import CorruptImage, decode

try:
    decode(sys.stdin.buffer.read(), 3)
except CorruptImage:
    print("corrupt")
"""


def test_of_a_png_that_is_cut_short_opencv_says_nothing_on_the_terminal():
    """It would in the middle of the progress, and names no image; vit-train's own message does."""
    plain = Image.fromarray(np.asarray(PHOTOGRAPH))  # no colour profile: Pillow reads those
    done = subprocess.run(
        [sys.executable, "-c", DECODED], input=encoded(plain, "PNG")[:-400], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"corrupt\n", b"")


def test_a_box_of_the_models_size_is_cut_out_as_it_is():
    box = Box(17, 31, 64, 48)
    expected = by_pillow(FILES["jpeg"](), 3)[17:81, 31:79]
    assert (crop_and_resize(FILES["jpeg"](), box, (64, 48), 3, "bicubic") == expected).all()


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("name", ["china", "flower"])
def test_resizing_is_as_near_to_pillow_as_its_filters_are_to_each_other(name: str, interpolation: str):
    """Random crops to 224, 96 and 24 pixels: the distance in levels, root mean square."""
    picture = photograph(name)
    pixels = np.asarray(picture)
    ours, others = [], []
    for draws in crop_draws(0, 0, 40):
        box = random_resized_box(pixels.shape[0], pixels.shape[1], 0.08, draws)
        part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        for size in (224, 96, 24):
            by = {n: np.asarray(Image.fromarray(part).resize((size, size), r)) for n, r in RESAMPLING.items()}
            ours.append(rms(resize(part, (size, size), interpolation), by[interpolation]))
            others.append(rms(by["bicubic"], by["bilinear"]))
    assert np.mean(ours) < np.mean(others)


@pytest.mark.parametrize("name", ["china", "flower"])
def test_a_reduced_scale_stays_near_to_the_whole_image(name: str):
    """Random crops of a JPEG that is decoded at 1/2, 1/4 or 1/8, and Pillow's of the whole one: at most 1.5 times as
    far as Pillow's two filters are from each other; in the worst case, where edges are cut else, 10 levels."""
    file = encoded(photograph(name), quality=90)
    whole, used, ours, others = by_pillow(file, 3), set(), [], []
    for draws in crop_draws(0, 0, 60):
        box = random_resized_box(whole.shape[0], whole.shape[1], 0.08, draws)
        for size in (96, 48, 24):
            n = reduction((box.height, box.width), (size, size))
            edges = box.top, box.left, box.top + box.height, box.left + box.width
            top, left, bottom, right = (n * round(edge / n) for edge in edges)
            part = Image.fromarray(whole[top:bottom, left:right])
            by = {n: np.asarray(part.resize((size, size), r)) for n, r in RESAMPLING.items()}
            if n > 1:
                used.add(n)
                ours.append(rms(crop_and_resize(file, box, (size, size), 3, "bicubic"), by["bicubic"]))
                others.append(rms(by["bicubic"], by["bilinear"]))
    assert used == {2, 4, 8}
    assert np.mean(ours) < 1.5 * np.mean(others)
    assert max(ours) < 10


def test_reduced_scales_never_give_less_than_the_model_sees():
    assert reduction((447, 900), (224, 224)) == 1
    assert reduction((448, 448), (224, 224)) == 2
    assert reduction((4000, 3000), (224, 224)) == 8
    pixels, reduced = decode_at(FILES["jpeg"](), 3, 4)
    assert (pixels.shape, reduced) == ((38, 51, 3), 4)  # 150 x 201, rounded up


@pytest.mark.parametrize("kind", [kind for kind in FILES if not kind.endswith(("x 1", "x 2"))])
def test_a_crop_shows_its_part_of_the_image_whatever_the_kind(kind: str):
    """Also where the box is several times as large as the model's input, and only Pillow, which has no reduced scales
    here, reads the file: at most 12 levels from Pillow's crop; another part of these pictures is 60 to 140 away."""
    file, size = FILES[kind](), (20, 24)
    for box in (Box(0, 0, 80, 96), Box(64, 104, 80, 96)):
        part = Image.fromarray(by_pillow(file, 3)[box.top : box.top + box.height, box.left : box.left + box.width])
        expected = np.asarray(part.resize((24, 20), RESAMPLING["bicubic"]))
        assert rms(crop_and_resize(file, box, size, 3, "bicubic"), expected) < 12


def test_simple_crop_is_deit3s():
    """Of an image that has the model's shorter side already, torchvision's RandomCrop on the same draws, exactly."""
    file = FILES["png"]()
    for draws in crop_draws(0, 0, 20)[:, 0]:
        found = simple_crop(file, (150, 150), 3, "bicubic", draws)
        padded = functional.pad(torch.tensor(by_pillow(file, 3)).permute(2, 0, 1), [4], padding_mode="reflect")
        top, left = int(draws[2] * (158 - 150 + 1)), int(draws[3] * (209 - 150 + 1))
        expected = functional.crop(padded, top, left, 150, 150).permute(1, 2, 0).numpy()
        assert (found == expected).all()


@pytest.mark.parametrize("size", [(24, 24), (224, 224), (24, 32)])
@pytest.mark.parametrize("kind", ["jpeg", "png, grey", "jpeg, 1 x 1", "jpeg, 3 x 2"])
def test_every_crop_has_the_models_size(kind: str, size: tuple[int, int]):
    file = FILES[kind]()
    for draws in crop_draws(0, 0, 5):
        box = random_resized_box(*image_size(file), 0.08, draws)
        found = crop_and_resize(file, box, size, 3, "bicubic"), simple_crop(file, size, 3, "bilinear", draws[0])
        assert all(pixels.shape == (*size, 3) and pixels.dtype == np.uint8 for pixels in found)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decoding_lets_other_threads_run(kind: str):
    """A thread that counts goes on counting inside of one call that decodes a large image."""
    pixels = np.asarray(photograph("china"))
    file = encoded(
        Image.fromarray(np.tile(pixels, (6, 5, 1))), kind, **({"compress_level": 1} if kind == "PNG" else {})
    )
    counted, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            counted[0] += 1

    other = threading.Thread(target=count)
    other.start()
    try:
        progress = []
        for _ in range(3):
            before = counted[0]
            decode(file, 3)
            progress.append(counted[0] - before)
    finally:
        done.set()
        other.join()
    assert max(progress) > 2000
