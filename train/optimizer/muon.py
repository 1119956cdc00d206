"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), as torch.optim.Muon, with AdamW beside it."""

from typing import Any

import jax
import optax
from jax import Array
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from train.config import OptimizerConfig
from train.optimizer.decay import add_decay, decay_mask

# The root mean square of a step is AdamW's then, and so are its learning rate and decay (Liu et al. 2025,
# arXiv 2502.16982, equation 4; torch's adjust_lr_fn="match_rms_adamw").
RMS = 0.2


def muon(config: OptimizerConfig, peak: float) -> optax.GradientTransformation:
    """Of the linear layers' kernels in blocks: the orthogonal matrix that is nearest to the momentum (Nesterov's, with
    beta1), by five steps of Newton and Schulz. Of all else AdamW's direction. And decay beside both.

    As torch.optim.Muon, but that the orthogonal matrix is computed in the parameters' dtype, and not in bfloat16. qkv
    is one matrix here, as it is in timm.
    """
    # optax's own momentum divides by its bias to zero, and torch's doesn't: so trace's, which is torch's
    dimensions: Any = _dimensions
    matrices = optax.chain(
        optax.trace(config.beta1, nesterov=True),
        scale_by_muon(beta=0.0, nesterov=False, weight_dimension_numbers=dimensions),
        optax.stateless(lambda updates, params: jax.tree.map(_scaled, updates)),
    )
    others = optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps)
    return optax.chain(optax.partition({"matrix": matrices, "other": others}, kinds), add_decay(config, peak))


def kinds(params: dict[str, Any]) -> dict[str, str]:
    """Which rule each parameter has: the embedding of patches and the head are no matrices between hidden features."""
    hidden = {path for path, decays in decay_mask(params).items() if decays and path.startswith("blocks.")}
    return {path: "matrix" if path in hidden else "other" for path in params}


def _dimensions(updates: Any) -> Any:
    return jax.tree.map(lambda x: MuonDimensionNumbers(), updates)


def _scaled(update: Array) -> Array:
    return update * (RMS * max(update.shape) ** 0.5)
