"""Published weights: each downloaded, run in its own class and in both of ours, on a photograph, in float64.

`make test-published` runs them (a network is needed) and writes docs/published.json: what was compared, the hash of
the weights, and how far the answers were apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity_tests.families.base import Answer
from parity_tests.pairs import nchw
from parity_tests.tolerances import FORWARD, ROPE

Real = Callable[[], tuple[Path, Answer]]  # downloads: the checkpoint's path as a user has it, and its own answer


@dataclass(frozen=True)
class Published:
    """Weights that anyone can download."""

    name: str  # of the hub, or of torchvision's or torch.hub's own
    layout: str
    real: Real
    given: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    tolerance: float = FORWARD


def of_transformers(name: str, auto: str = "AutoModelForImageClassification", output: str = "logits") -> Real:
    def real() -> tuple[Path, Answer]:
        import transformers

        from vit_convert.files import local_path

        path = local_path(f"hf-hub:{name}")
        model = getattr(transformers, auto).from_pretrained(path, dtype=torch.float64).eval()
        return path, partial(_run, model, output)

    return real


def of_timm(name: str) -> Real:
    def real() -> tuple[Path, Answer]:
        import timm

        from vit_convert.files import local_path

        path = local_path(f"hf-hub:{name}")
        return path, partial(_run, timm.create_model(f"hf-hub:{name}", pretrained=True).double().eval(), "")

    return real


def of_open_clip(name: str) -> Real:
    def real() -> tuple[Path, Answer]:
        import open_clip

        from vit_convert.files import local_path

        path = local_path(f"hf-hub:{name}")
        model = open_clip.create_model(f"hf-hub:{name}").double().eval()  # its weights come with it
        return path, partial(_run, model.visual, "")

    return real


def of_torchvision(name: str, weights: str) -> Real:
    """torchvision downloads by itself; its state dict is what a user saves."""

    def real() -> tuple[Path, Answer]:
        from torchvision.models import get_model

        model = get_model(name, weights=weights)
        return _saved(model, name), partial(_run, model.double().eval(), "")

    return real


def of_torch_hub(repository: str, name: str) -> Real:
    """torch.hub downloads the repository's code and its weights: the real class."""

    def real() -> tuple[Path, Answer]:
        hub: Any = torch.hub
        model = hub.load(repository, name, trust_repo=True)
        return _saved(model, name), partial(_run, model.double().eval(), "")

    return real


def _saved(model: Any, name: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}.state_dict.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return path


def _run(model: Any, output: str, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = model(nchw(images))
    return (getattr(found, output) if output else found).double().numpy()


def of_npz(url: str, architecture: str) -> Real:
    """An npz of Google's, by timm's own loader, with the tanh GELU that it was trained with."""

    def real() -> tuple[Path, Answer]:
        import timm

        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            torch.hub.download_url_to_file(url, str(path))
        model = timm.create_model(architecture, act_layer="gelu_tanh", num_classes=1000, checkpoint_path=str(path))
        return path, partial(_run, model.double().eval(), "")

    return real


_CLASSIFIER, _MODEL = "AutoModelForImageClassification", "AutoModel"
_AUGREG = "https://storage.googleapis.com/vit_models/augreg"
_TI16 = "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224.npz"


def _transformers(name: str, layout: str, auto: str = _CLASSIFIER, output: str = "logits", **more: Any) -> Published:
    return Published(name, f"transformers:{layout}", of_transformers(name, auto, output), **more)


def _timm(name: str, layout: str = "timm:vit", **more: Any) -> Published:
    return Published(f"timm/{name}", layout, of_timm(f"timm/{name}"), **more)


PUBLISHED = (
    _transformers("google/vit-base-patch16-224", "vit"),
    _transformers("facebook/deit-tiny-patch16-224", "vit"),
    _transformers("facebook/deit-tiny-distilled-patch16-224", "deit", "DeiTForImageClassificationWithTeacher"),
    _transformers("facebook/dinov2-small", "dinov2", _MODEL, "pooler_output"),
    _transformers("facebook/dinov2-with-registers-small", "dinov2_with_registers", _MODEL, "pooler_output"),
    _transformers("facebook/dinov2-small-imagenet1k-1-layer", "dinov2"),
    _transformers("facebook/dinov3-vits16-pretrain-lvd1689m", "dinov3_vit", _MODEL, "pooler_output", tolerance=ROPE),
    _transformers("google/siglip-base-patch16-224", "siglip_vision_model", "SiglipVisionModel", "pooler_output"),
    _transformers("google/siglip2-base-patch16-224", "siglip_vision_model", "SiglipVisionModel", "pooler_output"),
    _transformers("openai/clip-vit-base-patch32", "clip_vision_model", "CLIPVisionModelWithProjection", "image_embeds"),
    _timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k"),
    _timm("deit_tiny_distilled_patch16_224.fb_in1k"),
    _timm("deit3_small_patch16_224.fb_in1k"),
    _timm("vit_small_patch14_reg4_dinov2.lvd142m"),
    _timm("vit_base_patch16_siglip_224.webli"),
    _timm("vit_base_patch32_clip_224.openai"),
    _timm("beit3_base_patch16_224.in22k_ft_in1k"),
    _timm("aimv2_large_patch14_224.apple_pt"),
    _timm("vit_small_patch16_dinov3.lvd1689m", "timm:eva", tolerance=ROPE),
    _timm("eva02_tiny_patch14_336.mim_in22k_ft_in1k", "timm:eva", tolerance=ROPE),
    Published("torchvision vit_b_16", "torchvision", of_torchvision("vit_b_16", "IMAGENET1K_V1")),
    Published(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip", of_open_clip("laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    ),
    Published(
        "facebookresearch/dino dino_vits16",
        "timm:vit",
        of_torch_hub("facebookresearch/dino:main", "dino_vits16"),
        preset="dino_vits16",
    ),
    Published(
        "facebookresearch/dinov2 dinov2_vits14", "dinov2", of_torch_hub("facebookresearch/dinov2", "dinov2_vits14")
    ),
    Published(
        "facebookresearch/dinov2 dinov2_vits14_reg",
        "dinov2",
        of_torch_hub("facebookresearch/dinov2", "dinov2_vits14_reg"),
    ),
    Published("vit_models AugReg Ti/16", "vit_jax", of_npz(f"{_AUGREG}/{_TI16}", "vit_tiny_patch16_224")),
)
