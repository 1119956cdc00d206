"""A JPEG's part that is decoded alone has the whole image's pixels, bit for bit, and the same without the library."""

import io
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from PIL import Image

from parity_tests.datasets import encoded
from parity_tests.photographs import photograph
from train.input import part as module
from train.input.crop import Box, crop_draws, random_resized_box
from train.input.decode import crop_and_resize, decode, decode_at
from train.input.jpeg_header import read_frame
from train.input.part import decode_part, turbojpeg

PHOTOGRAPH = photograph("flower").crop((200, 100, 331, 203))
JPEG = encoded(PHOTOGRAPH, quality=90)
SUBSAMPLINGS = ["444", "422", "420", "440", "411", "Gray"]
needs_library = pytest.mark.skipif(turbojpeg() is None, reason="no libturbojpeg of version 3 here")


def subsampled(subsampling: str, width: int, height: int, quality: int) -> bytes:
    pixels = np.asarray(PHOTOGRAPH.resize((width, height)))
    if subsampling == "Gray":
        return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[..., :1]), quality, "GRAY", "Gray")
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", subsampling)


def part_of(file: bytes, edges: tuple[int, int, int, int], reduced: int = 1) -> np.ndarray | None:
    frame = read_frame(file)
    return None if frame is None else decode_part(file, frame, edges, reduced)


def part_of_the_whole(file: bytes, edges: tuple[int, int, int, int], reduced: int) -> np.ndarray:
    channels = 1 if Image.open(io.BytesIO(file)).mode == "L" else 3
    pixels, found = decode_at(file, channels, reduced)
    assert found == reduced
    top, left, bottom, right = edges
    return pixels[top:bottom, left:right]


