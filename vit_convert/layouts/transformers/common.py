"""What transformers' layouts share: how config.json says sizes, activations and labels, and what it leaves out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.labels import by_index
from vit_convert.layouts.base import LEAVES, Beside, Described, Files, Json, layer_rules, resizing
from vit_convert.preprocess import Preprocess
from vit_convert.processors import differences, unread
from vit_convert.processors import transformers as processor
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_head_bias, zero_key_bias, zero_patch_bias

DEFAULT, CODE = "transformers' default", "transformers' code"
# Each activation's name in ViTConfig, the first of transformers' names for it being the one that is written.
ACTS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
}
KEYS = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "in_channels": "num_channels",
    "dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "norm_eps": "layer_norm_eps",
    "act": "hidden_act",
}
# What most of its config classes leave out of config.json.
DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
}
# What most of its classes compute, whatever their config says.
PLAIN = {
    "class_token": True,
    "dist_token": False,
    "num_registers": 0,
    "pos_embed": "learned",
    "pos_prefix": "class",
    "pos_resize": "bicubic",
    "rope": "none",
    "norm": "layer",
    "patch_norm": False,
    "pre_norm": False,
    "final_norm": "tokens",
    "qk_norm": False,
    "attn_norm": False,
    "mlp_norm": False,
    "layer_scale": False,
    "mlp": "mlp",
    "patch_bias": True,
    "proj_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "pool": "class",
}

# The embeddings' rules, and what an attention's layers are called: in the files of transformers 4, which 5 writes too,
# and in 5's memory.
EMBEDDINGS = (
    Rule("{model}embeddings.cls_token", "cls_token"),
    Rule("{model}embeddings.mask_token", "mask_token"),
    Rule("{model}embeddings.position_embeddings", "pos_embed"),
    *layer_rules({"{model}embeddings.patch_embeddings.projection": "patch_embed.proj"}),
)
ON_DISK: Mapping[str, Spelling] = {
    "attn": "attention.attention.",
    "part": ("query", "key", "value"),
    "out": "attention.output.dense",
}
IN_MEMORY: Mapping[str, Spelling] = {
    "attn": "attention.",
    "part": ("q_proj", "k_proj", "v_proj"),
    "out": "attention.o_proj",
}

UNPREPARED = f"how images are prepared is unknown: there is no {processor.FILE} for AutoImageProcessor to load"

# What these classes have zeros of, where a model has none.
ZERO_BIASES = (zero_key_bias, zero_head_bias, zero_patch_bias)


def qkv_rules(part: str) -> tuple[Rule, ...]:
    """Rules for query, key and value that are layers of their own, from their name with {part} in it."""
    packed = "blocks.{block}.attn.qkv"
    return (
        Rule(f"{part}.weight", f"{packed}.weight", "part o i -> (part o) i"),
        Rule(f"{part}.bias", f"{packed}.bias", "part o -> (part o)"),
    )


def described(
    config: Json,
    beside: Beside,
    model_type: str,
    defaults: Json,
    code: Json,
    more: Callable[[Json], Json] = lambda said: {},
    keys: Mapping[str, str] = KEYS,
) -> Described:
    """A class's config.json, with what it leaves out, and preprocessor_config.json.

    Args:
        code: the fields that the class fixes, whatever the config says.
        more: the fields that follow from what the config says, defaults included.

    Raises:
        CheckpointError: an activation that ViTConfig has no name for.
    """
    said = {**defaults, **config}
    if "act" in keys and said[keys["act"]] not in ACTS:
        raise CheckpointError(f"config.json: {keys['act']} {said[keys['act']]!r}: only {', '.join(ACTS)}")
    fields = code | {ours: said[theirs] for ours, theirs in keys.items()}
    fields |= {"act": ACTS[said[keys["act"]]]} if "act" in keys else {}
    sources = dict.fromkeys(code, CODE)
    sources |= {ours: DEFAULT for ours, theirs in keys.items() if theirs not in config}
    preprocess, strange = prepared(beside, model_type)
    labels = read_labels(config.get("id2label"))
    lost = unread_labels(config.get("id2label"))
    return Described(fields | more(said), preprocess, labels, sources=sources, unread=strange, said=lost)


def prepared(beside: Beside, model_type: str) -> tuple[Preprocess | None, str]:
    """The preprocessing, or a note on what of it is not read."""
    if (said := processor.find(beside)) is None:
        return None, ""
    preprocess = processor.read(said, model_type)
    return preprocess, unread(processor.place(beside), processor.unusual(said, model_type), preprocess)


def limits(code: Json, **more: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """The only values that a class has. Resizing positions is none of it: a note says where the rules differ."""
    return {name: (value,) for name, value in code.items() if name != "pos_resize"} | more


def entries(config: ViTConfig, model_type: str, architecture: str) -> Json:
    """What every config.json says."""
    said = {theirs: getattr(config, ours) for ours, theirs in KEYS.items()}
    said |= {"image_size": size(config.image_hw), "patch_size": size(config.patch_hw)}
    said |= {"hidden_act": {ours: theirs for theirs, ours in reversed(ACTS.items())}[config.act]}
    return {"architectures": [architecture], "model_type": model_type, **said}


def files(config: ViTConfig, said: Json, code: Json, preprocess: Preprocess | None, notes: Iterable[str] = ()) -> Files:
    """config.json for `from_pretrained`, and preprocessor_config.json where an image processor can say it."""
    content, notes = {"config.json": said}, [*notes, *resizing("transformers", code["pos_resize"], config)]
    if preprocess:
        written = processor.write(preprocess)
        content |= {processor.FILE: written} if written else {}
        notes += differences("transformers' image processor", preprocess, processor.read(written))
    else:
        notes.append(UNPREPARED)
    return Files(content, tuple(notes), {"format": "pt"})


def size(pair: tuple[int, int]) -> int | list[int]:
    """As transformers writes sizes: one number for a square."""
    return pair[0] if pair[0] == pair[1] else list(pair)


def head_entries(config: ViTConfig, labels: tuple[str, ...] | None) -> Json:
    """The classes of a head, named LABEL_0, LABEL_1, ... where nothing names them, as transformers does."""
    if not config.num_classes:
        return {}
    names = {str(i): label for i, label in enumerate(labels or map("LABEL_{}".format, range(config.num_classes)))}
    return {"id2label": names, "label2id": {label: int(i) for i, label in names.items()}}


def read_labels(id2label: Any) -> tuple[str, ...] | None:
    """Labels by index; None for the numbered ones that transformers makes up."""
    labels = by_index(id2label) if isinstance(id2label, dict) else None
    made_up = labels == tuple(f"LABEL_{i}" for i in range(len(labels or ())))
    return None if made_up else labels


def unread_labels(id2label: Any) -> tuple[str, ...]:
    """A note on labels that can't be given to classes, if these are."""
    if not isinstance(id2label, dict) or by_index(id2label) is not None:
        return ()
    return (f"left out id2label of config.json: expected the keys 0 to n - 1, got {', '.join(id2label)[:80]}",)


def qkv_bias(said: Json) -> Json:
    """Of a class whose config has one switch for the three biases."""
    return {"qkv_bias": "all" if said["qkv_bias"] else "none"}


def square(config: ViTConfig, what: str) -> list[str]:
    """A message for images that are no squares, which some classes don't take."""
    height, width = config.image_hw
    return [] if height == width else [f"image_size {height}x{width}: {what} takes squares only"]


def has(shapes: Mapping[str, Shape], layer: str) -> bool:
    """Whether a layer of this name is there, by either of its tensors."""
    return any(f"{layer}.{leaf}" in shapes for leaf in LEAVES)
