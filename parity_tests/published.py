"""Published weights: each downloaded, run in its own class and in both of ours, on a photograph, in float64.

`make test-published` runs them (a network is needed) and writes docs/published.json: what was compared, the hash of
the weights, and how far the answers were apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity_tests.pairs import nchw
from parity_tests.real.base import Answer
from parity_tests.tolerances import FORWARD, ROPE

Real = Callable[[], tuple[Path, Answer]]  # downloads: the checkpoint's path as a user has it, and its own answer


@dataclass(frozen=True)
class Published:
    """Weights that anyone can download."""

    name: str  # of the hub, or of torchvision's or torch.hub's own
    layout: str  # as which it is recognised
    family: str  # the name of one of that layout's families, which it is an example of
    real: Real
    preset: str | None = None
    tolerance: float = FORWARD


def of_transformers(name: str, auto: str, weights: str = "") -> Real:
    """A class of transformers, and of the repository's files the one that we take, or one of that name."""

    def real() -> tuple[Path, Answer]:
        import transformers

        from parity_tests.real.transformers import answer
        from vit_convert.files import local_path

        folder = local_path(f"hf-hub:{name}")
        model = getattr(transformers, auto).from_pretrained(folder)
        return (_fetched(name, weights) if weights else folder), answer(model)

    return real


def _fetched(name: str, file: str) -> Path:
    """One file of a repository of the hub, by its name."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, file))


def of_timm(name: str) -> Real:
    def real() -> tuple[Path, Answer]:
        import timm

        from vit_convert.files import local_path

        path = local_path(f"hf-hub:{name}")
        return path, partial(_run, timm.create_model(f"hf-hub:{name}", pretrained=True).double().eval())

    return real


def of_open_clip(name: str) -> Real:
    """A CLIP of open_clip: its own file, whatever transformers' that lies beside it."""

    def real() -> tuple[Path, Answer]:
        import open_clip

        _fetched(name, "open_clip_config.json")
        model = open_clip.create_model(f"hf-hub:{name}").double().eval()  # its weights come with it
        return _fetched(name, "open_clip_model.safetensors"), partial(_run, model.visual)

    return real


def of_torchvision(name: str, weights: str) -> Real:
    """torchvision downloads by itself; its state dict is what a user saves."""

    def real() -> tuple[Path, Answer]:
        from torchvision.models import get_model

        model = get_model(name, weights=weights)
        return _saved(model, name), partial(_run, model.double().eval())

    return real


def of_torch_hub(repository: str, name: str) -> Real:
    """torch.hub downloads the repository's code and its weights: the real class."""

    def real() -> tuple[Path, Answer]:
        hub: Any = torch.hub
        model = hub.load(repository, name, trust_repo=True)
        return _saved(model, name), partial(_run, model.double().eval())

    return real


def _saved(model: Any, name: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}.state_dict.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return path


