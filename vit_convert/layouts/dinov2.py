"""DINOv2: DinoVisionTransformer of its repository, bare, in a training checkpoint, or under its linear classifier.

References:
    Oquab et al. 2023 (DINOv2), Darcet et al. 2023 (registers)
    https://github.com/facebookresearch/dinov2 models/vision_transformer.py, layers/swiglu_ffn.py, hub/backbones.py,
    hub/classifiers.py

Registers stand behind the class token and have no row in the position table; the class token keeps its own. Training
files may have their blocks in chunks, `blocks.{chunk}.{block}`: what is written is not chunked, as the hub's files.
"""

from collections.abc import Mapping

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Aside, Bare, Described, Layout, Spare, coded, layer_rules
from vit_convert.layouts.meta import (
    CLASS_ROW,
    ENCODER,
    built,
    mlp_and_head,
    only_squares,
    sizes_of,
    square,
    together,
    writer,
    zeros,
)
from vit_convert.rules import Rule, Shape, Spelling

LEFT, RIGHT = "{model}blocks.{block}", "blocks.{block}"
LAYERS = {
    "{model}patch_embed.proj": "patch_embed.proj",
    **{f"{LEFT}.{name}": f"{RIGHT}.{name}" for name in ("norm1", "attn.qkv", "attn.proj", "norm2")},
    f"{LEFT}.mlp.{{layer}}": f"{RIGHT}.mlp.{{layer}}",
    "{model}norm": "norm",
    "linear_head": "head",  # of hub/classifiers.py, on one layer's class token and average patch
}
RULES = (
    Rule("{model}cls_token", "cls_token"),
    Rule("{model}pos_embed", "pos_embed"),
    Rule("{model}register_tokens", "reg_token"),
    Rule("{model}mask_token", "mask_token"),
    *(Rule(f"{LEFT}.ls{i}.gamma", f"{RIGHT}.ls{i}.gamma") for i in (1, 2)),
    *layer_rules(LAYERS),
)
MLPS: Mapping[str, Spelling] = {"mlp": ["fc1", "fc2"], "swiglu": [("w12", "fc1"), ("w3", "fc2")]}  # w12: gate first
WRAPPED = "backbone."


def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
    """By what only it has: a mask token of two axes, registers by this name, or a packed SwiGLU by these."""
    model = WRAPPED if f"{WRAPPED}patch_embed.proj.weight" in shapes else ""
    blocks = [name.removeprefix(f"{model}blocks.") for name in shapes if name.startswith(f"{model}blocks.")]
    swiglu = any(name.endswith(".mlp.w12.weight") for name in blocks)
    masked = len(shapes.get(f"{model}mask_token", ())) == 2
    mine = swiglu or masked or f"{model}register_tokens" in shapes
    theirs = f"{model}rope_embed.periods" in shapes or f"{model}storage_tokens" in shapes
    if theirs or not mine or f"{model}patch_embed.proj.weight" not in shapes:
        return None
    holes: dict[str, Spelling] = {"model": model, "layer": MLPS["swiglu" if swiglu else "mlp"]}
    return holes | chunks(blocks)


def chunks(names: list[str]) -> dict[str, Spelling]:
    """{block} of a file in chunks: "1.5" is block 5. Names are without `blocks.`; nothing if it is not chunked."""
    pairs = {tuple(name.split(".")[:2]) for name in names}
    if not all(len(pair) == 2 and pair[0].isdigit() and pair[1].isdigit() for pair in pairs):
        return {}
    return {"block": [(".".join(pair), int(pair[1])) for pair in sorted(pairs, key=lambda pair: int(pair[1]))]}


def spell(config: ViTConfig) -> Mapping[str, Spelling]:
    """Under its classifier, which calls it `backbone`, if there is one."""
    return {"model": WRAPPED if config.num_classes else "", "layer": MLPS[config.mlp]}


def bare(file: Bare) -> Described:
    """All but sizes that the repository doesn't build.

    Raises:
        CheckpointError: a classifier on four layers' class tokens.
    """
    code = {"norm_eps": 1e-6, "rope": "none", "pos_prefix": "class", "pos_resize": _resize("reg_token" in file.hub)}
    code["act"] = "silu" if any(name.endswith(".w12.weight") for name in file.shapes) else "gelu"
    code["pool"] = pooling(file)
    who = "DINOv2"
    return together("dinov2", coded(who, code), square(who, file.hub, 1), built(who, sizes_of("dinov2"), file.hub))


def pooling(file: Bare) -> str:
    """The class token, or what the classifier is on.

    Raises:
        CheckpointError: a classifier on four layers' class tokens.
    """
    head, token = file.hub.get("head.weight"), file.hub.get("cls_token", ())
    if head is None:
        return "class"
    if token and head[-1:] == (5 * token[-1],):
        raise CheckpointError(
            "linear_head.weight is on the class tokens of four blocks, which is not read: the classifier on the last "
            "block alone is (dinov2_vit*14_lc with layers=1), and so is the backbone without linear_head"
        )
    return "class_mean"


def _resize(registers: bool) -> str:
    """hub/backbones.py: interpolate_antialias=True and interpolate_offset=0.0 with registers, else offset 0.1."""
    return "bicubic_antialias" if registers else "bicubic_offset"


DINOV2 = Layout(
    name="dinov2",
    summary="facebookresearch/dinov2: load_state_dict of the backbone, or of its linear classifier",
    rules=RULES,
    recognise=recognise,
    spell=spell,
    write=writer("dinov2", "DINOv2", lambda config: _resize(bool(config.num_registers))),
    limits={
        **ENCODER,
        "dist_token": (False,),
        "pos_embed": ("learned",),
        "pos_prefix": ("class",),
        "rope": ("none",),
        "norm_eps": (1e-6,),
        "final_norm": ("tokens",),
    },
    conflicts=lambda config: only_squares(config) + mlp_and_head(config),
    bare=bare,
    asides=tuple(Aside(f"{head}_head.", "the self-supervised head") for head in ("dino", "ibot")),
    spares=(Spare("mask_token", "mask_token (masked pre-training)", make=zeros("1", "dim")),),
    adapts=CLASS_ROW,
)
