"""Touvron et al. 2021, Training data-efficient image transformers (DeiT, arXiv 2012.12877).

What differs from facebookresearch/deit on timm: the learning rate changes with every step, there with every epoch;
warmup begins at 0, there at 1e-6; and mixing, as `train/augment/mix.py` says.
"""

from train.config import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.recipes.imagenet import meta_data, vit


def deit_ti() -> TrainConfig:
    """DeiT-Ti/16 on ImageNet-1k, 300 epochs.

    Command: `vit-train deit_ti --workdir runs/deit_ti --data.dir TFDS_DIR`
    Cost: 2.9e18 floating-point operations, 6.4 hours at 125 TFLOP/s.
    Result: published 72.2%; not run here.
    Reference: Touvron et al. 2021 (arXiv 2012.12877), table 9; facebookresearch/deit, main.py.
    """
    return _deit("Ti/16")


def deit_s() -> TrainConfig:
    """DeiT-S/16 on ImageNet-1k, 300 epochs.

    Command: `vit-train deit_s --workdir runs/deit_s --data.dir TFDS_DIR`
    Cost: 1.1e19 floating-point operations, 24 hours at 125 TFLOP/s.
    Result: published 79.9%; not run here.
    Reference: Touvron et al. 2021 (arXiv 2012.12877), table 9; facebookresearch/deit, main.py.
    """
    return _deit("S/16")


def deit_b() -> TrainConfig:
    """DeiT-B/16 on ImageNet-1k, 300 epochs.

    Command: `vit-train deit_b --workdir runs/deit_b --data.dir TFDS_DIR`
    Cost: 4.0e19 floating-point operations, 90 hours at 125 TFLOP/s.
    Result: published 81.8%; not run here.
    Reference: Touvron et al. 2021 (arXiv 2012.12877), table 9; facebookresearch/deit, main.py.
    """
    return _deit("B/16")


def _deit(variant: str) -> TrainConfig:
    return TrainConfig(
        model=vit(variant),
        data=meta_data(),
        augment=AugmentConfig(
            flip=True,
            rand_augment_layers=2,  # rand-m9-mstd0.5-inc1, which leaves no colour jitter in timm
            mixup_alpha=0.8,
            cutmix_alpha=1.0,
            erase_prob=0.25,
            label_smoothing=0.1,
        ),
        optimizer=OptimizerConfig(weight_decay=0.05, clip_norm=None),
        schedule=ScheduleConfig(learning_rate=1e-3, warmup_epochs=5, final_fraction=0.01),
        batch_size=1024,
        epochs=300,
        dtype="bfloat16",
        drop_path=0.1,
    )