def _run(model: Any, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(nchw(images)).double().numpy()


def of_npz(url: str, architecture: str, **options: Any) -> Real:
    """An npz of Google's, by timm's own loader, with the tanh GELU that it was trained with."""

    def real() -> tuple[Path, Answer]:
        import timm

        path = _downloaded(url)
        model = timm.create_model(architecture, act_layer="gelu_tanh", checkpoint_path=str(path), **options)
        return path, partial(_run, model.double().eval())

    return real


def of_meta(url: str, architecture: str, **options: Any) -> Real:
    """A file of DeiT's or MAE's repository, whose classes are made of timm's: by the class of timm's that it is."""

    def real() -> tuple[Path, Answer]:
        path = _downloaded(url)
        return path, partial(_run, meta_model(path, architecture, **options))

    return real


def meta_model(path: Path, architecture: str, **options: Any) -> torch.nn.Module:
    """timm's class with the weights of such a file: with every tensor that the class has."""
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    model: Any = timm.create_model(architecture, **options)
    state = checkpoint_filter_fn(torch.load(path, weights_only=True), model, adapt_layer_scale=True)
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    return model.double().eval()


def _downloaded(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        torch.hub.download_url_to_file(url, str(path))
    return path


_GOOGLE, _META = "https://storage.googleapis.com", "https://dl.fbaipublicfiles.com"
_TI16 = "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224.npz"


def _transformers(
    name: str, layout: str, family: str, auto: str = "AutoModelForImageClassification", **more: Any
) -> Published:
    return Published(name, f"transformers:{layout}", family, of_transformers(name, auto), **more)


def _timm(name: str, family: str, layout: str = "timm:vit", **more: Any) -> Published:
    return Published(f"timm/{name}", layout, family, of_timm(f"timm/{name}"), **more)


def _meta(path: str, architecture: str, layout: str, family: str, preset: str | None = None, **more: Any) -> Published:
    real = of_meta(f"{_META}/{path}", architecture, **more)
    return Published(path.rpartition("/")[2], layout, family, real, preset=preset)


def _dinov2(name: str, family: str) -> Published:
    repository = "facebookresearch/dinov2"
    return Published(f"{repository} {name}", "dinov2", family, of_torch_hub(repository, name))


_LAION = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
_EVA_CLIP = "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k"
_DEIT, _REGISTERS = "deit_tiny_patch16_224", "dinov2_with_registers"
PUBLISHED = (
    _transformers("google/vit-base-patch16-224", "vit", "ViT"),
    _transformers("facebook/deit-tiny-patch16-224", "vit", "ViT"),
    _transformers(
        "facebook/deit-tiny-distilled-patch16-224", "deit", "DeiT, distilled", "DeiTForImageClassificationWithTeacher"
    ),
    _transformers("facebook/vit-msn-small", "vit_msn", "ViT-MSN", "ViTMSNModel"),
    _transformers("facebook/vit-mae-base", "vit_mae", "ViT-MAE", "ViTMAEModel"),
    _transformers("facebook/ijepa_vith14_1k", "ijepa", "I-JEPA", "IJepaModel"),
    _transformers("facebook/dinov2-small-imagenet1k-1-layer", "dinov2", "DINOv2"),
    _transformers("facebook/dinov2-small", "dinov2", "DINOv2", "AutoModel"),
    _transformers("facebook/dinov2-with-registers-small", _REGISTERS, "DINOv2 with registers", "AutoModel"),
    _transformers("facebook/dinov3-vits16-pretrain-lvd1689m", "dinov3_vit", "DINOv3", "AutoModel"),
    _transformers("google/siglip-base-patch16-224", "siglip_vision_model", "SigLIP", "SiglipVisionModel"),
    _transformers("google/siglip2-base-patch16-224", "siglip_vision_model", "SigLIP", "SiglipVisionModel"),
    _transformers(
        "openai/clip-vit-base-patch32", "clip_vision_model", "CLIP with its projection", "CLIPVisionModelWithProjection"
    ),
    Published(
        "google/vit-base-patch16-224 flax_model.msgpack",
        "transformers_flax:vit",
        "ViT",
        of_transformers("google/vit-base-patch16-224", "ViTForImageClassification", "flax_model.msgpack"),
    ),
    _timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "ViT"),
    _timm("deit_tiny_distilled_patch16_224.fb_in1k", "DeiT, distilled"),
    _timm("deit3_small_patch16_224.fb_in1k", "DeiT III"),
    _timm("vit_small_patch14_reg4_dinov2.lvd142m", "DINOv2 with registers"),
    _timm("eva_large_patch14_196.in22k_ft_in1k", "averaged, as MAE and EVA fine-tuned"),
    _timm("vit_so150m_patch16_reg4_gap_256.sbb_e250_in12k_ft_in1k", "registers with positions"),
    _timm("vit_base_patch16_siglip_224.webli", "SigLIP"),
    _timm("vit_base_patch32_clip_224.openai", "CLIP"),
    _timm("beit3_base_patch16_224.in22k_ft_in1k", "BEiT-3"),
    _timm("test_vit.r160_in1k", "ViT"),
    _timm("vit_small_patch16_dinov3.lvd1689m", "DINOv3", "timm:eva", tolerance=ROPE),
    _timm("eva02_tiny_patch14_336.mim_in22k_ft_in1k", "EVA-02, packed", "timm:eva", tolerance=ROPE),
    _timm("eva02_base_patch14_224.mim_in22k", "EVA-02", "timm:eva", tolerance=ROPE),
    Published("torchvision vit_b_16", "torchvision", "ViT", of_torchvision("vit_b_16", "IMAGENET1K_V1")),
    Published(f"{_LAION} open_clip_model.safetensors", "open_clip:vit", "CLIP", of_open_clip(_LAION)),
    Published(
        "timm/ViT-B-16-SigLIP", "open_clip:timm", "no projection, as SigLIP", of_open_clip("timm/ViT-B-16-SigLIP")
    ),
    Published(
        f"{_EVA_CLIP} open_clip_model.safetensors", "open_clip:eva", "EVA-CLIP", of_open_clip(_EVA_CLIP), tolerance=ROPE
    ),
    _meta(f"deit/{_DEIT}-a1311bcf.pth", _DEIT, "timm:vit", "DeiT", _DEIT),
    _meta("deit/deit_3_small_224_1k.pth", "deit3_small_patch16_224", "deit3", "DeiT III"),
    _meta(
        "mae/pretrain/mae_pretrain_vit_base.pth",
        "vit_base_patch16_224",
        "timm:vit",
        "MAE",
        "mae_vit_base_patch16",
        num_classes=0,
        global_pool="token",
    ),
    Published(
        "facebookresearch/dino dino_vits16",
        "timm:vit",
        "DINO",
        of_torch_hub("facebookresearch/dino:main", "dino_vits16"),
        preset="dino_vits16",
    ),
    _dinov2("dinov2_vits14", "DINOv2"),
    _dinov2("dinov2_vits14_reg", "with registers"),
    Published(
        "vit_models AugReg Ti/16",
        "vit_jax",
        "ViT, AugReg",
        of_npz(f"{_GOOGLE}/vit_models/augreg/{_TI16}", "vit_tiny_patch16_224", num_classes=1000),
    ),
    Published(
        "big_vision SigLIP B/16",
        "big_vision",
        "SigLIP's image tower",
        of_npz(f"{_GOOGLE}/big_vision/siglip/webli_en_b16_224_63724782.npz", "vit_base_patch16_siglip_224"),
    ),
)
# Layouts without an example, and why.
UNPUBLISHED = {
    "dino": "training checkpoints: the published backbone has timm's names",
    "mae": "with its decoder: the published encoder has timm's names",
    "dinov3": "its own files are behind a form; transformers' and timm's of the same weights are here",
    "open_clip:clipa": "only large models are published",
    "scenic": "no address of a train state of its baseline ViT is known",
    "transformers_flax:clip_vision_model": "its table is that of the PyTorch class; ViT's Flax file is here",
    "transformers_flax:dinov2": "its table is that of the PyTorch class; ViT's Flax file is here",
}
