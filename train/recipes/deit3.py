"""Touvron et al. 2022, DeiT III: Revenge of the ViT (arXiv 2204.07118): LAMB, binary cross-entropy, 3-Augment."""

from dataclasses import replace

from train.config import AugmentConfig, OptimizerConfig, ScheduleConfig, StartConfig, TrainConfig
from train.recipes.imagenet import meta_data, vit


def deit3_s() -> TrainConfig:
    """DeiT III-S/16 on ImageNet-1k, 800 epochs.

    Command: `vit-train deit3_s --workdir runs/deit3_s --data.dir TFDS_DIR`
    Cost: 2.8e19 floating-point operations, 63 hours at 125 TFLOP/s.
    Result: published 81.4%; not run here.
    Reference: Touvron et al. 2022 (arXiv 2204.07118); facebookresearch/deit, README_revenge.md. What differs: warmup
    begins at 0, there at 1e-6.
    """
    return _deit3("S/16", size=224, learning_rate=4e-3, drop_path=0.05)


def deit3_b() -> TrainConfig:
    """DeiT III-B/16 on ImageNet-1k, 800 epochs at 192 pixels.

    Command: `vit-train deit3_b --workdir runs/deit3_b --data.dir TFDS_DIR`, and then 20 epochs at 224 pixels:
    `vit-train finetune --init runs/deit3_b --init-size 224 --workdir runs/deit3_b_224 --data.dir TFDS_DIR
    --data.name imagenet2012 --data.test-split validation --data.eval-crop 1 --data.min-area 0.08 --batch-size 512
    --schedule.learning-rate 1e-5 --schedule.warmup-epochs 5 --optimizer.weight-decay 0.1 --optimizer.layer-decay None
    --schedule.final-fraction 1 --optimizer.clip-norm None --augment.mixup-alpha 0.8 --augment.cutmix-alpha 1
    --drop-path 0.2 --drop-path-schedule constant --dtype bfloat16`
    Cost: 7.9e19 floating-point operations, 175 hours at 125 TFLOP/s.
    Result: published 83.8% after the 20 epochs at 224 pixels; not run here.
    Reference: Touvron et al. 2022 (arXiv 2204.07118); facebookresearch/deit, README_revenge.md. What differs: warmup
    begins at 0, there at 1e-6.
    """
    return _deit3("B/16", size=192, learning_rate=3e-3, drop_path=0.2)


def deit3_l() -> TrainConfig:
    """DeiT III-L/16 on ImageNet-1k, 800 epochs at 192 pixels.

    Command: `vit-train deit3_l --workdir runs/deit3_l --data.dir TFDS_DIR --devices.fsdp`, and then 20 epochs at 224
    pixels with deit3_b's second command, but for `--init runs/deit3_l`, `--drop-path 0.45` and another `--workdir`
    Cost: 2.8e20 floating-point operations, 610 hours at 125 TFLOP/s.
    Result: published 84.9% after 20 epochs at 224 pixels; not run here.
    Reference: Touvron et al. 2022 (arXiv 2204.07118); facebookresearch/deit, README_revenge.md. What differs: warmup
    begins at 0, there at 1e-6.
    """
    return _deit3("L/16", size=192, learning_rate=3e-3, drop_path=0.45)


def _deit3(variant: str, *, size: int, learning_rate: float, drop_path: float) -> TrainConfig:
    return TrainConfig(
        model=vit(variant, image_size=size, layer_scale=True, pos_prefix="none"),
        data=replace(meta_data(), eval_crop=1.0),
        augment=AugmentConfig(flip=True, three_augment=True, color_jitter=0.3, mixup_alpha=0.8, cutmix_alpha=1.0),
        # what apex's FusedLAMB does unasked: eps 1e-6, gradients clipped at norm 1
        optimizer=OptimizerConfig(name="lamb", weight_decay=0.05, eps=1e-6, clip_norm=1.0),
        schedule=ScheduleConfig(learning_rate=learning_rate, warmup_epochs=5, final_fraction=1e-5 / learning_rate),
        batch_size=2048,
        epochs=800,
        start=StartConfig(layer_scale=1e-4),  # models_v2.py, init_scale
        loss="sigmoid",
        binary_targets=True,
        dtype="bfloat16",
        drop_path=drop_path,
        drop_path_schedule="constant",
        scan=True,
    )
