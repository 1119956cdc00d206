"""Google's JAX repositories: vision_transformer (vit_jax), big_vision, scenic."""

from parity_tests.families.golden import golden

FAMILIES = (
    golden("vision_transformer", "token_published", "vit_jax", "ViT, AugReg"),
    golden("vision_transformer", "token_pre_logits_published", "vit_jax", "ViT with pre_logits"),
    golden("vision_transformer", "gap_published", "vit_jax", "ViT, mean of patches"),
    golden("vision_transformer", "token", "vit_jax", "ViT, names of today's Flax", renamed=True),
    golden("vision_transformer", "gap_pre_logits", "vit_jax", "mean of patches, names of today's Flax", renamed=True),
    golden("big_vision", "gap", "big_vision", "mean of patches"),
    golden(
        "big_vision",
        "gap_sincos2d_rep",
        "big_vision",
        "fixed positions, pre_logits",
        given={"image_size": (20, 20)},
    ),
    golden("big_vision", "map", "big_vision", "attention pooling"),
    golden("big_vision", "map_scan", "big_vision", "scanned blocks", renamed=True),
    golden("big_vision", "siglip", "big_vision", "SigLIP's image tower", renamed=True),
    golden("big_vision", "siglip2_scan", "big_vision", "SigLIP 2's image tower, scanned", renamed=True),
    golden("big_vision", "tok_training", "big_vision", "class token, a training checkpoint", renamed=True),
    golden("big_vision", "tok_old_optimizer", "vit_jax", "class token, an old training checkpoint", renamed=True),
    golden("scenic", "token", "scenic", "class token", renamed=True),
    golden("scenic", "token_legacy_optimizer", "scenic", "class token, before optax", renamed=True),
    golden("scenic", "gap_pre_logits", "scenic", "mean of patches, pre_logits", renamed=True),
)
