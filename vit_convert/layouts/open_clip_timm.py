"""open_clip's visual tower where it is timm's: SigLIP, EVA-CLIP, EVA-02-CLIP.

References:
    https://github.com/mlfoundations/open_clip src/open_clip/timm_model.py

open_clip makes the tower by timm's architecture alone, without options: what is written has to be one of them.
"""

from collections.abc import Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts import timm_config
from vit_convert.layouts.base import Beside, Described, Files, Json, Layout
from vit_convert.layouts.open_clip import ASIDES, CONFIG_FILE, WEIGHTS_FILE, labels_of, prepared, tower_files, vision_of
from vit_convert.layouts.timm import TIMM
from vit_convert.layouts.timm_eva import EVA
from vit_convert.preprocess import Preprocess
from vit_convert.presets import TIMM_EVA, TIMM_VIT, Preset
from vit_convert.rules import Rule, Shape, Spelling

OWN = "what it asks of its own tower: --to open_clip:vit"
TRUNK, HEAD = "visual.trunk", "visual.head.proj"  # the head is timm's own, or a layer of open_clip's behind it


def rules_of(layout: Layout) -> tuple[Rule, ...]:
    """timm's rules under the trunk, with either head."""
    trunk = (rule for rule in layout.rules if not rule.left.startswith("head."))
    return (
        *(Rule(f"{TRUNK}.{rule.left}", rule.right, rule.axes) for rule in trunk),
        *(Rule(f"{{head}}.{leaf}", f"{{head}}.{leaf}") for leaf in ("weight", "bias")),
    )


def head(own: bool) -> Mapping[str, Spelling]:
    return {"head": ((f"{TRUNK}.head" if own else HEAD, "head"),)}


def tower(name: str, summary: str, timm: Layout, presets: Mapping[str, Preset]) -> Layout:
    """The layout of the towers that are architectures of one of timm's classes."""

    def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
        begin = f"{TRUNK}."
        trunk = {name.removeprefix(begin): shape for name, shape in shapes.items() if name.startswith(begin)}
        holes = timm.recognise(trunk)
        return None if holes is None else {**holes, **head(own=f"{HEAD}.weight" not in shapes)}

    def read(config: Json, beside: Beside) -> Described:
        vision = config["model_cfg"]["vision_cfg"]
        fields = _fields(vision, presets)
        preprocess, strange = prepared(config, fields["image_size"])
        sources = dict.fromkeys(fields, f"timm's code for {vision['timm_model_name']}")
        return Described(fields, preprocess, labels_of(config), sources=sources, unread=strange)

    def write(config: ViTConfig, preprocess: Preprocess | None, labels: tuple[str, ...] | None) -> Files:
        name = named(config)
        assert name is not None  # conflicts made sure
        vision = {
            "timm_model_name": name,
            "timm_model_pretrained": False,
            "timm_pool": timm_config.WRITTEN_POOLS[config.pool],
            "timm_proj": ("" if own_head(config) else "linear") if config.num_classes else "none",
            "image_size": config.image_hw[0],
        }
        return tower_files(config, {"vision_cfg": vision}, preprocess, labels)

    def named(config: ViTConfig) -> str | None:
        free = config.replace(num_classes=0, pos_resize="bicubic_antialias", head_bias=True)
        name = timm_config.architecture(free, presets)
        return name if name and presets[name].config.image_size == config.image_size else None

    def conflicts(config: ViTConfig) -> list[str]:
        if named(config):
            return []
        return [f"this is none of {timm.name}'s architectures, of which open_clip makes towers; {OWN}"]

    return Layout(
        name=name,
        summary=summary,
        rules=rules_of(timm),
        recognise=recognise,
        spell=lambda config: {**timm.spell(config), **head(own_head(config))},
        owns=lambda config: timm_config.code_of(_architecture(config), presets) is not None,
        read=read,
        write=write,
        limits={"dist_token": (False,)},
        conflicts=conflicts,
        asides=ASIDES,
        config_file=CONFIG_FILE,
        weights_file=WEIGHTS_FILE,
    )


def own_head(config: ViTConfig) -> bool:
    """Whether the head is timm's, which has a bias."""
    return config.head_bias


def _architecture(config: Json) -> str:
    return str((vision_of(config) or {}).get("timm_model_name"))


def _fields(vision: Json, presets: Mapping[str, Preset]) -> dict[str, Any]:
    """The architecture's own fields, with the pooling that open_clip asks for."""
    fields = timm_config.code_of(vision["timm_model_name"], presets)
    assert fields is not None  # the layout owns the config
    pool, projection = vision.get("timm_pool", "avg"), vision.get("timm_proj", "linear")
    # null leaves the architecture its own pooling. So does "", but where the head is timm's it takes the pooling away.
    pools = (None, *timm_config.POOLS, *([""] if projection == "linear" else []))
    if projection not in ("linear", "none", "", None) or pool not in pools:
        raise CheckpointError(f"{CONFIG_FILE}: timm_pool {pool!r} with timm_proj {projection!r} is not read")
    if pool and timm_config.POOLS[pool] != fields["pool"]:
        fields["pool"] = timm_config.POOLS[pool]
        del fields["final_norm"]  # the tensors' names tell where the norm went
    # How wide the head is, and whether it has a bias, the tensors tell too.
    return {name: value for name, value in fields.items() if name not in ("num_classes", "head_bias")}


OPEN_CLIP_TIMM = (
    tower("open_clip:timm", "timm's VisionTransformer in open_clip: SigLIP", TIMM, TIMM_VIT),
    tower("open_clip:eva", "timm's Eva in open_clip: EVA-CLIP, EVA-02-CLIP", EVA, TIMM_EVA),
)
