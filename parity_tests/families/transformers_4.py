"""What transformers 4 wrote: the PyTorch classes' older names, and the Flax classes that transformers 5 has no more."""

from parity_tests.families import transformers
from parity_tests.families.golden import golden
from vit_convert.layouts.transformers_flax import TRANSFORMERS_FLAX

TORCH, FLAX = "transformers_4", "transformers_4_flax"

FAMILIES = (
    golden(TORCH, "vit", "transformers:vit", "ViT of transformers 4"),
    golden(TORCH, "clip_vision", "transformers:clip_vision_model", "CLIP of transformers 4"),
    golden(TORCH, "siglip_vision", "transformers:siglip_vision_model", "SigLIP of transformers 4"),
    golden(TORCH, "dinov2", "transformers:dinov2", "DINOv2 of transformers 4", beside=("embeddings.mask_token",)),
    golden(FLAX, "vit", "transformers_flax:vit", "ViT"),
    golden(FLAX, "clip_vision", "transformers_flax:clip_vision_model", "CLIP"),
    golden(FLAX, "dinov2_classifier", "transformers_flax:dinov2", "DINOv2", renamed=True),
)


_TORCH_NAMES = {layout.name: layout.name.replace("_flax", "") for layout in TRANSFORMERS_FLAX}
HELD = {layout.name: transformers.held(layout) for layout in TRANSFORMERS_FLAX}
RESIZE = {name: transformers.RESIZE[torch_name] for name, torch_name in _TORCH_NAMES.items()}
