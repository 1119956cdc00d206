"""transformers' preprocessor_config.json: what its image processors do with a picture.

References:
    https://github.com/huggingface/transformers src/transformers/models/vit/image_processing_vit.py
"""

from collections.abc import Mapping
from typing import Any

from vit_convert.preprocess import Preprocess

FILE = "preprocessor_config.json"
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling


def read(config: Mapping[str, Any] | None) -> Preprocess | None:
    """ViTImageProcessor: squash to `size`, scale to [0, 1], normalise. Anything else: None."""
    steps = ("do_resize", "do_rescale", "do_normalize")
    if config is None or not all(config.get(step, True) is True for step in steps):
        return None
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    size = config.get("size")
    size = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    rescale = config.get("rescale_factor", 1 / 255)
    if not kind.startswith(("ViTImageProcessor", "ViTFeatureExtractor")) or abs(rescale * 255 - 1) > 1e-6:
        return None
    try:
        return Preprocess(
            resize=size,  # type: ignore[arg-type]
            crop=size,  # type: ignore[arg-type]
            mode="squash",
            interpolation=RESAMPLE[config.get("resample", 2)],  # type: ignore[arg-type]
            mean=tuple(config["image_mean"]),
            std=tuple(config["image_std"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def write(preprocess: Preprocess) -> dict[str, Any] | None:
    """A preprocessor_config.json; None where no image processor can say this preprocessing."""
    squash = preprocess.mode == "squash" and preprocess.resize == preprocess.crop
    if not squash or not preprocess.antialias:
        return None
    height, width = preprocess.crop
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": {name: code for code, name in RESAMPLE.items()}[preprocess.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }
