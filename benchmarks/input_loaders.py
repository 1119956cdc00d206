"""The loaders that benchmarks/input.py compares, each in a process of its own; tf.data is in input_tf.py"""

import io
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import serve

BATCH, SMALL_BATCH, SIZE = 64, 256, 224
SCALE = (0.08, 1.0)


def ours(source: str, cores: int) -> Iterator[Any]:
    """Photographs: train_batches over an image folder."""
    return streamed(config(f"folder:{source}", SIZE, 3, crop="random_resized", threads=cores))


def ours_small(source: str, cores: int) -> Iterator[Any]:
    """Small records, read anew every time."""
    return streamed(config("fashion_mnist", 28, 1, dir=Path(source), resident=False, threads=cores))


def ours_resident(source: str, cores: int) -> Iterator[Any]:
    """Small records that lie on the device, as a run has them: an item is taken out of them by the compiled step."""
    import jax

    from train.devices.placement import make_placement
    from train.feed import make_feed
    from train.input.data import open_data

    run = config("fashion_mnist", 28, 1, dir=Path(source), resident=True, threads=cores)
    feed = make_feed(open_data(run), make_placement(run), 10**9)
    fetch = jax.jit(feed.fetch)
    return (jax.block_until_ready(fetch(item)).images for item in feed.items(0))


def config(name: str, size: int, channels: int, **data: Any) -> Any:
    """A run over the dataset."""
    from train.config import DataConfig, TrainConfig
    from vit_convert.config import ViTConfig

    shape: dict[str, Any] = dict(image_size=size, patch_size=size // 4, in_channels=channels)
    model = ViTConfig(**shape, dim=64, depth=1, num_heads=1, mlp_dim=64, num_classes=10 if channels == 1 else 2)
    return TrainConfig(
        model=model, data=DataConfig(name=name, **data), batch_size=BATCH if channels == 3 else SMALL_BATCH
    )


def streamed(run: Any) -> Iterator[np.ndarray]:
    from train.input.data import open_data

    with open_data(run).train_batches(0, 10**9, slice(None)) as batches:
        for batch in batches:
            yield batch.images


def torchvision(source: str, cores: int) -> Iterator[Any]:
    """ImageFolder, RandomResizedCrop and DataLoader, as its reference scripts have them."""
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, InterpolationMode, PILToTensor, RandomResizedCrop

    crop = RandomResizedCrop(SIZE, SCALE, interpolation=InterpolationMode.BICUBIC)
    dataset = ImageFolder(f"{source}/train", Compose([crop, PILToTensor()]))
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, num_workers=cores, drop_last=True, persistent_workers=True
    )
    return (images for _ in count() for images, _ in loader)


def timm(source: str, cores: int) -> Iterator[Any]:
    """create_loader with its fast collation, in uint8, and no augmentation but the crop."""
    from timm.data import create_dataset, create_loader  # pyright: ignore[reportPrivateImportUsage]

    off: dict[str, Any] = dict(hflip=0.0, color_jitter=None, auto_augment=None, re_prob=0.0)
    size: dict[str, Any] = dict(input_size=(3, SIZE, SIZE), batch_size=BATCH, scale=SCALE, interpolation="bicubic")
    dataset: Any = create_dataset("", source, split="train", is_training=True)
    import torch

    loader: Any = create_loader(dataset, **size, **off, is_training=True, num_workers=cores, device=torch.device("cpu"))
    return (images for _ in count() for images, _ in loader.loader)


def grain_by_record(source: str, cores: int) -> Iterator[Any]:
    """Grain as its tutorials use it: a record at a time, in threads, by Pillow."""
    import grain
    from PIL import Image

    from train.input.crop import random_resized_box

    paths = sorted(Path(source, "train").glob("*/*.jpg"))

    def load(path: Path, rng: np.random.Generator) -> np.ndarray:
        picture = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
        box = random_resized_box(picture.height, picture.width, SCALE[0], rng.random((10, 4)))
        edges = box.left, box.top, box.left + box.width, box.top + box.height
        return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, edges))

    records = grain.MapDataset.source(paths).seed(0).shuffle().random_map(load).repeat(10**6).batch(BATCH)  # pyright: ignore
    return iter(records.to_iter_dataset(grain.ReadOptions(num_threads=cores, prefetch_buffer_size=2)))


LOADERS: dict[str, Callable[[str, int], Iterator[Any]]] = {
    "vit-parity": ours,
    "torchvision": torchvision,
    "timm": timm,
    "grain": grain_by_record,
    "vit-parity, streamed": ours_small,
    "vit-parity, resident": ours_resident,
}

if __name__ == "__main__":
    name, source, cores = sys.argv[1:]
    if name in ("torchvision", "timm"):
        import torch

        from parity_tests.peers import import_torchvision

        torch.set_num_threads(1)
        import_torchvision()
    serve(LOADERS[name](source, int(cores)), len)
