"""From a checkpoint to a dataset of one's own."""

import tyro

from train.config import AugmentConfig, DataConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from train.recipes.imagenet import vit


def finetune() -> TrainConfig:
    """All layers of a checkpoint, the deeper ones faster, on a dataset of one's own.

    Command: `vit-train finetune --init CHECKPOINT --data.name folder:PHOTOS --workdir runs/mine`, for another
    size with `--init-size 384`
    Cost: with ViT-B/16 at 224 pixels, 1.1e17 floating-point operations for each million images.
    Result: as good as the checkpoint and the data; `parity_tests/test_finetune.py` holds what it does. Published for
    MAE's ViT-B/16 on ImageNet-1k, with all of MAE's settings: 83.6%.
    Reference: MAE's fine-tuning (He et al. 2022, arXiv 2111.06377, appendix A.1, table 9), as BEiT's: AdamW,
    layer-wise decay. What differs, for data sets that are smaller than ImageNet: 20 epochs (there 100 for ViT-B),
    batches of 256 (1,024), neither MixUp, CutMix nor erasing, crops of at least a quarter of the image (0.08),
    gradients clipped at norm 1.
    """
    return TrainConfig(
        model=vit("B/16"),  # in name only: init's takes its place
        init=tyro.MISSING,
        data=DataConfig(name=tyro.MISSING, crop="random_resized", min_area=0.25),
        augment=AugmentConfig(flip=True, rand_augment_layers=2, label_smoothing=0.1),
        optimizer=OptimizerConfig(weight_decay=0.05, layer_decay=0.75),
        schedule=ScheduleConfig(learning_rate=5e-4, warmup_epochs=1, final_fraction=0.01),
        batch_size=256,
        epochs=20,
        drop_path=0.1,
    )


def linear_probe() -> TrainConfig:
    """A new linear head on a checkpoint's frozen features.

    Command: `vit-train linear_probe --init CHECKPOINT --data.name folder:PHOTOS --workdir runs/probe`
    Cost: a forward pass for each image: with ViT-B/16 at 224 pixels 3.6e16 operations a million images.
    Result: as good as the features and the data; `parity_tests/test_finetune.py` holds what it does. Published for
    DINO's ViT-B/16 on ImageNet-1k, with all of DINO's settings: 78.2%.
    Reference: DINO's evaluation (Caron et al. 2021, arXiv 2104.14294; facebookresearch/dino, eval_linear.py): SGD
    with momentum, crops and flips. What differs: 20 epochs at a rate of 0.01 (there 100 at 0.001); the head sees what
    the checkpoint pools alone (there mean-pooled patches or more blocks beside the class token).
    """
    return TrainConfig(
        model=vit("B/16"),  # in name only: init's takes its place
        init=tyro.MISSING,
        data=DataConfig(name=tyro.MISSING, crop="random_resized"),
        augment=AugmentConfig(flip=True),
        optimizer=OptimizerConfig(name="sgd", weight_decay=0.0, clip_norm=None, frozen=("*", "!head*")),
        schedule=ScheduleConfig(learning_rate=1e-2, warmup_epochs=0),
        batch_size=256,
        epochs=20,
    )
