"""ViTConfig: everything that decides which function a Vision Transformer computes, and nothing else.

What a run chooses (dtype, attention implementation, drop rates) is an argument of the model;
what an image needs before it gets here is `vit_convert.preprocess.Preprocess`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from math import frexp, inf, prod
from typing import Any, Literal, get_args, get_origin, get_type_hints

# How a position table is brought to another grid; vit_convert.positions.resize_matrix says what each one does.
PosResize = Literal[
    "bicubic",
    "bicubic_antialias",
    "bicubic_offset",
    "bicubic_corners",
    "bilinear",
    "bilinear_antialias",
    "bilinear_corners",
]


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The maths of one Vision Transformer. Sizes are (height, width); one integer means a square.

    Equal functions have equal configs: where two spellings mean the same function, validation
    picks one (`final_norm="pooled"` with class pooling becomes "tokens"; `pos_prefix="all"`
    without registers becomes "class"; `pos_resize` without a table becomes the default; periods that
    bfloat16 holds are not rounded).

    Raises:
        ValueError: a field has the wrong type or value, or two fields contradict each other.
    """

    # geometry

    image_size: int | tuple[int, int]
    patch_size: int | tuple[int, int]
    dim: int
    depth: int
    num_heads: int
    mlp_dim: int  # the input width of fc2; fc1 of a swiglu is twice as wide
    in_channels: int = 3
    num_classes: int = 0  # 0: no head, the model returns pooled features

    # tokens, in the order [class, distillation, registers, patches]

    class_token: bool = True
    dist_token: bool = False
    num_registers: int = 0
    pos_embed: Literal["learned", "sincos2d", "none"] = "learned"
    pos_prefix: Literal["none", "class", "all"] = "class"  # prefix tokens that have rows in the table
    pos_resize: PosResize = "bicubic_antialias"
    rope: Literal["none", "dinov3", "eva02"] = "none"
    rope_theta: float | None = None  # the longest period over the shortest, nearly: timm's rope_temperature
    rope_ref_grid: int | None = None  # eva02: patches on a side of the grid that the angles were trained on
    rope_round_periods: Literal["none", "bfloat16"] = "none"  # dinov3: Meta's files hold them in bfloat16

    # norms

    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6
    patch_norm: bool = False  # a norm of each embedded patch, before positions are added (AIMv2)
    pre_norm: bool = False  # a norm between the embeddings and the first block (CLIP)
    final_norm: Literal["tokens", "pooled", "none"] = "tokens"
    qk_norm: bool = False  # over each head's width
    attn_norm: bool = False  # between the attention and its projection (BEiT-3)
    mlp_norm: bool = False  # between the activation and fc2 (BEiT-3)
    layer_scale: bool = False

    # mlp

    act: Literal["gelu", "gelu_tanh", "quick_gelu", "silu"] = "gelu"
    mlp: Literal["mlp", "swiglu"] = "mlp"  # swiglu: act(gate) * value, packed in fc1, gate first

    # biases

    patch_bias: bool = True
    qkv_bias: Literal["all", "qv", "none"] = "all"
    proj_bias: bool = True
    mlp_bias: bool = True
    head_bias: bool = True

    # head

    pool: Literal["class", "mean", "map", "class_mean", "class_dist"] = "class"
    pre_logits: int = 0  # width of the tanh layer before the head; 0: none

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, checked(field.name, getattr(self, field.name)))
        _check_geometry(self)
        _check_tokens(self)
        _check_head(self)
        _check_rope(self)
        for name, value in _canonical(self).items():
            object.__setattr__(self, name, value)

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the images, in pixels."""
        return self.image_size  # type: ignore[return-value]  # __post_init__ made it a pair

    @property
    def patch_hw(self) -> tuple[int, int]:
        """(height, width) of a patch, in pixels."""
        return self.patch_size  # type: ignore[return-value]

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches at `image_size`."""
        return grid_of(self.image_hw, self.patch_hw)

    @property
    def num_patches(self) -> int:
        return prod(self.grid)

    @property
    def num_prefix(self) -> int:
        """How many tokens stand before the patches."""
        return self.class_token + self.dist_token + self.num_registers

    @property
    def num_pos_prefix(self) -> int:
        """How many of them have a row in the position table: always the first ones."""
        registers = self.num_registers if self.pos_prefix == "all" else 0
        return 0 if self.pos_prefix == "none" else self.class_token + self.dist_token + registers

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled features."""
        return 2 * self.dim if self.pool == "class_mean" else self.dim

    def to_dict(self) -> dict[str, Any]:
        """A plain dict for JSON; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ViTConfig":
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: unknown or missing fields, all named at once, or an invalid value.
        """
        known = {f.name for f in fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(set(REQUIRED) - set(values))
        if unknown or missing:
            parts = [f"unknown fields {unknown}"] * bool(unknown) + [f"missing fields {missing}"] * bool(missing)
            raise ValueError(f"ViTConfig: {' and '.join(parts)}; the fields are {sorted(known)}")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)

    def replace(self, **changes: Any) -> "ViTConfig":
        """A copy with some fields changed, validated again.

        What validation made equal stays so: `pos_embed="none"` forgets `pos_resize`, and a later
        `replace(pos_embed="learned")` has the default, not what was there before.
        """
        return replace(self, **changes)


# The fields without a default.
REQUIRED = tuple(field.name for field in fields(ViTConfig) if field.default is MISSING)


def grid_of(image_size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of patches in an image.

    Raises:
        ValueError: the patches don't divide the image.
    """
    (height, width), (patch_height, patch_width) = image_size, patch_size
    if height % patch_height or width % patch_width:
        nearest = tuple(max(p, round(n / p) * p) for n, p in zip(image_size, patch_size, strict=True))
        raise ValueError(
            f"image size {height}x{width} is not divisible by patch size {patch_height}x{patch_width} "
            f"(rest {height % patch_height}x{width % patch_width}); the nearest that is: {nearest[0]}x{nearest[1]}"
        )
    return height // patch_height, width // patch_width


