"""Golden cases of facebookresearch/dino, dinov2 and dinov3."""

import argparse
import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from parity_tests.golden import torch_models as tm
from parity_tests.golden.case import Arrays, Case, key


def dino() -> list[Case]:
    """The published backbone, and the whole training file."""
    size = dict(img_size=[20], patch_size=4, embed_dim=18, depth=2, num_heads=6, mlp_ratio=1.5, qkv_bias=True)
    small = size | dict(embed_dim=12, num_heads=3)
    teacher, student = (tm.filled(_with_dino_head(small, 13), seed) for seed in (9, 10))
    backbone = tm.filled(_dino_model(size), 8)
    return [
        _dino("pretrain", size, tm.state_of(backbone), "a flat state dict, as the published backbones", backbone, None),
        _dino(
            "training",
            small,
            _dino_training_file(teacher, student),
            "{'student', 'teacher', 'optimizer', 'epoch', 'args', 'dino_loss'}, as main_dino.py writes checkpoint.pth",
            teacher.backbone,
            student.backbone,
        ),
    ]


def _dino(name: str, arguments: Mapping[str, Any], contents: Any, container: str, model: Any, student: Any) -> Case:
    """`student`: a second model whose output the case holds beside that of `model`, the teacher."""
    return Case(
        family="dino",
        name=name,
        suffix=".pth",
        save=tm.saver(contents),
        container=f"torch.save of {container}",
        constructor={"class": "vision_transformer.VisionTransformer", "norm_layer": "LayerNorm(eps=1e-6)", **arguments},
        config=tm.config(
            arguments["embed_dim"], arguments["num_heads"], _mlp_dim(tm.state_of(model)), pos_resize="bicubic_offset"
        ),
        arrays=tm.arrays_by_size(model, (tm.NATIVE, tm.OTHER), partial(_dino_outputs, student=student)),
        sizes=(tm.NATIVE, tm.OTHER),
        outputs=tm.TOKENS | tm.TABLE | {"output_student": "as output, of the student: output is the teacher's"},
        notes=(
            "the student has DistributedDataParallel's module. prefix; the teacher has none: main_dino.py wraps it "
            "only when there are batch norms",
        )
        * (student is not None),
    )


def _dino_model(arguments: Mapping[str, Any]) -> Any:
    nn, vits = importlib.import_module("torch.nn"), importlib.import_module("vision_transformer")
    return vits.VisionTransformer(norm_layer=partial(nn.LayerNorm, eps=1e-6), **arguments)


def _with_dino_head(arguments: Mapping[str, Any], out_dim: int) -> Any:
    utils, vits = importlib.import_module("utils"), importlib.import_module("vision_transformer")
    head = vits.DINOHead(arguments["embed_dim"], out_dim, hidden_dim=17, bottleneck_dim=9)
    return utils.MultiCropWrapper(_dino_model(arguments), head)


def _dino_training_file(teacher: Any, student: Any) -> dict[str, Any]:
    torch, utils = importlib.import_module("torch"), importlib.import_module("utils")
    return {
        "student": tm.prefixed("module.", tm.state_of(student)),
        "teacher": tm.state_of(teacher),
        "optimizer": tm.stepped(torch.optim.AdamW(utils.get_params_groups(student))),
        "epoch": 7,
        "args": argparse.Namespace(arch="vit_small", patch_size=4, out_dim=13, lr=0.0005, use_fp16=False),
        "dino_loss": {"center": torch.full((1, 13), 0.25)},
    }


def _dino_outputs(model: Any, x: Any, student: Any) -> dict[str, Any]:
    tokens = model.get_intermediate_layers(x, n=1)[0][:, 1:]
    shape = x.new_zeros(1, tokens.shape[1] + 1, model.embed_dim)  # only its shape is read
    table = model.interpolate_pos_encoding(shape, *x.shape[2:])
    found = {"output": model(x), "patch_tokens": tokens, "pos_embed": table}
    return found if student is None else found | {"output_student": student.double()(x)}


