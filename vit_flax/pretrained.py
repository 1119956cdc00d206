"""Loading and saving: JAX arrays in, JAX arrays out, everything else is vit_convert's."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from types import SimpleNamespace
from typing import Any, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from vit_convert.checkpoint import FLOATING, open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_flax.names import parameters_by_path

logger = logging.getLogger(__name__)


class Pretrained(nnx.Module):
    """`from_pretrained` and `save_pretrained` of a model with a ViTConfig and the hub's names."""

    config: ViTConfig
    preprocess: Preprocess | None
    labels: tuple[str, ...] | None

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str],
        *,
        preset: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        image_size: int | tuple[int, int] | None = None,
        num_classes: int | None = None,
        weights: str | None = None,
        dtype: Any = None,
        param_dtype: Any = None,
        **run: Any,
    ) -> Self:
        """Loads a checkpoint of any layout that vit_convert knows.

        Args:
            path: a file, a directory, an Orbax step of a training run, or hf-hub:owner/name.
            preset: a name of vit_convert.presets, where names and shapes don't tell the config.
            overrides: ViTConfig fields that win over what the checkpoint says.
            image_size: resize the position table for this image size, by the config's own rule; logged.
            num_classes: 0 drops the head, another number than the checkpoint's puts a new one of zeros; logged.
            weights: which of several in one file, such as "model" or "model_ema".
            dtype: of the computation; the parameters' own if None.
            param_dtype: of the parameters; the checkpoint's own if None (where it has several, their common one).
            **run: arguments of the model.

        Raises:
            CheckpointError: the file can't be read, is of no known layout, leaves config fields
                open, or holds other tensors than its config says.
            ValueError: a dtype that no model computes in; or float64, by argument or by the checkpoint, without JAX's
                x64.
        """
        for asked in (dtype, param_dtype):
            if asked is not None:
                check_dtype(asked)
        checkpoint = open_checkpoint(
            path,
            preset=preset,
            overrides=overrides,
            image_size=image_size,
            num_classes=num_classes,
            weights=weights,
            dtype=None if param_dtype is None else jnp.dtype(param_dtype).name,
        )
        checkpoint.check_floating()
        log_all(checkpoint.said)
        if param_dtype is None:
            for stored in set(checkpoint.dtypes.values()):
                check_dtype(stored)
        param_dtype = param_dtype or jnp.result_type(*checkpoint.dtypes.values())
        make = cast(Callable[..., Self], cls)
        run |= dict(dtype=dtype, param_dtype=param_dtype)
        # Shapes only: no values are drawn, so one key does; counting the keys of an nnx.Rngs takes most of the time.
        rngs: Any = SimpleNamespace(params=lambda: jax.random.key(0))
        model = nnx.eval_shape(lambda: make(checkpoint.config, rngs=rngs, **run))
        parameters = parameters_by_path(model)
        for name, array in checkpoint.tensors("flax"):
            parameters[name].set_value(to_array(array, param_dtype))
        model.preprocess, model.labels = checkpoint.preprocess, checkpoint.labels
        return model

    def save_pretrained(
        self,
        path: str | PathLike[str],
        *,
        layout: str = "native",
        preprocess: Preprocess | None = None,
        labels: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes a complete checkpoint directory, in the dtypes that the parameters have.

        Args:
            path: the directory to make; an existing one is an error unless `overwrite`.
            layout: a name that `vit-convert formats` lists. What it can't say is logged.
            preprocess: of the images; the model's own if None.
            labels: of the classes; the model's own if None.

        Raises:
            CheckpointError: the layout can't hold this model, or `path` can't be written.
        """
        notes = save_checkpoint(
            path,
            self.config,
            self.numpy_tensors(),
            tensors_layout="flax",
            dtypes={name: np.dtype(p.dtype) for name, p in parameters_by_path(self).items()},
            layout=layout,
            preprocess=preprocess or self.preprocess,
            labels=labels or self.labels,
            overwrite=overwrite,
        )
        log_all(notes)

    def numpy_tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """(Flax name, array) of every parameter, in Flax layout."""
        for name, parameter in parameters_by_path(self).items():
            yield name, np.asarray(parameter.get_value())


def log_all(lines: Iterable[str]) -> None:
    """What was done beside the asked, or could not be done, for those who listen to logging."""
    for line in lines:
        logger.info(line)


def to_array(array: np.ndarray, dtype: Any) -> Array:
    """NumPy to JAX, bit for bit (bfloat16 too) where the dtype is its own.

    Always a copy, the only one: the array may be a view of the file, and a model must not change with its file.
    """
    # mirror: on a CPU, JAX keeps NumPy's memory as it is where it begins at a multiple of 64 bytes, and copies it else
    size = array.size * jnp.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned = memory[start : start + size].view(dtype).reshape(array.shape)
    aligned[...] = array
    return jax.device_put(aligned)


def check_dtype(dtype: Any) -> None:
    """Raises ValueError for what no model computes in, and for float64 without x64, which JAX would turn into float32
    silently."""
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in FLOATING:
        raise ValueError(f"dtype {name!r}: expected one of {', '.join(FLOATING)}")
    if name == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "float64 needs JAX's x64: set JAX_ENABLE_X64=1 or call jax.config.update('jax_enable_x64', True); "
            "or ask for another param_dtype"
        )
