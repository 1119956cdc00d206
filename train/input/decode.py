"""Encoded images to pixels of one size, with calls that release Python's lock, so that threads decode side by side."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import TypeGuard
from zlib import crc32

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from train.input.crop import Box
from train.input.jpeg_header import Frame, is_possible, read_frame
from train.input.part import decode_part
from vit_convert.image_file import UNREADABLE, to_8_bits, why_unreadable

cv2.setNumThreads(0)  # batches are decoded in threads of our own
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is damaged is said with its name
INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
PNG = b"\x89PNG\r\n\x1a\n"
REDUCED = (8, 4, 2)  # the other scales of libjpeg-turbo take longer than decoding all: they have no SIMD code
# those that convert to all of ours, and whose alpha and range are the preprocessing's to deal with
PLAIN = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK")


class CorruptImage(ValueError):
    """An image that can't be decoded; the message says why."""


def image_size(image: bytes | np.ndarray) -> tuple[int, int]:
    """(height, width), from the header alone.

    Raises:
        CorruptImage: not an image.
    """
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    size = _jpeg_size(image) if is_jpeg(image) else _png_size(image)
    if size is not None:
        return size
    with _by_pillow(), Image.open(io.BytesIO(image)) as opened:
        return opened.height, opened.width


def _jpeg_size(image: bytes) -> tuple[int, int] | None:
    frame = read_frame(image)
    return (frame.height, frame.width) if frame is not None and frame.is_plain else None


def _png_size(image: bytes) -> tuple[int, int] | None:
    """By hand: Pillow takes longer to open a small PNG than to decode it. None where the header is damaged."""
    header = image[12:29]
    if not (image.startswith(PNG) and header.startswith(b"IHDR")) or image[29:33] != crc32(header).to_bytes(4):
        return None
    width, height = struct.unpack(">II", header[4:12])
    return (height, width) if is_possible(height, width) else None


def decode(image: bytes | np.ndarray, channels: int) -> np.ndarray:
    """Pixels (H, W, channels) uint8.

    The same pixels as Pillow's, which no library turns by their EXIF orientation.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    return decode_at(image, channels, 1)[0]


def decode_at(image: bytes | np.ndarray, channels: int, wanted: int) -> tuple[np.ndarray, int]:
    """Pixels as of `decode`, and at which part of its size they are: a plain JPEG at the `wanted` (1, 2, 4 or 8) one,
    sides rounded up; what only Pillow reads whole, at 1.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    if isinstance(image, np.ndarray):
        return with_channels(image, channels), 1
    if is_jpeg(image):
        pixels = decode_jpeg(image, channels, wanted)
        return (decode_whole(image, channels), 1) if pixels is None else (pixels, wanted)
    pixels = decode_png(image, channels)
    return decode_whole(image, channels) if pixels is None else pixels, 1


def decode_jpeg(image: bytes, channels: int, reduced: int = 1) -> np.ndarray | None:
    """By libjpeg-turbo; None where it isn't the plain case (CMYK, a grey picture of a colour one) or it finds fault,
    which Pillow may forgive."""
    frame = read_frame(image)
    if frame is None or not _fits(frame, channels):
        return None
    least = ceil(frame.height / reduced), ceil(frame.width / reduced)
    colours = "GRAY" if frame.components == 1 else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(image, colours, min_height=least[0], min_width=least[1])
    except (ValueError, KeyError):  # a fault, or a subsampling that simplejpeg has no name for
        return None
    return with_channels(pixels, channels)


def _fits(frame: Frame, channels: int) -> bool:
    """Whether libjpeg-turbo gives these channels, or the grey that becomes them."""
    return frame.is_plain and channels in (1, 3) and frame.components <= channels


def decode_png(image: bytes, channels: int) -> np.ndarray | None:
    """By OpenCV, several times faster at small ones; None where it isn't the plain case: other channels, 16 bits, a
    colour profile, about which libpng talks to the terminal, more pixels than Pillow reads, or not a whole PNG."""
    if _png_size(image) is None or channels == 4 or b"iCCP" in image[:256]:
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.shape[2] == channels else None


