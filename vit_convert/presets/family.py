"""Families of named configs: one entry for all sizes that share everything but their geometry."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.hub import num_parameters

# Size -> dim, depth, num_heads, mlp_dim
SIZES = {
    "xsmall": (256, 10, 4, 1024),
    "wee": (256, 14, 4, 1280),
    "little": (320, 14, 5, 1792),
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "medium": (512, 12, 8, 2048),
    "mediumd": (512, 20, 8, 2048),
    "betwixt": (640, 12, 10, 2560),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "giant": (1408, 40, 16, 6144),
    "gigantic": (1664, 48, 16, 8192),
    "so150m": (896, 18, 14, 2304),
    "so150m2": (832, 21, 13, 2176),
    "so400m": (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, 6144),
    "small_plus": (384, 12, 6, 1536),
    "huge_plus": (1280, 32, 20, 5120),
    "7b": (4096, 40, 32, 8192),
}


@dataclass(frozen=True)
class Family:
    """What all sizes of a family share. `{size}`, its `{letter}`, `{patch}` and `{image}` fill the name."""

    name: str
    source: str
    fields: Mapping[str, Any]
    variants: str  # SIZE/PATCH IMAGE..., one after the other: "base/16 224 384, large/14 224"
    origin: str = "timm"  # whose name and function it is


@dataclass(frozen=True)
class Preset:
    """A config with a name."""

    config: ViTConfig
    source: str
    origin: str = "timm"

    @property
    def parameters(self) -> int:
        return num_parameters(self.config)


def presets(families: Iterable[Family]) -> dict[str, Preset]:
    """Name -> preset, of every variant of the families.

    Raises:
        ValueError: two variants of one name.
    """
    found: dict[str, Preset] = {}
    for family in families:
        for size, patch, image in _variants(family.variants):
            name = family.name.format(size=size, letter=size[0], patch=patch, image=image)
            if name in found:
                raise ValueError(f"two presets are named {name}")
            found[name] = Preset(_config(family, size, patch, image), family.source, family.origin)
    return found


def _variants(text: str) -> Iterator[tuple[str, int, int]]:
    """Size, patch, image."""
    for variant in text.split(","):
        model, *images = variant.split()
        size, _, patch = model.partition("/")
        yield from ((size, int(patch), int(image)) for image in images)


def _config(family: Family, size: str, patch: int, image: int) -> ViTConfig:
    geometry = dict(zip(("dim", "depth", "num_heads", "mlp_dim"), SIZES.get(size, ()), strict=False))
    return ViTConfig(**{"image_size": image, "patch_size": patch, **geometry, **family.fields})
