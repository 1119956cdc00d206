"""What happens to a batch between the dataset and the model, on the device, given the draws."""

from train.augment.apply import apply
from train.augment.geometry import flip, shift
from train.augment.mix import mix_images, mixed_share, targets
from train.augment.normalise import normalise

__all__ = ["apply", "flip", "mix_images", "mixed_share", "normalise", "shift", "targets"]
