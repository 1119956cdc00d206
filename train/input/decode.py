"""Encoded images to pixels of one size, with calls that release Python's lock, so that threads decode side by side."""

import io
from math import ceil

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from train.input.crop import Box

cv2.setNumThreads(0)  # batches are decoded in threads of our own
ENLARGE = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
PNG = b"\x89PNG\r\n\x1a\n"
COLOURS = {1: "GRAY", 3: "RGB"}


class CorruptImage(ValueError):
    """An image that can't be decoded; the message says why."""


def image_size(image: bytes | np.ndarray) -> tuple[int, int]:
    """(height, width), from the header alone.

    Raises:
        CorruptImage: not an image.
    """
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    try:
        if is_jpeg(image):
            height, width, *_ = simplejpeg.decode_jpeg_header(image)
            return int(height), int(width)
        with Image.open(io.BytesIO(image)) as opened:
            return opened.height, opened.width
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptImage(str(error)) from error


def decode(image: bytes | np.ndarray, channels: int, at_least: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Pixels (H, W, channels) uint8; a JPEG at the smallest of its reduced scales that is still at_least (height,
    width), since a quarter of the pixels takes half of the time.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    if isinstance(image, np.ndarray):
        return with_channels(image, channels)
    try:
        if is_jpeg(image) and channels in COLOURS and simplejpeg.decode_jpeg_header(image)[2] != "CMYK":
            return simplejpeg.decode_jpeg(image, COLOURS[channels], min_height=at_least[0], min_width=at_least[1])
        pixels = decode_png(image, channels) if image.startswith(PNG) else None
        return decode_whole(image, channels) if pixels is None else pixels
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptImage(str(error)) from error


def decode_png(image: bytes, channels: int) -> np.ndarray | None:
    """By OpenCV, several times faster at small ones; None where it isn't the plain case: other channels, 16 bits."""
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8 or channels == 4:
        return None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.shape[2] == channels else None


def decode_whole(image: bytes, channels: int) -> np.ndarray:
    """By Pillow, which reads every format."""
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.array(opened.convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Grey pixels as colour ones, where the model wants those."""
    return image if image.shape[2] == channels else np.repeat(image, channels, axis=2)


def is_jpeg(image: bytes) -> bool:
    return image[:2] == b"\xff\xd8"


def crop_and_resize(
    image: bytes | np.ndarray, box: Box, size: tuple[int, int], channels: int, interpolation: str
) -> np.ndarray:
    """The box of an image, at size (height, width): (height, width, channels) uint8.

    What shrinks is averaged over areas, which leaves no aliases; what grows is interpolated.

    Raises:
        CorruptImage: not an image, or one that is cut short.
    """
    height, width = image_size(image)
    scale = min(1.0, max(size[0] / box.height, size[1] / box.width))
    pixels = decode(image, channels, (ceil(height * scale), ceil(width * scale)))
    return resize(cut(pixels, box, (height, width)), size, interpolation)


def cut(pixels: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The box, which is in pixels of an image of `size`, of that image at a reduced scale."""
    rows, columns = pixels.shape[0] / size[0], pixels.shape[1] / size[1]
    top, left = round(box.top * rows), round(box.left * columns)
    bottom, right = round((box.top + box.height) * rows), round((box.left + box.width) * columns)
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


def resize(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """(H, W, C) uint8 -> (height, width, C) uint8."""
    if pixels.shape[:2] == size:
        return np.ascontiguousarray(pixels)
    shrinks = pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]
    resized = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA if shrinks else ENLARGE[interpolation])
    return resized.reshape(*size, pixels.shape[2])
