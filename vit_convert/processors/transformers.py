"""transformers' preprocessor_config.json: what its image processors do with a picture.

References:
    https://github.com/huggingface/transformers src/transformers/image_processing_backends.py, and
    models/{vit,deit,clip,siglip,bit,dinov3_vit}/image_processing_*.py

Since version 5 the classes differ in their defaults alone, except DINOv3's, which rescales before it resizes.
Each exists twice. The Pillow one is reproduced bit for bit. The torchvision one, which is the default where
torchvision is installed, resamples in integers of its own: within one level of 255, and
`parity_tests/test_processors.py` holds the bound. Where a class refuses a picture, being told not to convert it
to RGB, this converts it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vit_convert.preprocess import Preprocess, Size

Json = dict[str, Any]
FILE = "preprocessor_config.json"
NESTED = "processor_config.json"  # of a model with text too; its key image_processor comes first
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}

_ALL = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
_VIT = _ALL | HALF | {"size": {"height": 224, "width": 224}, "resample": 2, "default_to_square": True}
_CLIP = {
    **_ALL,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "resample": 3,
    "do_center_crop": True,
    "crop_size": 224,
    "do_convert_rgb": True,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
# Class -> what it leaves out of the file.
DEFAULTS: Mapping[str, Json] = {
    "ViTImageProcessor": _VIT,
    "DeiTImageProcessor": _VIT | {"size": 256, "resample": 3, "do_center_crop": True, "crop_size": 224},
    "CLIPImageProcessor": _CLIP,
    "BitImageProcessor": _CLIP,
    "SiglipImageProcessor": _VIT | {"resample": 3, "default_to_square": False, "do_convert_rgb": True},
    "DINOv3ViTImageProcessor": _VIT | {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)},
}
# model_type -> the class of a file that names none (models/auto/image_processing_auto.py).
CLASSES = {
    "vit": "ViTImageProcessor",
    "vit_mae": "ViTImageProcessor",
    "vit_msn": "ViTImageProcessor",
    "ijepa": "ViTImageProcessor",
    "deit": "DeiTImageProcessor",
    "clip": "CLIPImageProcessor",
    "clip_vision_model": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip_vision_model": "SiglipImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov2_with_registers": "BitImageProcessor",
    "dinov3_vit": "DINOv3ViTImageProcessor",
}


def find(beside: Callable[[str], Json | None]) -> Json | None:
    """The image processor's JSON among the files beside the weights, in the order in which transformers looks."""
    return (beside(NESTED) or {})["image_processor"] if place(beside) == NESTED else beside(FILE)


def place(beside: Callable[[str], Json | None]) -> str:
    """The file that it is in, or would be."""
    return NESTED if isinstance((beside(NESTED) or {}).get("image_processor"), dict) else FILE


def read(config: Mapping[str, Any] | None, model_type: str | None = None) -> Preprocess | None:
    """What the image processor of this JSON does; None for classes and options that `Preprocess` doesn't cover.

    Args:
        model_type: of config.json, which says the class where the JSON names none.
    """
    kind = _class(config or {}, model_type)
    if config is None or kind not in DEFAULTS:
        return None
    said = DEFAULTS[kind] | dict(config)  # null is no default: it switches a step off
    try:
        plain = said["do_resize"] and said["do_rescale"] and not said.get("do_pad")
        if not plain or abs(said["rescale_factor"] * 255 - 1) > 1e-6:
            return None
        mode, resize = _size(said["size"], said["default_to_square"])
        crop = _size(said["crop_size"], True)[1] if said.get("do_center_crop") else resize
        if mode == "shortest" and not said.get("do_center_crop"):
            return None  # every photograph gets a size of its own
        normalise = said["do_normalize"]
        return Preprocess(
            resize=resize,
            crop=crop,
            mode=mode,  # type: ignore[arg-type]
            interpolation=RESAMPLE[said["resample"]],  # type: ignore[arg-type]
            rounding="none" if kind.startswith("DINOv3") else "nearest",
            crop_offset="floor",
            alpha="white" if said.get("do_convert_rgb") else "drop",
            mean=_channels(said["image_mean"]) if normalise else (0.0,) * 3,
            std=_channels(said["image_std"]) if normalise else (1.0,) * 3,
        )
    except (KeyError, TypeError, ValueError):
        return None


def unusual(config: Mapping[str, Any], model_type: str | None = None) -> Json:
    """What may be why an image processor's JSON isn't read: its class, or the options that aren't its class's own."""
    kind = _class(config, model_type)
    if kind not in DEFAULTS:
        return {"image_processor_type": kind}
    return {name: value for name, value in config.items() if DEFAULTS[kind].get(name) != value}


def write(preprocess: Preprocess) -> Json | None:
    """A preprocessor_config.json; None where no image processor can say this preprocessing.

    AutoImageProcessor takes the class that the file names, whatever the model.
    """
    height, width = preprocess.resize
    shortest = preprocess.mode == "shortest"
    if shortest and height != width:
        return None
    crops = shortest or preprocess.crop != preprocess.resize
    crop = {"crop_size": dict(zip(("height", "width"), preprocess.crop, strict=True))} if crops else {}
    return {
        "image_processor_type": _class_for(preprocess, crops),
        "do_convert_rgb": preprocess.alpha == "white",
        "do_resize": True,
        "size": {"shortest_edge": height} if shortest else {"height": height, "width": width},
        "resample": {name: code for code, name in RESAMPLE.items()}[preprocess.interpolation],
        "do_center_crop": crops,
        **crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _class(config: Mapping[str, Any], model_type: str | None) -> str:
    """The class without what says its age or backend: ViTFeatureExtractor, ViTImageProcessorFast, ...Pil."""
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or CLASSES.get(str(model_type))
    return str(named).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")


def _class_for(preprocess: Preprocess, crops: bool) -> str:
    """A class whose releases have all had these options."""
    if preprocess.rounding == "none" and preprocess.antialias:
        return "DINOv3ViTImageProcessorFast"
    if preprocess.mode == "shortest":
        return "CLIPImageProcessor"
    if crops:
        return "DeiTImageProcessor"
    return "SiglipImageProcessor" if preprocess.alpha == "white" else "ViTImageProcessor"


def _size(size: Any, to_square: bool) -> tuple[str, Size]:
    """As transformers' get_size_dict. Raises TypeError or ValueError for sizes that depend on more than one edge."""
    if isinstance(size, int):
        return "squash" if to_square else "shortest", (size, size)
    if isinstance(size, Mapping):
        given = {name: value for name, value in size.items() if value is not None}
        if set(given) == {"shortest_edge"}:
            return "shortest", (given["shortest_edge"],) * 2
        size = [given.pop("height", None), given.pop("width", None), *given]
    height, width = size
    return "squash", (height, width)


def _channels(value: Any) -> tuple[float, ...]:
    """One number stands for each channel."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 3
