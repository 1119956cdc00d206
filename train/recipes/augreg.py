"""Steiner et al. 2022, How to train your ViT? (arXiv 2106.10270): ImageNet-1k alone.

The settings are big_vision's of 2022 (configs/vit_i1k.py from its first commit, 95ccb15, to 8921d51): softmax
cross-entropy. Since f071ce6 that file has a sigmoid's loss, summed over the classes, a head whose bias begins at -6.9,
and for S/32 medium1. It leaves out dropout and stochastic depth, which the paper's best B and L have.
"""

from train.config import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.recipes.imagenet import google_data, google_start, vit

# The paper's names for how strong: MixUp's alpha and RandAugment's magnitude, of two operations.
AUGMENTATIONS = {"light2": (0.2, 10.0), "medium2": (0.5, 15.0)}


def augreg_s32() -> TrainConfig:
    """ViT-S/32 on ImageNet-1k, 300 epochs, light augmentation.

    Command: `vit-train augreg_s32 --workdir runs/s32 --data.dir TFDS_DIR`
    Cost: 2.6e18 floating-point operations, 6 hours at 125 TFLOP/s.
    Result: none is published for these settings: the weights that are have other decay or augmentation (the paper,
    figure 4, has many); not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py at 8921d51 (its loss has been a
    sigmoid's since), aug=light2. What differs is what simple_vit_s16_i1k says.
    """
    return _augreg("S/32", "light2")


def augreg_s16() -> TrainConfig:
    """ViT-S/16 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_s16 --workdir runs/s16 --data.dir TFDS_DIR`
    Cost: 1.0e19 floating-point operations, 23 hours at 125 TFLOP/s.
    Result: 78.8% with the published weights (timm's results-imagenet.csv), which 20,000 steps of fine-tuning followed;
    not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py at 8921d51 (its loss has been a
    sigmoid's since), aug=medium2. What differs is what simple_vit_s16_i1k says.
    """
    return _augreg("S/16", "medium2")


def augreg_b32() -> TrainConfig:
    """ViT-B/32 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_b32 --workdir runs/b32 --data.dir TFDS_DIR`
    Cost: 1.0e19 floating-point operations, 22 hours at 125 TFLOP/s.
    Result: 74.9% with the published weights (timm's results-imagenet.csv), which had dropout and stochastic depth of
    0.1 and 20,000 steps of fine-tuning; not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py at 8921d51 (its loss has been a
    sigmoid's since), aug=medium2. What differs is what simple_vit_s16_i1k says.
    """
    return _augreg("B/32", "medium2")


def augreg_b16() -> TrainConfig:
    """ViT-B/16 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_b16 --workdir runs/b16 --data.dir TFDS_DIR`
    Cost: 4.0e19 floating-point operations, 89 hours at 125 TFLOP/s.
    Result: 79.2% with the published weights (timm's results-imagenet.csv), which had strong2 augmentation, dropout and
    stochastic depth of 0.1 and 20,000 steps of fine-tuning; not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py at 8921d51 (its loss has been a
    sigmoid's since), aug=medium2. What differs is what simple_vit_s16_i1k says.
    """
    return _augreg("B/16", "medium2")


def augreg_l16() -> TrainConfig:
    """ViT-L/16 on ImageNet-1k, 300 epochs, medium augmentation.

    Command: `vit-train augreg_l16 --workdir runs/l16 --data.dir TFDS_DIR --devices.fsdp`
    Cost: 1.4e20 floating-point operations, 310 hours at 125 TFLOP/s.
    Result: none is published for these settings: the weights that are have other decay or augmentation (the paper,
    figure 4, has many); not run here.
    Reference: Steiner et al. 2022 (arXiv 2106.10270); big_vision/configs/vit_i1k.py at 8921d51 (its loss has been a
    sigmoid's since), aug=medium2. What differs is what simple_vit_s16_i1k says.
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
        schedule=ScheduleConfig(learning_rate=1e-3, warmup_epochs=10_000 / 309),  # 10,000 steps
        batch_size=4096,
        epochs=300,
        dtype="bfloat16",
        scan=True,
    )  # fmt: skip
