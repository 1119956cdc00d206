"""What the command does without a config: scikit-learn's digits, in two minutes or so."""

from typing import Any

RECIPE = "digits, the specification's own"
DIGITS: dict[str, Any] = {
    "model": {
        "image_size": 8, "patch_size": 2, "in_channels": 1, "dim": 64, "depth": 4, "num_heads": 4, "mlp_dim": 256,
        "num_classes": 10,
    },
    "data": {"name": "digits", "mean": [0.3053], "std": [0.3761]},
    "start": {"fan_in_kernels": True, "pos_embed_std": 0.5},
    # no flip: a mirrored 2 is no 2
    "augment": {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "mix_share": 0.5, "label_smoothing": 0.1},
    "optimizer": {"weight_decay": 0.05, "clip_norm": 1.0},
    "schedule": {"learning_rate": 2e-3, "warmup_epochs": 4.5},
    "batch_size": 64,
    "steps": 990,
    "drop_path": 0.1,
    "ema_decay": 0.99,
    "eval_epochs": 45,
    "log": {"steps": 100},
}  # fmt: skip
