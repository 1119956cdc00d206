"""Both models of one config, made and compiled once: weights are arguments, so a hundred seeds cost little."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import vit_flax
from parity_tests.pairs import Arrays, make_pair, randomise
from vit_convert.config import ViTConfig
from vit_convert.layouts import LAYOUTS
from vit_convert.table import from_layout, to_layout
from vit_flax.names import parameters_by_path

FLAX = LAYOUTS["flax"]


class Pair:
    """Two float64 models of one function, `pairs.make_pair`'s, with other weights for each seed."""

    def __init__(self, config: ViTConfig, **run: Any):
        self.ours, self.flax = make_pair(config, **run)

    def draw(self, seed: int) -> None:
        """The weights of this seed, by the table between the two layouts."""
        randomise(self.ours, seed)
        hub = ((name, p.detach().numpy()) for name, p in self.ours.named_parameters())
        parameters = parameters_by_path(self.flax)
        for name, array in to_layout(FLAX, self.ours.config, hub):
            parameters[name].set_value(jnp.array(array))


def in_hub(model: vit_flax.ViT) -> Arrays:
    """Hub name -> array in torch layout, in float64, of what stands in the place of a model's parameters."""
    named = ((name, np.asarray(p.get_value(), np.float64)) for name, p in parameters_by_path(model).items())
    return dict(from_layout(FLAX, model.config, named))


class Compiled:
    """The models of one config, one dtype and the same run options: `pairs.run_flax` and `pairs.grads_flax` of them.

    Args:
        options: XLA's, of each program.
    """

    def __init__(self, options: dict[str, Any] | None = None):
        self.options = options
        self.programs: dict[Any, Any] = {}

    def forward(self, model: vit_flax.ViT, images: np.ndarray, names: Sequence[str] = ()) -> Arrays:
        """Output and intermediates, as float64 NumPy arrays."""
        graph, state = nnx.split(model)

        def apply(state: Any, images: jax.Array) -> Any:
            output = nnx.merge(graph, state)(images, names)
            return output if names else (output, {})

        output, found = self.program(apply, tuple(names))(state, in_dtype(state, images))
        return {name: np.asarray(x, np.float64) for name, x in {"output": output, **found}.items()}

    def gradients(self, model: vit_flax.ViT, images: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """The output, and the gradients of sum(output * cotangent) by hub name and shape, with that of the images."""
        graph, state = nnx.split(model)

        def loss(state: Any, images: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
            output = nnx.merge(graph, state)(images)
            return (output * cotangent).sum(), output

        gradient = self.program(jax.grad(loss, argnums=(0, 1), has_aux=True), "gradients")
        (grads, image_grad), output = gradient(state, in_dtype(state, images), in_dtype(state, cotangent))
        found = in_hub(nnx.merge(graph, grads)) | {"images": np.asarray(image_grad, np.float64)}
        return np.asarray(output, np.float64), found

    def program(self, function: Any, key: Any) -> Any:
        """The function that was compiled first under this key: later ones differ in nothing but what they are given."""
        return self.programs.setdefault(key, jax.jit(function, compiler_options=self.options))


def in_dtype(state: Any, x: np.ndarray) -> jax.Array:
    """An array in the dtype of the parameters."""
    return jnp.asarray(x, jax.tree.leaves(state)[0].dtype)
