"""A checkpoint of any layout as one function of images, in either framework: NumPy in, NumPy out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess, check_fits

if TYPE_CHECKING:
    from vit_convert.checkpoint import Checkpoint

Framework = Literal["torch", "flax"]
FRAMEWORKS: tuple[Framework, ...] = ("torch", "flax")
Array = npt.NDArray[Any]
Found = dict[str, Array]
Call = Callable[[Array, tuple[str, ...]], tuple[Array, Found]]


@dataclass(frozen=True)
class Model:
    """`model(images, names)` of a loaded checkpoint."""

    config: ViTConfig
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    framework: Framework
    path: str
    answers: Literal["labels", "embedding", "features"]  # as Checkpoint.answers
    call: Call = field(repr=False)

    def __call__(self, images: Array, intermediates: Sequence[str] = ()) -> tuple[Array, Found]:
        """Preprocessed images (B, H, W, C) -> (the output (B, K), what `answers` says; the named intermediates).

        Flax compiles for every new B and every new choice of names.
        """
        return self.call(images, tuple(intermediates))

    @property
    def has_labels(self) -> bool:
        """Whether the output is of classes: it isn't without a head, nor with one that projects, as CLIP's."""
        return self.answers == "labels"

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the classes 0, 1, ...; their numbers where the checkpoint names none."""
        return self.labels or tuple(map(str, range(self.config.num_classes)))


def load(
    path: str,
    framework: Framework = "torch",
    *,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    weights: str | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    dynamic_size: bool = False,
) -> Model:
    """Loads a checkpoint; the other framework is not imported.

    Args:
        dynamic_size: it takes images of other sizes than its preprocessing makes, too.

    Raises:
        CheckpointError: it can't be opened, or nothing says how images become its input, or it is no input of it.
    """
    from vit_convert.checkpoint import open_checkpoint

    questions: dict[str, Any] = dict(preset=preset, overrides=overrides, weights=weights)
    found = open_checkpoint(path, **questions)
    preprocess = preprocessing(path, found)
    questions["dynamic_size"] = dynamic_size or preprocess.crop != found.config.image_hw
    make = _torch if framework == "torch" else _flax
    call = make(path, questions, dtype)
    return Model(found.config, preprocess, found.labels, framework, str(path), found.answers, call)


def preprocessing(path: str, found: "Checkpoint") -> Preprocess:
    """How images become the input of a checkpoint.

    Raises:
        CheckpointError: nothing tells it, or what tells it makes other images than the model takes.
    """
    if found.preprocess is None:
        raise CheckpointError(unknown_preprocessing(path, found.said))
    check_fits(path, found.preprocess, found.config)
    return found.preprocess


def unknown_preprocessing(path: str, said: Sequence[str]) -> str:
    """What to do where nothing says how images become a model's input."""
    why = "; ".join(said)
    return (
        f"nothing tells how images become the input of {path}{f' ({why})' if why else ''}: say which model it is with "
        "--preset NAME (dino_vits16, mae_vit_base_patch16, ...), or put a preprocessor_config.json beside it"
    )


def _torch(path: str, how: dict[str, Any], dtype: str) -> Call:
    import torch

    from vit_torch import ViT

    kind = getattr(torch, dtype)
    model = ViT.from_pretrained(path, **how, dtype=kind)

    @torch.inference_mode()
    def call(images: Array, names: tuple[str, ...]) -> tuple[Array, Found]:
        x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(kind)
        output, found = model(x, names) if names else (model(x), {})
        return output.numpy(), {name: value.numpy() for name, value in found.items()}

    return call


def _flax(path: str, how: dict[str, Any], dtype: str) -> Call:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from vit_flax import ViT

    kind = jnp.dtype(dtype)
    graph, state = nnx.split(ViT.from_pretrained(path, **how, param_dtype=kind))

    def apply(state: Any, images: Any, names: tuple[str, ...]) -> Any:
        output = nnx.merge(graph, state)(images, names)
        return output if names else (output, {})

    compiled = jax.jit(apply, static_argnums=2)

    def call(images: Array, names: tuple[str, ...]) -> tuple[Array, Found]:
        with jax.default_matmul_precision("highest"):  # the same function: accelerators round to less by default
            output, found = compiled(state, jnp.asarray(images, kind), names)
        return np.asarray(output), {name: np.asarray(value) for name, value in found.items()}

    return call
