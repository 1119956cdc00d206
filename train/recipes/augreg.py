"""Steiner et al. 2022, How to train your ViT? (arXiv 2106.10270): ImageNet-1k alone."""

from train.config import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.recipes.imagenet import google_data, google_start, vit

# The paper's names for how strong: MixUp's alpha and RandAugment's magnitude, of two operations.
AUGMENTATIONS = {"light2": (0.2, 10.0), "medium2": (0.5, 15.0)}


def augreg_s32() -> TrainConfig:
    """ViT-S/32 on ImageNet-1k, 300 epochs, light augmentation.

    Command: `vit-train augreg_s32 --workdir runs/s32 --data.dir TFDS_DIR`
    Cost: 2.6e18 floating-point operations, 6 hours at 125 TFLOP/s.
    Result: published weights have other decay or augmentation (the paper, figure 4, has many); not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py, aug=light2. What differs is what
    simple_vit_s16_i1k says.
    """
    return _augreg("S/32", "light2")


def augreg_s16() -> TrainConfig:
    """ViT-S/16 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_s16 --workdir runs/s16 --data.dir TFDS_DIR`
    Cost: 1.0e19 floating-point operations, 23 hours at 125 TFLOP/s.
    Result: 78.8% with the published weights (timm's results-imagenet.csv); not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py, aug=medium2. What differs is what
    simple_vit_s16_i1k says.
    """
    return _augreg("S/16", "medium2")


def augreg_b32() -> TrainConfig:
    """ViT-B/32 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_b32 --workdir runs/b32 --data.dir TFDS_DIR`
    Cost: 1.0e19 floating-point operations, 22 hours at 125 TFLOP/s.
    Result: 74.9% with the published weights (timm's results-imagenet.csv); not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py, aug=medium2. What differs is what
    simple_vit_s16_i1k says.
    """
    return _augreg("B/32", "medium2")


def augreg_b16() -> TrainConfig:
    """ViT-B/16 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_b16 --workdir runs/b16 --data.dir TFDS_DIR`
    Cost: 4.0e19 floating-point operations, 89 hours at 125 TFLOP/s.
    Result: 79.2% with the published weights (timm's results-imagenet.csv); not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py, aug=medium2. What differs is what
    simple_vit_s16_i1k says.
    """
    return _augreg("B/16", "medium2")


def augreg_l16() -> TrainConfig:
    """ViT-L/16 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_l16 --workdir runs/l16 --data.dir TFDS_DIR --devices.fsdp`
    Cost: 1.4e20 floating-point operations, 310 hours at 125 TFLOP/s.
    Result: published weights have other decay or augmentation (the paper, figure 4, has many); not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py, aug=medium2. What differs is what
    simple_vit_s16_i1k says.
    """
    return _augreg("L/16", "medium2")


def _augreg(variant: str, augmentation: str) -> TrainConfig:
    alpha, magnitude = AUGMENTATIONS[augmentation]
    model = vit(variant, act="gelu_tanh")
    model = model.replace(pre_logits=model.dim)
    return TrainConfig(
        model=model,
        data=google_data(),
        start=google_start(model),
        augment=AugmentConfig(
            flip=True, rand_augment_layers=2, rand_augment_magnitude=magnitude, rand_augment_std=0,
            rand_augment_prob=1, rand_augment_increasing=False, rand_augment_interpolation="nearest", mixup_alpha=alpha,
        ),
        optimizer=OptimizerConfig(weight_decay=1e-4, decay_times_peak=False, clip_norm=1.0),
        schedule=ScheduleConfig(learning_rate=1e-3, warmup_epochs=32.3),  # 10,000 steps
        batch_size=4096,
        epochs=300,
        dtype="bfloat16",
        scan=True,
    )  # fmt: skip
