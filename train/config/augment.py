"""AugmentConfig: what happens to a training batch on the device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from train.config.checks import Check, at_least, share


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What happens to a training batch on the device, in this order."""

    padding: int = 0  # black pixels around the image, of which a random crop of the old size is taken; 0: off
    flip: bool = False  # mirror left and right, half of the images
    rand_augment_layers: int = 0  # RandAugment: operations an image; 0: off
    rand_augment_magnitude: float = 9.0  # of 10: how strong the operations are
    rand_augment_std: float = 0.5  # of the magnitude, drawn for every operation anew
    rand_augment_prob: float = 0.5  # of an operation: that it is done
    rand_augment_increasing: bool = True  # timm's -inc1: every operation is the stronger the larger the magnitude
    rand_augment_interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"  # of rotations, shears, shifts
    three_augment: bool = False  # one of grey, solarized, blurred (DeiT III)
    color_jitter: float = 0.0  # brightness, contrast and saturation change by up to this share; 0: off
    mixup_alpha: float = 0.0  # MixUp's share is drawn from Beta(alpha, alpha); 0: no MixUp
    cutmix_alpha: float = 0.0  # CutMix's share is drawn from Beta(alpha, alpha); 0: no CutMix
    cutmix_share: float = 0.5  # of the mixed batches, where both are on
    mix_share: float = 1.0  # of the batches that are mixed at all
    erase_prob: float = 0.0  # of an image: that a random rectangle of it is erased; 0: off
    erase_mode: Literal["const", "pixel"] = "pixel"  # with zeros, or with normal noise for every pixel
    label_smoothing: float = 0.0  # spread evenly over all classes

    @property
    def rand_augment_limit(self) -> float:
        """The largest magnitude that is drawn: 10, unless the magnitude itself is larger."""
        return max(10.0, self.rand_augment_magnitude)

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        yield at_least("augment.padding", self.padding, 0)
        yield at_least("augment.rand_augment_layers", self.rand_augment_layers, 0)
        yield at_least("augment.rand_augment_magnitude", self.rand_augment_magnitude, 0)
        most = self.rand_augment_magnitude <= 30
        yield most, f"augment.rand_augment_magnitude must be at most 30, got {self.rand_augment_magnitude}"
        yield at_least("augment.rand_augment_std", self.rand_augment_std, 0)
        yield share("augment.rand_augment_prob", self.rand_augment_prob, one=True)
        yield at_least("augment.color_jitter", self.color_jitter, 0)
        yield at_least("augment.mixup_alpha", self.mixup_alpha, 0)
        yield at_least("augment.cutmix_alpha", self.cutmix_alpha, 0)
        yield share("augment.cutmix_share", self.cutmix_share, one=True)
        yield share("augment.mix_share", self.mix_share, one=True)
        yield share("augment.erase_prob", self.erase_prob, one=True)
        yield share("augment.label_smoothing", self.label_smoothing)
        yield (
            not (self.three_augment and self.rand_augment_layers),
            "augment.three_augment and augment.rand_augment_layers are alternatives: switch one of them off",
        )
