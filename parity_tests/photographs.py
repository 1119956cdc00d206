"""Photographs to preprocess, without a network: scikit-learn's two, and what people make of photographs."""

from importlib.resources import files

from PIL import Image


def photograph(name: str) -> Image.Image:
    """`china` or `flower`: RGB, 427x640."""
    with files("sklearn.datasets.images").joinpath(f"{name}.jpg").open("rb") as file:
        return Image.open(file).convert("RGB")


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