@cache
def hints() -> dict[str, Any]:
    """Field -> annotation."""
    return get_type_hints(ViTConfig)


def checked(name: str, value: Any) -> Any:
    """A field's value by its annotation, sizes as pairs: what JSON and the command line give may be anything.

    Raises:
        ValueError: the value is none of this field, whatever the others are.
    """
    hint = hints()[name]
    if name in ("image_size", "patch_size"):
        return _pair(name, value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} must be one of {', '.join(get_args(hint))}, got {value!r}")
    elif hint is bool:
        if type(value) is not bool:
            raise ValueError(f"{name} must be true or false, got {value!r}")
    elif hint is int:
        least = 0 if name in ("num_classes", "num_registers", "pre_logits") else 1
        if type(value) is not int or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    elif name == "norm_eps" and (type(value) not in (int, float) or not 0 < value < 1):
        raise ValueError(f"norm_eps must be between 0 and 1, got {value!r}")
    elif name == "rope_theta" and value is not None and (type(value) not in (int, float) or not 0 < value < inf):
        raise ValueError(f"rope_theta must be a positive number, or none without rope, got {value!r}")
    elif name == "rope_ref_grid" and value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"rope_ref_grid must be an integer of at least 1, or none but for eva02, got {value!r}")
    return value


def _pair(name: str, value: Any) -> tuple[int, int]:
    pair = (value, value) if type(value) is int else value
    if isinstance(pair, list | tuple) and len(pair) == 2 and all(type(n) is int and n > 0 for n in pair):
        return tuple(pair)  # type: ignore[return-value]
    raise ValueError(f"{name} must be a positive integer or (height, width) of them, got {value!r}")


def _check_geometry(config: ViTConfig) -> None:
    grid_of(config.image_hw, config.patch_hw)
    if config.dim % config.num_heads:
        raise ValueError(f"dim {config.dim} is not divisible by num_heads {config.num_heads}")


