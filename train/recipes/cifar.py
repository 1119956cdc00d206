"""CIFAR-10 and CIFAR-100 from scratch: Lee et al. 2021, Vision Transformer for Small-Size Datasets."""

from train.config import AugmentConfig, DataConfig, OptimizerConfig, ScheduleConfig, StartConfig, TrainConfig
from vit_convert.config import ViTConfig


def cifar10() -> TrainConfig:
    """A 9-layer ViT with patch 4 on CIFAR-10, 300 epochs.

    Command: `vit-train cifar10 --workdir runs/cifar10 --data.dir TFDS_DIR`
    Cost: 1.7e16 floating-point operations: minutes on one GPU, days on 2 CPU cores.
    Result: not run here. Published for the plain ViT of this shape: 93.58% (Lee et al. 2021, table 2); for
    ViT-Lite-7/4, wider and for 200 epochs, 91.38% (SHI-Labs/Compact-Transformers, README.md).
    Reference: Lee et al. 2021 (arXiv 2112.13492); aanna0701/SPT_LSA_ViT, main.py and models/vit.py, whose 100 epochs
    pass three times over the images each. What differs: RandAugment stands for AutoAugment's CIFAR policy; kernels and
    positions begin as for the digits, not with Glorot's values and a standard deviation of 1; all but kernels is
    spared from decay; what is erased is at most 1/3 of the image (there 0.4), and grey; warmup begins at 0, there at
    1e-6.
    """
    return _cifar("cifar10", 10)


def cifar100() -> TrainConfig:
    """A 9-layer ViT with patch 4 on CIFAR-100, 300 epochs.

    Command: `vit-train cifar100 --workdir runs/cifar100 --data.dir TFDS_DIR`
    Cost: 1.7e16 floating-point operations: minutes on one GPU, days on 2 CPU cores.
    Result: not run here. Published for the plain ViT of this shape: 73.81% (Lee et al. 2021, table 2); for
    ViT-Lite-7/4, wider and for 200 epochs, 69.75% (SHI-Labs/Compact-Transformers, README.md).
    Reference: as `cifar10`, whose settings these are.
    """
    return _cifar("cifar100", 100)


def _cifar(name: str, num_classes: int) -> TrainConfig:
    model = ViTConfig(
        image_size=32,
        patch_size=4,
        dim=192,
        depth=9,
        num_heads=12,
        mlp_dim=384,
        num_classes=num_classes,
        norm_eps=1e-5,
        qkv_bias="none",
    )
    return TrainConfig(
        model=model,
        data=DataConfig(name=name),
        start=StartConfig(fan_in_kernels=True, pos_embed_std=0.1),
        augment=AugmentConfig(
            padding=4,
            flip=True,
            rand_augment_layers=2,
            mixup_alpha=1.0,
            cutmix_alpha=1.0,
            mix_share=0.5,
            erase_prob=0.25,
            erase_mode="const",
            label_smoothing=0.1,
        ),
        optimizer=OptimizerConfig(weight_decay=0.05, clip_norm=None),
        schedule=ScheduleConfig(learning_rate=1e-3, warmup_epochs=30, final_fraction=1e-3),
        batch_size=128,
        epochs=300,
        eval_epochs=3,
        drop_path=0.1,
        drop_path_schedule="constant",
    )
