"""Photographs to preprocess, without a network: scikit-learn's two, and what people make of photographs."""

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

from PIL import Image


def path_of(name: str) -> AbstractContextManager[Path]:
    """The JPEG file of `china` or `flower`."""
    return as_file(files("sklearn.datasets.images").joinpath(f"{name}.jpg"))


def photograph(name: str) -> Image.Image:
    """`china` or `flower`: RGB, 427x640."""
    with path_of(name) as path:
        return Image.open(path).convert("RGB")


def photographs() -> dict[str, Image.Image]:
    """RGB pictures by what they are: landscape, portrait, of odd and of square sizes, smaller than any input."""
    china, flower = photograph("china"), photograph("flower")
    return {
        "landscape": china,
        "portrait": flower.transpose(Image.Transpose.ROTATE_90),
        "odd": flower.crop((3, 5, 344, 262)),
        "panorama": china.crop((0, 200, 639, 300)),
        "square": china.crop((100, 0, 524, 424)),
        "tiny": flower.crop((300, 200, 331, 217)),
    }


def of_other_kinds() -> dict[str, Image.Image]:
    """A photograph in grey, with CMYK inks, with a palette, and with transparency, by Pillow's mode."""
    picture = photograph("flower").crop((200, 100, 401, 260))
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    palette = picture.quantize(64)
    see_through = palette.copy()
    see_through.info["transparency"] = 7  # the colour with this number
    return {
        "L": picture.convert("L"),
        "CMYK": picture.convert("CMYK"),
        "P": palette,
        "P transparent": see_through,
        "LA": clear.convert("LA"),
        "RGBA": clear,
    }
