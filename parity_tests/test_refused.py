"""What is known and not read is refused by name: the real classes' own files, by their config and by their tensors."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models import save_for_hf

from parity_tests.peers import import_torchvision
from vit_convert.checkpoint import open_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.layouts.refused import OPEN_CLIP, TIMM, TORCHVISION, Refusal

VIT = dict(img_size=32, patch_size=16, embed_dim=24, depth=1, num_heads=2, num_classes=3)
GROUPED = dict(depth=1, num_kv_heads=1)
# An architecture of each, and the options that make it small.
TIMMS: dict[str, tuple[str, dict[str, Any]]] = {
    "a ViT with parallel attention and MLP (ParallelScalingBlock)": ("vit_pwee_patch16_reg1_gap_256", VIT),
    "a ViT with differential attention": ("vit_dwee_patch16_reg1_gap_256", VIT),
    "a ViT with parallel things (ParallelThingsBlock)": ("vit_small_patch16_18x2_224", VIT),
    "a post-norm ViT": ("eva02_enormous_patch14_clip_224", VIT),
    "timm's test_vit3": ("test_vit3", VIT),
    "a ViT with rotary positions of learned, mixed frequencies": ("vit_small_patch16_rope_mixed_224", VIT),
    "a ViT with rotary positions that count columns first": ("vit_small_patch16_rope_224", VIT),
    "PE (Perception Encoder)": ("vit_pe_core_tiny_patch16_384", VIT | dict(attn_pool_num_heads=2)),
    "Sapiens2": ("vit_base_patch16_sapiens2", VIT | GROUPED),
    "a BEiT with relative positions": ("beit_base_patch16_224", VIT),
    "a ViT with relative positions": ("vit_relpos_small_patch16_224", VIT),
    "a hybrid ViT": ("vit_tiny_r_s16_p8_224", dict(embed_dim=24, depth=1, num_heads=2)),
    "NaFlexViT": ("naflexvit_base_patch16_gap", dict(embed_dim=24, depth=1, num_heads=2)),
}
CLIP: dict[str, Any] = dict(image_size=32, width=24, head_width=12)
OPEN_CLIPS = {
    "a CoCa or another CLIP with attentional pooling": CLIP | dict(layers=1, patch_size=16, attentional_pool=True),
    "a CLIP with a ResNet": CLIP | dict(layers=[1, 1, 1, 1]),
}


def by_name(refusals: tuple[Refusal, ...]) -> dict[str, Refusal]:
    return {refusal.what: refusal for refusal in refusals}


def test_each_refusal_has_an_example():
    assert set(TIMMS) == set(by_name(TIMM))
    assert set(OPEN_CLIPS) == set(by_name(OPEN_CLIP))
    assert len(TORCHVISION) == 1


@pytest.mark.parametrize("what", TIMMS)
def test_timm_s_files_are_refused_by_their_architecture(tmp_path, what):
    save_for_hf(timm_model(what), str(tmp_path), safe_serialization=True)
    refused(tmp_path, by_name(TIMM)[what])


@pytest.mark.parametrize("what", [refusal.what for refusal in TIMM if refusal.names])
def test_timm_s_files_are_refused_by_their_tensors(tmp_path, what):
    safetensors.torch.save_model(timm_model(what), str(tmp_path / "bare.safetensors"))
    refused(tmp_path / "bare.safetensors", by_name(TIMM)[what])


def timm_model(what: str) -> torch.nn.Module:
    name, options = TIMMS[what]
    return timm.create_model(name, **options)


@pytest.mark.parametrize("what", OPEN_CLIPS)
def test_open_clip_s_towers_are_refused_by_their_tensors(tmp_path, what):
    import_torchvision()
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    tower = _build_vision_tower(16, CLIPVisionCfg(**OPEN_CLIPS[what]))
    state = {f"visual.{name}": tensor.contiguous() for name, tensor in tower.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "clip.safetensors")
    refused(tmp_path / "clip.safetensors", by_name(OPEN_CLIP)[what])


def test_torchvision_s_convolutional_stem_is_refused_by_its_tensors(tmp_path):
    import_torchvision()
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    stem = [ConvStemConfig(out_channels=8, kernel_size=3, stride=16)]
    model = VisionTransformer(32, 16, 1, 2, 24, 24, conv_stem_configs=stem)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    refused(tmp_path / "vit.pth", TORCHVISION[0])


def refused(path: Path, refusal: Refusal) -> None:
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(path)
    assert str(error.value).endswith(f": {refusal.what} is not read: {refusal.why}")
