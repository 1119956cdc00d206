"""The names that Google's JAX repositories share: Flax Linen's, '/'-joined, blocks apart or stacked by a scan.

References:
    https://github.com/google-research/vision_transformer vit_jax/models_vit.py, checkpoint.py (convert_pre_linen)
    https://github.com/google-research/big_vision big_vision/models/vit.py, utils.py
    https://github.com/google-research/scenic scenic/projects/baselines/vit.py

Kernels of attention have the heads as an axis of their own: (D, H, D/H) for q, k and v, (H, D/H, D) for the output.
"""

from collections.abc import Mapping

from vit_convert.describe import square_image
from vit_convert.layouts.base import Aside, Bare, Described, coded
from vit_convert.rules import Rule, Shape, Spelling
from vit_convert.steps import zero_head_bias, zero_key_bias, zero_patch_bias, zero_qkv_bias

_EACH, _ALL = "Transformer/{each}_{block}", "Transformer/{all}"  # a block's own arrays, or all blocks' stacked
_BLOCK = "blocks.{block}"


def _block_rules(left: str, stack: str) -> tuple[Rule, ...]:
    """The rules of a block; `stack` is the axis of stacked blocks, or nothing."""

    def axes(before: str, after: str) -> str:
        return f"{stack}{before} -> {stack}{after}"

    parts = f"part {stack}"
    rules = [
        Rule(f"{left}/{{attn}}/{{part}}/kernel", f"{_BLOCK}.attn.qkv.weight",
             f"{parts}i heads d -> {stack}(part heads d) i"),
        Rule(f"{left}/{{attn}}/{{part}}/bias", f"{_BLOCK}.attn.qkv.bias", f"{parts}heads d -> {stack}(part heads d)"),
        Rule(f"{left}/{{attn}}/out/kernel", f"{_BLOCK}.attn.proj.weight", axes("heads d o", "o (heads d)")),
        Rule(f"{left}/{{attn}}/out/bias", f"{_BLOCK}.attn.proj.bias", axes("o", "o")),
    ]  # fmt: skip
    for theirs, ours in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
        rules.append(Rule(f"{left}/{{mlp}}/{theirs}/kernel", f"{_BLOCK}.mlp.{ours}.weight", axes("i o", "o i")))
        rules.append(Rule(f"{left}/{{mlp}}/{theirs}/bias", f"{_BLOCK}.mlp.{ours}.bias", axes("o", "o")))
    for theirs, ours in (("LayerNorm_0", "norm1"), ("{norm2}", "norm2")):
        rules.append(Rule(f"{left}/{theirs}/scale", f"{_BLOCK}.{ours}.weight", axes("d", "d")))
        rules.append(Rule(f"{left}/{theirs}/bias", f"{_BLOCK}.{ours}.bias", axes("d", "d")))
    return tuple(rules)


_MAP, _MAP_ATTN = "MAPHead_0", "MAPHead_0/MultiHeadDotProductAttention_0"
_POOL = (
    Rule(f"{_MAP}/probe", "attn_pool.latent"),
    Rule(f"{_MAP_ATTN}/{{qkv}}/kernel", "attn_pool.{qkv}.weight", "i heads d -> (heads d) i"),
    Rule(f"{_MAP_ATTN}/{{qkv}}/bias", "attn_pool.{qkv}.bias", "heads d -> (heads d)"),
    Rule(f"{_MAP_ATTN}/out/kernel", "attn_pool.proj.weight", "heads d o -> o (heads d)"),
    Rule(f"{_MAP_ATTN}/out/bias", "attn_pool.proj.bias"),
    Rule(f"{_MAP}/LayerNorm_0/scale", "attn_pool.norm.weight"),
    Rule(f"{_MAP}/LayerNorm_0/bias", "attn_pool.norm.bias"),
    Rule(f"{_MAP}/MlpBlock_0/Dense_0/kernel", "attn_pool.mlp.fc1.weight", "i o -> o i"),
    Rule(f"{_MAP}/MlpBlock_0/Dense_0/bias", "attn_pool.mlp.fc1.bias"),
    Rule(f"{_MAP}/MlpBlock_0/Dense_1/kernel", "attn_pool.mlp.fc2.weight", "i o -> o i"),
    Rule(f"{_MAP}/MlpBlock_0/Dense_1/bias", "attn_pool.mlp.fc2.bias"),
)
RULES = (
    Rule("cls", "cls_token"),
    Rule("{positions}", "pos_embed"),
    Rule("embedding/kernel", "patch_embed.proj.weight", "h w i o -> o i h w"),
    Rule("embedding/bias", "patch_embed.proj.bias"),
    *_block_rules(_EACH, ""),
    *_block_rules(_ALL, "block "),
    Rule("Transformer/encoder_norm/scale", "norm.weight"),
    Rule("Transformer/encoder_norm/bias", "norm.bias"),
    *_POOL,
    Rule("pre_logits/kernel", "pre_logits.weight", "i o -> o i"),
    Rule("pre_logits/bias", "pre_logits.bias"),
    Rule("{head}/kernel", "head.weight", "i o -> o i"),
    Rule("{head}/bias", "head.bias"),
)

