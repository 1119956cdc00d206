"""What a matrix product alone costs each framework: the rounding that no model of theirs can be without."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn.functional import linear

from parity_tests.bound import Bound
from parity_tests.pairs import AS_USERS, held_exactly
from parity_tests.tolerances import NOISE_RATIO, PRODUCT_RATIO
from parity_tests.verify.measure import NOISE_VALUES, Errors, Product, relative, scatter
from vit_convert.config import ViTConfig

ROWS, COLUMNS = 256, 64  # of the result: their root mean square scatters by 1%


def products_of(config: ViTConfig, dtype: str, seed: int) -> dict[str, Product]:
    """The products of a model by themselves: of patches, and those of a block over `dim` and over `mlp_dim` terms.

    A library may add up in any order. A long sum in a single accumulator has an error that grows with the square root
    of its terms; in blocks it has that of a block (Higham 2002, section 4.2). On a CPU XLA does the one and PyTorch's
    MKL the other, which is no difference between the models.

    Args:
        dtype: one that rounds.
        seed: of the matrices.
    """
    height, width = config.patch_hw
    lengths = {"patches": height * width * config.in_channels, "dim": config.dim, "mlp_dim": config.mlp_dim}
    return {name: _product(length, dtype, seed) for name, length in lengths.items()}


def noisiest(products: Mapping[str, Product], tensor: str = "output") -> Product:
    """Of the products that a tensor's error comes from, the one in which Flax is worst beside PyTorch.

    Errors are handed on: what stands behind a block has those of all three, and the first block's attention weights
    have none of an MLP.

    Args:
        tensor: an intermediate, or the output.
    """
    before = {"embeddings": ("patches",), "blocks.0.attn.weights": ("patches", "dim")}
    return max((products[name] for name in before.get(tensor, products)), key=lambda product: product.errors.ratio)


def allowed(product: Product, values: int = NOISE_VALUES) -> Bound:
    """How many times PyTorch's error Flax's may be in a tensor of so many values, where such a product is the noisiest.
    Beyond PRODUCT_RATIO it is no matter of order any more, and widens nothing further."""
    order = min(max(1.0, product.errors.ratio), float(PRODUCT_RATIO))
    return NOISE_RATIO.at(NOISE_RATIO * order * scatter(values))


def _product(length: int, dtype: str, seed: int) -> Product:
    rng = np.random.default_rng(seed)
    tokens, weight = (
        held_exactly(rng.standard_normal((rows, length)), dtype)  # as float64
        for rows in (ROWS, COLUMNS)
    )
    truth = tokens @ weight.T
    with torch.no_grad():
        in_torch = linear(*(torch.tensor(a, dtype=getattr(torch, dtype)) for a in (tokens, weight))).double().numpy()
    multiply = jax.jit(jnp.matmul, compiler_options=AS_USERS)  # as pairs.run_flax compiles the model
    in_flax = multiply(*(jnp.asarray(a, dtype) for a in (tokens, weight.T)))
    ours, flax = (relative(found, truth) for found in (in_torch, np.asarray(in_flax, np.float64)))
    return Product(length, Errors(ours, flax))