def _check_tokens(config: ViTConfig) -> None:
    if config.dist_token and not config.class_token:
        raise ValueError("dist_token needs class_token: a distillation token stands beside the class token")
    if config.pos_embed == "sincos2d" and (config.dim % 4 or config.dim < 8):
        raise ValueError(f"pos_embed='sincos2d' needs a dim divisible by 4 and at least 8, got {config.dim}")


def _check_head(config: ViTConfig) -> None:
    if config.pool in ("class", "class_mean", "class_dist") and not config.class_token:
        raise ValueError(f"pool={config.pool!r} needs class_token=True; without one use 'mean' or 'map'")
    if config.pool == "class_dist" and not config.dist_token:
        raise ValueError("pool='class_dist' needs dist_token=True; without one use 'class'")
    if config.pool == "class_dist" and config.pre_logits:
        raise ValueError(f"pool='class_dist' has two heads and no pre_logits layer, got pre_logits={config.pre_logits}")
    if config.pool == "class_mean" and config.final_norm == "pooled":
        raise ValueError("pool='class_mean' concatenates normed tokens; final_norm='pooled' is not defined for it")


def _check_rope(config: ViTConfig) -> None:
    rope, head_dim = config.rope, config.head_dim
    if rope != "none" and (head_dim % 4 or head_dim < 8):
        raise ValueError(
            f"rope={rope!r} needs heads of a width divisible by 4 and at least 8, got {head_dim} "
            f"(dim {config.dim} / num_heads {config.num_heads})"
        )
    needs = {"none": (), "dinov3": ("rope_theta",), "eva02": ("rope_theta", "rope_ref_grid")}[rope]
    takes = {"rope_theta", "rope_round_periods"} if rope == "dinov3" else set(needs)
    given = [n for n in ("rope_theta", "rope_ref_grid") if getattr(config, n) is not None]
    missing = [n for n in needs if n not in given]
    if missing:
        raise ValueError(f"rope={rope!r} needs {' and '.join(missing)}")
    given += ["rope_round_periods"] * (config.rope_round_periods != "none")
    extra = [n for n in given if n not in takes]
    if extra:
        raise ValueError(f"{', '.join(extra)} given, but rope is {rope!r}")


def exact_periods(config: ViTConfig) -> list[float]:
    """The rotary periods theta^(4 i / head_dim), head_dim / 4 of them, before any rounding."""
    assert config.rope_theta is not None  # validation made sure, wherever there is rope
    count = config.head_dim // 4
    return [config.rope_theta ** (i / count) for i in range(count)]


def _in_bfloat16(x: float) -> bool:
    """Whether bfloat16 holds a number of ordinary size: its mantissa has 8 bits."""
    return (frexp(x)[0] * 2**8).is_integer()


def _canonical(config: ViTConfig) -> dict[str, Any]:
    """The fields that another spelling of the same function would leave different."""
    changes: dict[str, Any] = {"norm_eps": float(config.norm_eps)}
    if config.rope_theta is not None:
        changes["rope_theta"] = float(config.rope_theta)
    if config.rope_round_periods != "none" and all(map(_in_bfloat16, exact_periods(config))):
        changes["rope_round_periods"] = "none"
    if config.pos_prefix == "all" and not config.num_registers:
        changes["pos_prefix"] = "class"
    named = changes.get("pos_prefix", config.pos_prefix)
    if config.pos_embed != "learned" or (named == "class" and not config.class_token):
        changes["pos_prefix"] = "none"
    if config.pos_embed != "learned":
        changes["pos_resize"] = "bicubic_antialias"  # the field's default: there is no table to resize
    if config.final_norm == "pooled" and config.pool in ("class", "class_dist"):
        changes["final_norm"] = "tokens"
    if not config.num_classes:
        changes["head_bias"] = True
    return changes
