"""Which preprocessing a checkpoint has: what its file says, or else how its family evaluates; at the size asked for."""

from collections.abc import Mapping

from vit_convert.config import ViTConfig
from vit_convert.layouts.base import Described
from vit_convert.preprocess import Preprocess
from vit_convert.presets import get_preset
from vit_convert.processors.known import known

# Whose evaluation is that of a preset of theirs: their files have timm's names, and only the preset tells.
REPOSITORIES = ("dino", "mae")


def choose_preprocess(
    described: Described, stored: ViTConfig, config: ViTConfig, sources: Mapping[str, str], preset: str | None
) -> tuple[Preprocess | None, tuple[str, ...]]:
    """The preprocessing, and what is to be said about it.

    Args:
        stored: the config of the file.
        config: the config after what was asked for.
        sources: ViTConfig field -> where its value in `config` came from.
    """
    if described.unread:
        return None, (described.unread,)
    preprocess = described.preprocess or _evaluation(described, stored, preset)
    if preprocess and preprocess.crop != config.image_hw and sources["image_size"] in ("given", f"preset {preset}"):
        preprocess = preprocess.resized(config.image_hw)
        said = f"preprocessing follows the image size: resize to {preprocess.resize}, crop to {preprocess.crop}"
        return preprocess, (said,)
    return preprocess, ()


def _evaluation(described: Described, config: ViTConfig, preset: str | None) -> Preprocess | None:
    """How the family's own evaluation does it, or that of the preset's repository."""
    origin = get_preset(preset).origin if preset else ""
    evaluation = described.evaluation or (origin if origin in REPOSITORIES else "")
    return known(evaluation, config.image_hw) if evaluation and config.in_channels == 3 else None
