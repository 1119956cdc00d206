"""What a matrix product alone costs each framework: the rounding that no model of theirs can be without."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import linear

from parity_tests.bound import Bound
from parity_tests.pairs import held_exactly
from parity_tests.tolerances import NOISE_RATIO
from parity_tests.verify.measure import Errors, Product, relative
from vit_convert.config import ViTConfig

ROWS, COLUMNS = 256, 64  # of the result: their root mean square scatters by 1%


def noisier_product(config: ViTConfig, dtype: str, seed: int) -> Product:
    """The products of a block sum over `dim` and over `mlp_dim` terms: the one in which Flax is worse beside PyTorch.

    A library may add up in any order. A long sum in a single accumulator has an error that grows with the square root
    of its terms; in blocks it has that of a block (Higham 2002, section 4.2). On a CPU XLA does the one and PyTorch's
    MKL the other, which is no difference between the models.

    Args:
        dtype: one that rounds.
        seed: of the two matrices.
    """
    found = (_product(length, dtype, seed) for length in (config.dim, config.mlp_dim))
    return max(found, key=lambda product: product.errors.ratio)


def allowed(product: Product) -> Bound:
    """How many times PyTorch's error Flax's may be, in a model of such products."""
    return NOISE_RATIO.at(NOISE_RATIO * max(1.0, product.errors.ratio))


def _product(length: int, dtype: str, seed: int) -> Product:
    rng = np.random.default_rng(seed)
    tokens, weight = (
        held_exactly(rng.standard_normal((rows, length)), dtype)  # as float64
        for rows in (ROWS, COLUMNS)
    )
    truth = tokens @ weight.T
    with torch.no_grad():
        in_torch = linear(*(torch.tensor(a, dtype=getattr(torch, dtype)) for a in (tokens, weight))).double().numpy()
    in_flax = jax.jit(jnp.matmul)(*(jnp.asarray(a, dtype) for a in (tokens, weight.T)))
    errors = (relative(found, truth) for found in (in_torch, np.asarray(in_flax, np.float64)))
    return Product(length, Errors(*errors))