def decode_whole(image: bytes, channels: int) -> np.ndarray:
    """By Pillow, which reads every format.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    with _by_pillow():
        pixels = np.array(as_picture(image, channels).convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def as_picture(image: bytes | np.ndarray, channels: int) -> Image.Image:
    """A picture of Pillow's, decoded; 16 bits a channel made 8, which Pillow's convert would clip.

    Raises:
        CorruptImage: not an image, one that is cut short, or one of colours that Pillow doesn't convert (LAB to grey).
    """
    if isinstance(image, np.ndarray):
        pixels = with_channels(image, channels)
        return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    with _by_pillow(), Image.open(io.BytesIO(image)) as opened:
        opened.load()
        picture = to_8_bits(opened, opened.format)
        return picture if picture.mode in PLAIN else picture.convert(MODES[channels])


@contextmanager
def _by_pillow() -> Iterator[None]:
    """
    Raises:
        CorruptImage: Pillow can't read an image.
    """
    try:
        yield
    except CorruptImage:
        raise
    except UNREADABLE as error:
        raise CorruptImage(why_unreadable(error)) from error


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey pixels as colour ones, where the model wants those."""
    return image if image.shape[2] == channels else np.repeat(image, channels, axis=2)


def is_jpeg(image: bytes | np.ndarray) -> TypeGuard[bytes]:
    return isinstance(image, bytes) and image[:2] == b"\xff\xd8"


def whole(image: bytes | np.ndarray, size: tuple[int, int], channels: int, interpolation: str) -> np.ndarray:
    """All of an image, at size (height, width): (height, width, channels) uint8.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    pixels, _ = decode_at(image, channels, reduction(image_size(image), size))
    return resize(pixels, size, interpolation)


def crop_and_resize(
    image: bytes | np.ndarray, box: Box, size: tuple[int, int], channels: int, interpolation: str
) -> np.ndarray:
    """The box of an image, at size (height, width): (height, width, channels) uint8. A JPEG is decoded at the smallest
    of its reduced scales at which the box is no smaller than that.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    pixels = decode_box(image, box, channels, reduction((box.height, box.width), size))
    return resize(pixels, size, interpolation)


def decode_box(image: bytes | np.ndarray, box: Box, channels: int, wanted: int) -> np.ndarray:
    """The pixels of a box, at the part of their size that `decode_at` gives: (height, width, channels) uint8. Where
    `decode_part` can, nothing else of a JPEG is decoded.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    if is_jpeg(image) and (frame := read_frame(image)) is not None and _fits(frame, channels):
        part = decode_part(image, frame, edges(box, wanted), wanted)
        if part is not None:
            return with_channels(part, channels)
    pixels, reduced = decode_at(image, channels, wanted)
    top, left, bottom, right = edges(box, reduced)
    return pixels[top:bottom, left:right]


def reduction(old: tuple[int, int], new: tuple[int, int]) -> int:
    """How many times smaller an image may be decoded, of which a part of size `old` becomes `new`."""
    return next((n for n in REDUCED if old[0] >= n * new[0] and old[1] >= n * new[1]), 1)


def edges(box: Box, reduced: int) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the box, in pixels of the image, in its `reduced`th: rounded to whole pixels of
    that, at most half of one away, and half of one of what becomes of it."""
    top, left, bottom, right = (
        round(edge / reduced) for edge in (box.top, box.left, box.top + box.height, box.left + box.width)
    )
    return top, left, bottom, right


def resize(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """(H, W, C) uint8 -> (height, width, C) uint8, without aliases.

    As Pillow does it, but faster (parity_tests/test_input_decode.py has the distance): what shrinks to less than half
    is averaged over areas down to twice its size; the rest is softened as much as it still shrinks, and interpolated.
    """
    channels, at_most = pixels.shape[2], [2 * new for new in size]
    if pixels.shape[:2] == size:
        return np.ascontiguousarray(pixels)
    if pixels.shape[0] > at_most[0] or pixels.shape[1] > at_most[1]:
        halfway = tuple(2 * new if old > 2 * new else old for old, new in zip(pixels.shape, size, strict=False))
        pixels = cv2.resize(pixels, halfway[::-1], interpolation=cv2.INTER_AREA)
    rows, columns = (softener(old / new, interpolation) for old, new in zip(pixels.shape, size, strict=False))
    if len(rows) + len(columns) > 2:
        pixels = cv2.sepFilter2D(pixels, -1, columns, rows, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(pixels, size[::-1], interpolation=INTERPOLATION[interpolation]).reshape(*size, channels)


def softener(ratio: float, interpolation: str) -> np.ndarray:
    """Weights of a pixel and its neighbours, before it is interpolated at a ratio of 1 to 2 times smaller.

    Bilinear: what makes the variance of the two together that of the triangle that Pillow stretches, ratio^2 / 6.
    Bicubic, whose kernel has none: fitted to Pillow's on photographs.
    """
    if ratio <= 1:
        return np.ones(1, np.float32)
    beside = (ratio**2 - 1) / 12 if interpolation == "bilinear" else 0.19 * (ratio - 1)
    return np.array([beside, 1 - 2 * beside, beside], np.float32)
