"""Beyer et al. 2022, Better plain ViT baselines for ImageNet-1k (arXiv 2205.01580)."""

from typing import Any

from train.config import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.recipes.imagenet import google_data, google_start, vit


def simple_vit_s16_i1k() -> TrainConfig:
    """ViT-S/16 with mean pooling and sin-cos positions on ImageNet-1k, 90 epochs.

    Command: `vit-train simple_vit_s16_i1k --workdir runs/s16 --data.dir TFDS_DIR`; `--epochs 300` for 80%.
    Cost: 3.1e18 floating-point operations, 7 hours at 125 TFLOP/s; the authors: 6 to 7 hours on a TPU v3-8.
    Result: published 76.5% after 90 epochs, 80.0% after 300; not run here.
    Reference: Beyer et al. 2022 (arXiv 2205.01580); big_vision/configs/vit_s16_i1k.py. What differs: RandAugment's
    operations are timm's, kernels begin with variance 1/fan_in where big_vision draws Glorot-uniform ones, Adam's mean
    is in float32.
    """
    plain: dict[str, Any] = dict(class_token=False, pos_prefix="none", pos_embed="sincos2d", pool="mean")
    model = vit("S/16", pre_logits=384, act="gelu_tanh", **plain)
    return TrainConfig(
        model=model,
        data=google_data(),
        start=google_start(model),
        augment=AugmentConfig(
            flip=True, rand_augment_layers=2, rand_augment_magnitude=10, rand_augment_std=0,
            rand_augment_prob=1, rand_augment_increasing=False, rand_augment_interpolation="nearest", mixup_alpha=0.2,
        ),
        optimizer=OptimizerConfig(weight_decay=1e-4, decay_times_peak=False, clip_norm=1.0),
        schedule=ScheduleConfig(learning_rate=1e-3, warmup_epochs=10_000 / 1238),  # 10,000 steps
        batch_size=1024,
        epochs=90,
        dtype="bfloat16",
    )  # fmt: skip
