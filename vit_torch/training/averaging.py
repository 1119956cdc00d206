"""The moving average of the parameters."""

from torch import Tensor


def ema(average: Tensor, param: Tensor, decay: float) -> Tensor:
    """Polyak averaging with forgetting, of the parameters after the update (timm/utils/model_ema.py)."""
    return decay * average + (1 - decay) * param