def dinov2() -> list[Case]:
    """Plain, with registers, SwiGLU, and the training file of a model in chunks."""
    antialias = dict(interpolate_offset=0.0, interpolate_antialias=True)
    return [
        _dinov2("plain", {}),
        _dinov2("registers", dict(num_register_tokens=3, **antialias)),
        _dinov2("swiglu", dict(ffn_layer="swiglufused")),
        _dinov2("chunked_training", dict(depth=4, block_chunks=2)),
    ]


def _dinov2(name: str, options: dict[str, Any]) -> Case:
    vits = importlib.import_module("dinov2.models.vision_transformer")
    layers = importlib.import_module("dinov2.layers")
    size = dict(img_size=20, patch_size=4, embed_dim=18, depth=2, num_heads=6, mlp_ratio=1.5)
    arguments = size | dict(init_values=1.0, block_chunks=0, interpolate_offset=0.1) | options
    block = partial(vits.Block, attn_class=layers.MemEffAttention)
    model = tm.filled(vits.DinoVisionTransformer(block_fn=block, **arguments), 1)
    contents: Any = tm.state_of(model)
    container = "torch.save of a flat state dict, as the hub files"
    if arguments["block_chunks"]:
        head = tm.filled(layers.DINOHead(arguments["embed_dim"], 13, nlayers=3, hidden_dim=17, bottleneck_dim=9), 2)
        both = tm.prefixed("backbone.", tm.state_of(model)) | tm.prefixed("dino_head.", tm.state_of(head))
        contents = {"teacher": both}
        container = "torch.save of {'teacher': {'backbone.*', 'dino_head.*'}}, as its training writes"
    return Case(
        family="dinov2",
        name=name,
        suffix=".pth",
        save=tm.saver(contents),
        container=container,
        constructor={"class": "dinov2.models.vision_transformer.DinoVisionTransformer", **arguments},
        config=_dinov2_config(tm.state_of(model), arguments),
        arrays=tm.arrays_by_size(model, (tm.NATIVE, tm.OTHER), _dinov2_outputs),
        sizes=(tm.NATIVE, tm.OTHER),
        outputs=tm.TOKENS | tm.TABLE,
        patches=("Tensor.float returns its tensor inside interpolate_pos_encoding, which would resize in float32",),
    )


def _dinov2_outputs(model: Any, x: Any) -> dict[str, Any]:
    with tm.no_float32():
        features = model.forward_features(x)
        output = model(x)
        tokens = x.new_zeros(1, features["x_norm_patchtokens"].shape[1] + 1, model.embed_dim)  # only its shape is read
        table = model.interpolate_pos_encoding(tokens, *x.shape[2:])
    return {"output": output, "patch_tokens": features["x_norm_patchtokens"], "pos_embed": table}


