"""What an image's header claims: sizes as Pillow reads them, and what lies or is rare never reaches a fast decoder."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from parity_tests.datasets import encoded
from parity_tests.photographs import photograph
from train.input.crop import crop_draws, random_resized_box
from train.input.decode import CorruptImage, crop_and_resize, decode, image_size
from train.input.jpeg_header import read_frame
from train.input.load import simple_crop

PHOTOGRAPH = photograph("flower").crop((200, 100, 331, 203))
JPEG, PNG = encoded(PHOTOGRAPH), encoded(PHOTOGRAPH, "PNG")
LIMIT = 2 * 89_478_485  # Pillow's own, of pixels


def cropped(file: bytes) -> np.ndarray:
    """As training crops it."""
    draws = crop_draws(0, 0, 1)[0]
    box = random_resized_box(*image_size(file), 0.08, draws)
    return crop_and_resize(file, box, (24, 24), 3, "bicubic")


def png_of(width: int, height: int, crc: int = 0) -> bytes:
    """The photograph's PNG, of which the header claims this size."""
    header = b"IHDR" + struct.pack(">II", width, height) + PNG[24:29]
    return PNG[:12] + header + (zlib.crc32(header) ^ crc).to_bytes(4) + PNG[33:]


def jpeg_of(height: int, width: int) -> bytes:
    at = JPEG.index(b"\xff\xc0")
    return JPEG[: at + 5] + struct.pack(">HH", height, width) + JPEG[at + 9 :]


def with_frame(marker: int, bits: int = 8) -> bytes:
    """The same file as of another process, or so many bits a sample."""
    at = JPEG.index(b"\xff\xc0")
    return JPEG[:at] + bytes([0xFF, marker]) + JPEG[at + 2 : at + 4] + bytes([bits]) + JPEG[at + 5 :]


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "with EXIF and a profile"])
def test_a_frame_is_what_pillow_reads(kind: str):
    picture = PHOTOGRAPH.convert("L") if kind == "grey" else PHOTOGRAPH
    exif = Image.Exif()
    exif[0x0112] = 6
    more: dict[str, Any] = (
        dict(exif=exif, icc_profile=bytes(70_000), comment=b"\xff\xc0" * 9) if kind.startswith("with") else {}
    )
    frame = read_frame(encoded(picture, progressive=kind == "progressive", **more))
    assert frame is not None
    assert frame.is_plain
    assert (frame.height, frame.width, frame.components) == (103, 131, 1 if kind == "grey" else 3)


@pytest.mark.parametrize("at", range(0, 700, 7))
def test_a_header_that_is_cut_is_none(at: int):
    before = JPEG.index(b"\xff\xc0") + 10
    assert (read_frame(JPEG[:at]) is None) == (at < before)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(png_of(0, 0), id="png, 0 x 0"),
        pytest.param(png_of(40, 0), id="png, 40 x 0"),
        pytest.param(PNG[:16] + bytes(8), id="png, zeros and no more"),
        pytest.param(png_of(20_000, 20_000), id="png, larger than Pillow takes"),
        pytest.param(png_of(131, 103, crc=1), id="png, wrong checksum"),
        pytest.param(jpeg_of(0, 131), id="jpeg, 0 x 131"),
        pytest.param(jpeg_of(65_500, 65_500), id="jpeg, larger than Pillow takes"),
    ],
)
@pytest.mark.parametrize("crop", [cropped, lambda file: simple_crop(file, (24, 24), 3, "bicubic", np.full(4, 0.5))])
def test_a_size_that_cannot_be_is_a_corrupt_image(
    file: bytes, crop: Callable[[bytes], np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    """Found before a decoder takes the memory for it."""
    for decoder in ("cv2.imdecode", "simplejpeg.decode_jpeg", "decode_part"):
        monkeypatch.setattr(f"train.input.decode.{decoder}", None)
    with pytest.raises(CorruptImage):
        crop(file)


@pytest.mark.parametrize(
    "file",
    [
        *[pytest.param(with_frame(marker), id=f"SOF{marker - 0xC0}") for marker in (0xC3, 0xC5, 0xC9, 0xCA, 0xCB)],
        pytest.param(with_frame(0xC1, bits=12), id="12 bits"),
        pytest.param(encoded(PHOTOGRAPH.convert("CMYK")), id="CMYK"),
        pytest.param(JPEG[:2] + b"\0\0" + JPEG[2:], id="something between its segments"),
    ],
)
def test_what_is_no_plain_jpeg_is_left_to_pillow(file: bytes, monkeypatch: pytest.MonkeyPatch):
    """Lossless ones make libjpeg-turbo before 3.1.4 write past a buffer, when it decodes them at a reduced scale."""
    calls = []
    for decoder in ("simplejpeg.decode_jpeg", "decode_part"):
        monkeypatch.setattr(f"train.input.decode.{decoder}", lambda *args, **rest: calls.append(args))
    try:
        found = cropped(file)
    except CorruptImage:
        pass
    else:
        assert found.shape == (24, 24, 3)
    assert calls == []


def test_a_subsampling_without_a_name_is_read():
    """4:4:1, which simplejpeg has no name for."""
    turbojpeg = pytest.importorskip("turbojpeg")
    pixels = np.asarray(PHOTOGRAPH)
    file = turbojpeg.compress(np.ascontiguousarray(pixels), 90, turbojpeg.SAMP.Y441)
    assert decode(file, 3).shape == pixels.shape
    assert cropped(file).shape == (24, 24, 3)
