"""What transformers 4 wrote: the PyTorch classes' older names, and the Flax classes that transformers 5 has no more."""

from parity_tests.families.golden import golden

TORCH, FLAX = "transformers_4", "transformers_4_flax"

FAMILIES = (
    golden(TORCH, "vit", "transformers:vit", "ViT"),
    golden(TORCH, "clip_vision", "transformers:clip_vision_model", "CLIP", renamed=True),
    golden(TORCH, "siglip_vision", "transformers:siglip_vision_model", "SigLIP", renamed=True),
    golden(TORCH, "dinov2", "transformers:dinov2", "DINOv2"),
    golden(FLAX, "vit", "transformers_flax:vit", "ViT"),
    golden(FLAX, "clip_vision", "transformers_flax:clip_vision_model", "CLIP", renamed=True),
    golden(FLAX, "dinov2_classifier", "transformers_flax:dinov2", "DINOv2", renamed=True),
)
