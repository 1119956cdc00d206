"""Golden cases of facebookresearch/mae and deit, with the timm 0.3.2 that both were written for."""

import argparse
import ast
import collections.abc
import importlib
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.golden import torch_models as tm
from parity_tests.golden.case import Case
from parity_tests.golden.stand_ins import StandIn, stand_in

SIZES = (tm.NATIVE, tm.LARGER)  # both repositories resize square tables to square ones, and their models fix the size
SIZE = dict(patch_size=4, embed_dim=20, depth=2, num_heads=5, mlp_ratio=1.5)
SMALL = SIZE | dict(embed_dim=12, num_heads=3)
OLD_LIBRARIES = "stand-ins for torch._six and numpy.float, which timm 0.3.2 and MAE take from older libraries"


def _prepare() -> None:
    """What code from 2021 expects of torch and NumPy."""
    stand_in("torchvision.transforms.functional")
    sys.modules["torch._six"] = StandIn("torch._six", container_abcs=collections.abc)
    setattr(np, "float", float)  # noqa: B010  # NumPy's own types no longer have it


def _norm() -> Any:
    return partial(importlib.import_module("torch.nn").LayerNorm, eps=1e-6)


def mae() -> list[Case]:
    """Pre-training with its decoder as training writes it, the encoder alone, and a fine-tuned classifier."""
    _prepare()
    decoder = dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=4)
    return [
        _mae_pretrain("pretrain_with_decoder", SMALL | decoder),
        _mae_pretrain("pretrain_encoder", SIZE | decoder),
        _mae_finetuned("finetuned", dict(global_pool=True)),
    ]


def _mae_model(arguments: Mapping[str, Any], size: int) -> Any:
    models = importlib.import_module("models_mae")
    return models.MaskedAutoencoderViT(img_size=size, norm_layer=_norm(), **arguments)


def _mae_pretrain(name: str, arguments: dict[str, Any]) -> Case:
    torch = importlib.import_module("torch")
    model = _mae_model(arguments, 20)
    tables = {key: model.state_dict()[key].clone() for key in ("pos_embed", "decoder_pos_embed")}
    tm.filled(model, 11).load_state_dict(tables, strict=False)  # MAE's tables are fixed sines, not parameters
    whole = tm.state_of(model)
    encoder = {key: value for key, value in whole.items() if "decoder" not in key and key != "mask_token"}
    contents, container = {"model": encoder}, "torch.save of {'model'}, the encoder alone: no mask_token"
    if name == "pretrain_with_decoder":
        rest = dict(optimizer=tm.stepped(torch.optim.AdamW(model.parameters())), epoch=7, scaler={})
        contents = {"model": whole} | rest | dict(args=argparse.Namespace(model="mae_vit", mask_ratio=0.75))
        container = "torch.save of {'model', 'optimizer', 'epoch', 'scaler', 'args'}, as main_pretrain.py writes it"
    return Case(
        family="mae",
        name=name,
        suffix=".pth",
        save=tm.saver(contents),
        container=container,
        constructor={"class": "models_mae.MaskedAutoencoderViT", "img_size": 20, "norm_eps": 1e-6, **arguments},
        config=_config(arguments),
        arrays=tm.arrays_by_size(encoder, SIZES, partial(_mae_encoded, arguments)),
        sizes=SIZES,
        outputs=tm.TABLE
        | {
            "output": "forward_encoder(x, mask_ratio=0): the normed class token (batch, dim)",
            "patch_tokens": "the normed patch tokens (batch, patches, dim), row by row: unshuffled",
        },
        patches=(OLD_LIBRARIES,),
    )


def _mae_encoded(arguments: Mapping[str, Any], encoder: Mapping[str, Any], x: Any) -> dict[str, Any]:
    model = _mae_model(arguments, x.shape[2]).double().eval()
    _load_resized(model, encoder)
    importlib.import_module("torch").manual_seed(0)  # the encoder shuffles the patches even where it masks none
    latent, _, restore = model.forward_encoder(x, 0.0)
    places = restore.unsqueeze(-1).expand(-1, -1, latent.shape[2])
    return {"output": latent[:, 0], "patch_tokens": latent[:, 1:].gather(1, places), "pos_embed": model.pos_embed}


def _load_resized(model: Any, state: Mapping[str, Any]) -> None:
    """`state` in float64 through util/pos_embed.py's interpolation; the decoder may be missing."""
    state = {name: value.double() for name, value in state.items()}
    importlib.import_module("util.pos_embed").interpolate_pos_embed(model, state)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("decoder" in name or name == "mask_token" for name in missing), missing


