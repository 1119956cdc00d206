"""transformers' Flax classes, which transformers 5 no longer has: msgpack with the PyTorch names and Flax's arrays.

References:
    https://github.com/huggingface/transformers (4.57) src/transformers/modeling_flax_pytorch_utils.py,
    rename_key_and_reshape_tensor: `weight` is `kernel` (transposed), `scale` or `embedding`, "." is "/".

Each table is that of the PyTorch class, carried over: nothing is written down twice. So is the rule by which positions
are resized; FlaxDinov2's own was another.
"""

from collections.abc import Mapping
from dataclasses import replace

from vit_convert.layouts.base import Aside, Bare, Described, Layout
from vit_convert.layouts.transformers import TRANSFORMERS
from vit_convert.rules import Rule, Shape, Spelling

CONV = "patch_embed.proj.weight"
# The vision models that had a Flax class, how it was loaded, and what it has less than the PyTorch class.
CLASSES = {
    "vit": ("FlaxViTForImageClassification.from_pretrained(DIR), or FlaxViTModel without a head", {}),
    "dinov2": ("FlaxDinov2ForImageClassification.from_pretrained(DIR), or FlaxDinov2Model without a head", {}),
    "clip_vision_model": ("FlaxCLIPVisionModel.from_pretrained(DIR)", {"num_classes": (0,), "pool": ("class",)}),
}


def in_flax(layout: Layout) -> Layout:
    """The layout of the Flax class beside a PyTorch class's."""
    kind = layout.name.partition(":")[2]
    summary, fewer = CLASSES[kind]

    def recognise(shapes: Mapping[str, Shape]) -> Mapping[str, Spelling] | None:
        if not any("/" in name for name in shapes):
            return None
        found = layout.recognise(_as_torch(shapes))
        return None if found is None else _slashed(found)

    def bare(file: Bare) -> Described:
        return layout.bare(replace(file, shapes=_as_torch(file.shapes)))

    return replace(
        layout,
        name=f"transformers_flax:{kind}",
        summary=f"transformers 4's {summary}",
        rules=tuple(map(_rule, layout.rules)),
        recognise=recognise,
        spell=lambda config: _slashed(layout.spell(config)),
        limits={**layout.limits, **fewer},
        bare=bare,
        asides=tuple(Aside(aside.name.replace(".", "/"), aside.what) for aside in layout.asides),
        weights_file="flax_model.msgpack",
    )


def _rule(rule: Rule) -> Rule:
    left = rule.left.replace(".", "/")
    if not rule.left.endswith(".weight"):
        return Rule(left, rule.right, rule.axes)
    module = left.removesuffix("/weight")
    if not rule.right.endswith(".weight"):  # a table of positions
        return Rule(f"{module}/embedding", rule.right, rule.axes)
    if rule.right == CONV:
        return Rule(f"{module}/kernel", rule.right, "h w i o -> o i h w")
    if "norm" in rule.right.split(".")[-2]:
        return Rule(f"{module}/scale", rule.right, rule.axes)
    return Rule(f"{module}/kernel", rule.right, _transposed(rule.axes))


def _transposed(axes: str) -> str:
    """The pattern from a kernel (in, out): "part o i -> (part o) i" becomes "part i o -> (part o) i"."""
    if not axes:
        return "i o -> o i"
    before, after = axes.split(" -> ")
    *first, second_last, last = before.split()
    return f"{' '.join([*first, last, second_last])} -> {after}"


def _as_torch(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The names and shapes that the PyTorch class has."""
    return dict(_torch_name(name, shape) for name, shape in shapes.items())


def _torch_name(name: str, shape: Shape) -> tuple[str, Shape]:
    module, _, leaf = name.replace("/", ".").rpartition(".")
    if leaf == "kernel":
        return f"{module}.weight", shape[::-1] if len(shape) == 2 else (*shape[:-3:-1], *shape[:-2])
    return (f"{module}.weight" if leaf in ("scale", "embedding") else name.replace("/", ".")), shape


def _slashed(spellings: Mapping[str, Spelling]) -> dict[str, Spelling]:
    return {hole: _slash(entries) for hole, entries in spellings.items()}


def _slash(entries: Spelling) -> Spelling:
    if isinstance(entries, str):
        return entries.replace(".", "/")
    return [entry.replace(".", "/") if isinstance(entry, str) else entry for entry in entries]


TRANSFORMERS_FLAX = tuple(in_flax(layout) for layout in TRANSFORMERS if layout.name.partition(":")[2] in CLASSES)