# What the module of a block's attention, its MLP and its second norm are called: by today's Flax, and in the files
# published before Linen.
TODAY: Mapping[str, Spelling] = {
    "attn": "MultiHeadDotProductAttention_0",
    "norm2": "LayerNorm_1",
    "mlp": "MlpBlock_0",
}
PUBLISHED: Mapping[str, Spelling] = {
    "attn": "MultiHeadDotProductAttention_1",
    "norm2": "LayerNorm_2",
    "mlp": "MlpBlock_3",
}
INPUT, PLAIN = "Transformer/posembed_input/pos_embedding", "pos_embedding"

# What these classes have, whatever the model.
LIMITS = {
    "dist_token": (False,),
    "num_registers": (0,),
    "rope": ("none",),
    "norm": ("layer",),
    "norm_eps": (1e-6,),
    "patch_norm": (False,),
    "pre_norm": (False,),
    "final_norm": ("tokens",),
    "qk_norm": (False,),
    "attn_norm": (False,),
    "mlp_norm": (False,),
    "layer_scale": (False,),
    "act": ("gelu_tanh",),
    "mlp": ("mlp",),
    "patch_bias": (True,),
    "qkv_bias": ("all",),
    "proj_bias": (True,),
    "mlp_bias": (True,),
    "head_bias": (True,),
}

ADAPTS = (zero_key_bias, zero_qkv_bias, zero_patch_bias, zero_head_bias)

_OPTIMIZER, _TRAINER = "the optimizer's state", "the trainer's state"
ASIDES = (
    *(Aside(name, _OPTIMIZER) for name in ("opt/", "optimizer/", "opt_state/")),
    *(Aside(name, _TRAINER) for name in ("chrono/", "metadata/", "global_step", "rng", "accum_train_time")),
)


def holes(names: Mapping[str, Spelling], positions: str, head: str = "head") -> dict[str, Spelling]:
    """What fills the rules' holes where blocks stand apart."""
    qkv = (("query", "q"), ("key", "k"), ("value", "v"))
    fixed: dict[str, Spelling] = {"each": "encoderblock", "all": (), "part": ("query", "key", "value"), "qkv": qkv}
    return {**fixed, **names, "positions": positions, "head": head}


def recognise(shapes: Mapping[str, Shape]) -> dict[str, Spelling] | None:
    """What fills the holes of a file of any of the three repositories, but for {head} and {positions}."""
    if len(shapes.get("embedding/kernel", ())) != 4:
        return None
    positions = INPUT if INPUT in shapes else PLAIN
    if "Transformer/encoderblock_0/LayerNorm_0/scale" in shapes:
        published = "Transformer/encoderblock_0/LayerNorm_2/scale" in shapes
        return holes(PUBLISHED if published else TODAY, positions)
    stacked = shapes.get("Transformer/encoderblock/LayerNorm_0/scale", ())
    if len(stacked) != 2:
        return None
    return {**holes(TODAY, positions), "each": (), "all": "encoderblock", "block": range(stacked[0])}


def bare(who: str, file: Bare, evaluation: str = "") -> Described:
    """What the code of these repositories fixes, and what the kernels tell: the heads are an axis of theirs."""
    fields = {"norm_eps": 1e-6, "act": "gelu_tanh", "pos_resize": "bilinear_corners", "rope": "none"}
    if "cls_token" in file.hub:
        fields["pool"] = "class"
    told = coded(who, fields)
    values, sources = dict(told.fields), dict(told.sources)
    kernels = (shape for name, shape in file.shapes.items() if "Transformer/" in name and name.endswith("query/kernel"))
    if len(query := next(kernels, ())) >= 3:
        values["num_heads"], sources["num_heads"] = query[-2], "the heads' axis of the kernels"
    # With or without a row for the class token.
    if size := square_image(file.hub, 0) or square_image(file.hub, int("cls_token" in file.hub)):
        values["image_size"], sources["image_size"] = size, f"{who}'s code: tables are square"
    return Described(values, sources=sources, evaluation=evaluation)