def _mae_finetuned(name: str, options: dict[str, Any]) -> Case:
    models = importlib.import_module("models_vit")
    arguments = SIZE | dict(num_classes=11, qkv_bias=True) | options

    def made(size: int) -> Any:
        return models.VisionTransformer(img_size=size, norm_layer=_norm(), **arguments)

    def outputs(state: Mapping[str, Any], x: Any) -> dict[str, Any]:
        model = made(x.shape[2]).double().eval()
        _load_resized(model, state)
        return {"output": model(x), "pos_embed": model.pos_embed}

    state = tm.state_of(tm.filled(made(20), 12))
    return Case(
        family="mae",
        name=name,
        suffix=".pth",
        save=tm.saver({"model": state}),
        container="torch.save of {'model'}, as the published files",
        constructor={"class": "models_vit.VisionTransformer", "img_size": 20, "norm_eps": 1e-6, **arguments},
        config=_config(arguments) | dict(num_classes=11, pool="mean", final_norm="pooled"),
        arrays=tm.arrays_by_size(state, SIZES, outputs),
        sizes=SIZES,
        outputs=tm.LOGITS | tm.TABLE,
        patches=(OLD_LIBRARIES,),
    )


def _config(arguments: Mapping[str, Any]) -> dict[str, Any]:
    dim = arguments["embed_dim"]
    return tm.config(dim, arguments["num_heads"], int(dim * arguments["mlp_ratio"]), pos_resize="bicubic")


def deit() -> list[Case]:
    """DeiT, distilled, DeiT III, and a training file with an average of the weights."""
    _prepare()
    distilled = dict(dist_token=True, pool="class_dist")
    third = dict(layer_scale=True, pos_prefix="none")
    return [
        _deit("plain", "timm.models.vision_transformer.VisionTransformer", {}),
        _deit("distilled", "models.DistilledVisionTransformer", distilled),
        _deit("deit3", "models_v2.vit_models", third),
        _deit("training", "timm.models.vision_transformer.VisionTransformer", {}, training=True),
    ]


def _deit(name: str, class_path: str, facts: dict[str, Any], training: bool = False) -> Case:
    arguments = (SMALL if training else SIZE) | dict(num_classes=11, qkv_bias=True)
    model, average = (tm.filled(_deit_model(class_path, arguments, 20), seed) for seed in (13, 14))
    state, averaged = tm.state_of(model), tm.state_of(average) if training else None
    return Case(
        family="deit",
        name=name,
        suffix=".pth",
        save=tm.saver(_deit_training_file(model, averaged) if training else {"model": state}),
        container="torch.save of {'model', 'optimizer', 'lr_scheduler', 'epoch', 'model_ema', 'scaler', 'args'}, as "
        "main.py writes checkpoint.pth"
        if training
        else "torch.save of {'model'}, as the published files",
        constructor={"class": class_path, "img_size": 20, "norm_eps": 1e-6, **arguments},
        config=_config(arguments) | dict(num_classes=11) | facts,
        arrays=tm.arrays_by_size(state, SIZES, partial(_deit_outputs, class_path, arguments, averaged)),
        sizes=SIZES,
        outputs=tm.LOGITS | tm.TABLE | {"output_model_ema": "as output, of model_ema: output is model's"},
        patches=(OLD_LIBRARIES,),
    )


def _deit_model(class_path: str, arguments: Mapping[str, Any], size: int) -> Any:
    module, _, name = class_path.rpartition(".")
    options = dict(arguments)
    if name == "vit_models":
        options["block_layers"] = importlib.import_module(module).Layer_scale_init_Block
    return getattr(importlib.import_module(module), name)(img_size=size, norm_layer=_norm(), **options)


def _deit_outputs(
    class_path: str, arguments: Mapping[str, Any], averaged: Mapping[str, Any] | None, state: Any, x: Any
) -> dict[str, Any]:
    model = _deit_model(class_path, arguments, x.shape[2]).double().eval()
    _deit_load(model, state)
    found = {"output": model(x), "pos_embed": model.pos_embed.detach().clone()}
    if averaged is None:
        return found
    _deit_load(model, averaged)
    return found | {"output_model_ema": model(x)}


def _deit_load(model: Any, state: Mapping[str, Any]) -> None:
    """`state` in float64, its table resized by the statements of main.py themselves: they aren't in a function."""
    main = Path(importlib.import_module("models").__file__ or "").with_name("main.py")
    names = {"checkpoint_model": {name: value.double() for name, value in state.items()}, "model": model}
    names |= {"torch": importlib.import_module("torch")}
    exec(compile(_resize_statements(main), str(main), "exec"), names)
    model.load_state_dict(names["checkpoint_model"])


def _resize_statements(main: Path) -> ast.Module:
    """Those of `if args.finetune:` from pos_embed_checkpoint's to the one that puts the new table in its place."""
    tree = ast.parse(main.read_text("utf-8"))
    branch = next(n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "args.finetune")
    lines = [ast.unparse(statement) for statement in branch.body]
    first = next(i for i, line in enumerate(lines) if line.startswith("pos_embed_checkpoint ="))
    last = next(i for i, line in enumerate(lines) if line == "checkpoint_model['pos_embed'] = new_pos_embed")
    return ast.Module(branch.body[first : last + 1], type_ignores=[])


def _deit_training_file(model: Any, averaged: Any) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    optimizer = torch.optim.AdamW(model.parameters())
    return {
        "model": tm.state_of(model),
        "optimizer": tm.stepped(optimizer),
        "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10).state_dict(),
        "epoch": 7,
        "model_ema": averaged,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000},
        "args": argparse.Namespace(model="deit_small_patch16_224", input_size=20, nb_classes=11),
    }