def _dinov2_config(state: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    return tm.config(
        arguments["embed_dim"],
        arguments["num_heads"],
        _mlp_dim(state),
        depth=arguments["depth"],
        num_registers=arguments.get("num_register_tokens", 0),
        layer_scale=True,
        pos_resize="bicubic_antialias" if "interpolate_antialias" in arguments else "bicubic_offset",
        **_swiglu(arguments),
    )


def _mlp_dim(state: Mapping[str, Any]) -> int:
    """The input width of the last layer of the first block's MLP."""
    last = (value for name, value in state.items() if name.endswith(("0.mlp.w3.weight", "0.mlp.fc2.weight")))
    return int(next(last).shape[1])


def _swiglu(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return dict(mlp="swiglu", act="silu") if "ffn_layer" in arguments else {}


def dinov3() -> list[Case]:
    """Three ways to hold the periods: bfloat16 as published, float32 buffers of them, and float32 throughout."""
    size = dict(img_size=20, patch_size=4, embed_dim=36, depth=2, num_heads=3, ffn_ratio=1.5)
    rope = dict(pos_embed_rope_base=100, pos_embed_rope_normalize_coords="separate", pos_embed_rope_rescale_coords=2)
    rest = dict(layerscale_init=1e-5, norm_layer="layernormbf16", n_storage_tokens=3, mask_k_bias=True)
    base = size | rope | rest
    no_bias = dict(ffn_layer="swiglu", qkv_bias=False, untie_global_and_local_cls_norm=True)
    return [
        _dinov3("mlp", base, "bfloat16", "bfloat16"),
        _dinov3("swiglu", base | dict(ffn_layer="swiglu"), "float32", "bfloat16"),
        _dinov3("swiglu_no_qkv_bias", base | no_bias, "bfloat16", "bfloat16"),
        _dinov3("float32_periods", base, "float32", "none"),
    ]


def _dinov3(name: str, arguments: dict[str, Any], stored: str, rounding: str) -> Case:
    """`stored`: dtype of the periods in the file. `rounding`: what their values were rounded to."""
    torch, vits = importlib.import_module("torch"), importlib.import_module("dinov3.models.vision_transformer")
    arguments = arguments | dict(pos_embed_rope_dtype="fp32")
    model = vits.DinoVisionTransformer(**arguments)
    model.init_weights()  # sets bias_mask and the periods
    tm.filled(model, 3)
    if rounding == "bfloat16":
        model.rope_embed.periods = model.rope_embed.periods.bfloat16().float()
    state = tm.state_of(model)
    state["rope_embed.periods"] = state["rope_embed.periods"].to(getattr(torch, stored))
    arrays = tm.arrays_by_size(model, (tm.NATIVE, tm.OTHER), partial(_dinov3_outputs, rounding=rounding))
    return Case(
        family="dinov3",
        name=name,
        suffix=".pth",
        save=tm.saver(state),
        container=f"torch.save of a flat state dict, as the hub files; rope_embed.periods is {stored}",
        constructor={"class": "dinov3.models.vision_transformer.DinoVisionTransformer", **arguments},
        config=_dinov3_config(state, arguments, rounding),
        arrays=arrays,
        sizes=(tm.NATIVE, tm.OTHER),
        outputs=tm.TOKENS | {"output_float32_rope": "as output, but sin and cos in float32, as the hub model does"},
        patches=(
            "rope_embed.dtype = float64: sin and cos in float64 instead of float32",
            "periods in float64: the stored ones" + ", computed again" * (rounding == "none"),
        ),
        notes=(
            f"output_float32_rope is {_gap(arrays):.1e} of the largest value away from output",
            "mask_k_bias without qkv_bias: neither bias nor bias_mask"
            if arguments.get("qkv_bias") is False
            else "qkv_bias 'qv': the file holds a bias for k too, which bias_mask (0 on k) takes out of the function",
        ),
    )


def _dinov3_config(state: Mapping[str, Any], arguments: Mapping[str, Any], rounding: str) -> dict[str, Any]:
    return tm.config(
        arguments["embed_dim"],
        arguments["num_heads"],
        _mlp_dim(state),
        num_registers=arguments["n_storage_tokens"],
        pos_embed="none",
        pos_prefix="none",
        norm_eps=1e-5,
        layer_scale=True,
        qkv_bias="none" if arguments.get("qkv_bias") is False else "qv",
        rope="dinov3",
        rope_theta=100.0,
        rope_round_periods=rounding,
        **_swiglu(arguments),
    )


def _dinov3_outputs(model: Any, x: Any, rounding: str) -> dict[str, Any]:
    torch, rope = importlib.import_module("torch"), model.rope_embed
    stored = rope.periods.float()
    rope.dtype, rope.periods = torch.float32, stored
    in_float32 = model(x)
    rope.dtype, rope.periods = torch.float64, stored.double()
    if rounding == "none":
        rope._init_weights()
    features = model.forward_features(x)
    output = {"output": model(x), "patch_tokens": features["x_norm_patchtokens"], "output_float32_rope": in_float32}
    rope.periods = stored
    return output


def _gap(arrays: Arrays) -> float:
    sizes = (tm.NATIVE, tm.OTHER)
    pairs = [(arrays[key("output", size)], arrays[key("output_float32_rope", size)]) for size in sizes]
    return float(max(np.abs(exact - rough).max() / np.abs(exact).max() for exact, rough in pairs))