@st.composite
def files_and_parts(draw: st.DrawFn) -> tuple[bytes, tuple[int, int, int, int], int]:
    reduced = draw(st.sampled_from([1, 2, 4, 8]))
    least = 1 if reduced == 1 else 8  # of smaller ones simplejpeg may take another scale of the same size
    width, height = draw(st.integers(least, 130)), draw(st.integers(least, 130))
    if draw(st.booleans()):
        file = subsampled(draw(st.sampled_from(SUBSAMPLINGS)), width, height, draw(st.integers(20, 100)))
    else:
        options: dict[str, Any] = dict(optimize=draw(st.booleans()), subsampling=draw(st.sampled_from([0, 1, 2])))
        restarts = draw(st.sampled_from([0, 1, 3]))
        file = encoded(PHOTOGRAPH.resize((width, height)), restart_marker_blocks=restarts, **options)
    top, bottom = _two(draw, -(-height // reduced))
    left, right = _two(draw, -(-width // reduced))
    return file, (top, left, bottom, right), reduced


def _two(draw: st.DrawFn, size: int) -> tuple[int, int]:
    begin = draw(st.integers(0, size - 1))
    return begin, draw(st.integers(begin + 1, size))


@needs_library
@given(files_and_parts())
def test_a_part_is_what_the_whole_image_has_there(case: tuple[bytes, tuple[int, int, int, int], int]):
    file, edges, reduced = case
    found = part_of(file, edges, reduced)
    assert found is not None
    assert found.dtype == np.uint8
    expected = part_of_the_whole(file, edges, reduced)
    assert found.shape == expected.shape
    assert (found == expected).all()


@needs_library
def test_what_lies_below_a_part_is_not_read():
    """Noise there changes nothing, and in what has to be read it is noticed."""
    noise = JPEG[:-1500] + bytes(np.random.default_rng(0).integers(0, 255, 1498, np.uint8)) + JPEG[-2:]
    top, bottom = (0, 0, 40, 131), (60, 0, 103, 131)
    found = part_of(noise, top)
    assert found is not None
    assert (found == part_of_the_whole(JPEG, top, 1)).all()
    assert part_of(noise, bottom) is None


@needs_library
@pytest.mark.parametrize(
    "file",
    [
        pytest.param(JPEG[:-2], id="cut short by its end"),
        pytest.param(JPEG[:1000] + JPEG[-2:], id="cut out"),
        pytest.param(b"\xff\xd8\xff\xd9", id="nothing in it"),
        pytest.param(encoded(PHOTOGRAPH.convert("CMYK")), id="CMYK"),
        pytest.param(encoded(PHOTOGRAPH, progressive=True), id="progressive"),
        pytest.param(JPEG.replace(b"JFIF\0\1", b"JFIF\0\2", 1), id="of another JFIF"),
        pytest.param(b"\xff\xd8" + JPEG[20:158] + b"\xff\xd9" + JPEG, id="tables, and then an image"),
        pytest.param(encoded(PHOTOGRAPH, "PNG") + b"\xff\xd9", id="no JPEG"),
    ],
)
def test_what_is_not_plain_is_left_to_others(file: bytes):
    assert part_of(file, (90, 0, 100, 100)) is None
    assert part_of(JPEG, (90, 0, 100, 100)) is not None  # and the next file is none the worse


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["colour", "grey", "CMYK", "progressive"])
def test_crops_are_the_same_without_the_library(kind: str, channels: int, monkeypatch: pytest.MonkeyPatch):
    picture = PHOTOGRAPH.convert({"grey": "L", "CMYK": "CMYK"}.get(kind, "RGB"))
    file, sizes = encoded(picture, progressive=kind == "progressive"), [(24, 24), (64, 48)]
    boxes = [random_resized_box(103, 131, 0.08, draws) for draws in crop_draws(0, 0, 20)]

    def crops() -> list[np.ndarray]:
        return [crop_and_resize(file, box, size, channels, "bicubic") for box in boxes for size in sizes]

    found = crops()
    monkeypatch.setattr(module, "turbojpeg", lambda: None)
    for a, b in zip(found, crops(), strict=True):
        assert (a == b).all()


@needs_library
@pytest.mark.parametrize("crop", [Box(20, 30, 64, 64), Box(0, 0, 103, 131)])
def test_training_crops_decode_no_more_than_their_part(crop: Box, monkeypatch: pytest.MonkeyPatch):
    """Neither of the decoders that read a whole image is asked."""
    expected = decode(JPEG, 3)[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    monkeypatch.setattr("train.input.decode.decode_at", None)
    assert (crop_and_resize(JPEG, crop, (crop.height, crop.width), 3, "bicubic") == expected).all()


def without_huffman_tables(file: bytes) -> bytes:
    """As frames of Motion JPEG are, which mean the standard's example tables."""
    at, kept = 2, b""
    while file[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4])
        kept += file[at:end] if file[at + 1] != 0xC4 else b""
        at = end
    return file[:2] + kept + file[at:]


@needs_library
def test_no_file_is_decoded_by_the_tables_of_another():
    bare = without_huffman_tables(JPEG)
    expected = part_of_the_whole(JPEG, (10, 10, 90, 90), 1)
    for before in (JPEG, encoded(PHOTOGRAPH, optimize=True, quality=30)):
        assert part_of(before, (0, 0, 50, 50)) is not None
        found = part_of(bare, (10, 10, 90, 90))
        assert found is not None
        assert (found == expected).all()


@needs_library
def test_threads_decode_side_by_side():
    edges = [(top, left, top + 30, left + 40) for top in range(0, 70, 7) for left in range(0, 90, 9)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: part_of(JPEG, part), edges * 5))
    for pixels, part in zip(found, edges * 5, strict=True):
        assert pixels is not None
        assert (pixels == part_of_the_whole(JPEG, part, 1)).all()


def test_the_library_is_there_where_the_tests_requirements_bring_it():
    """So that the tests above are skipped nowhere else."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [Requirement(line) for line in project["optional-dependencies"]["dev"] if line.startswith("turbojpeg")]
    assert len(named) == 1
    assert named[0].marker is not None
    assert turbojpeg() is not None or not named[0].marker.evaluate()
