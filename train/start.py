"""Starting from a checkpoint of any layout: its model, a head for the run's classes, its weights as parameters."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array

from train.config import ConfigError, TrainConfig
from train.step import Params
from train.workdir import checkpoint_of
from vit_convert.checkpoint import Checkpoint, open_checkpoint
from vit_convert.errors import CheckpointError
from vit_convert.files.hub_source import is_hub_name
from vit_convert.resolve import in_words_of_a_run, parse_overrides
from vit_flax.pretrained import to_array

RELABELLED = "a new head of zeros: the checkpoint's has as many classes, but others, or in another order"


@dataclass(frozen=True)
class Start:
    """What a run starts from: an opened checkpoint, whose head is kept or begins anew."""

    checkpoint: Checkpoint
    new_head: bool
    head_bias: float  # of a new head
    said: tuple[str, ...]  # what was chosen, left out or changed on the way
    gone: str | None = None  # the checkpoint that the run began with, where it isn't there any more

    @property
    def dtype(self) -> jnp.dtype:
        """Of the parameters: float32; float64 where JAX has it and the checkpoint too."""
        wide = any(dtype.name == "float64" for dtype in self.checkpoint.dtypes.values())
        return jnp.result_type(jnp.float64 if wide else jnp.float32)

    def params(self, place: Callable[[str, Array], Array] = lambda path, x: x) -> Params:
        """The parameters by Flax path. `place` puts each where it shall lie, before the next is read.

        Raises:
            ConfigError: a file that can't be read, or isn't there any more, or weights that aren't finite.
        """
        return {name: place(name, self.head(name, to_array(x, self.dtype))) for name, x in self._tensors()}

    def _tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        if self.gone:
            raise ConfigError(f"--init {self.gone} isn't there any more, and no saved step of the run is whole")
        try:
            for name, array in self.checkpoint.tensors("flax"):
                if not np.isfinite(array).all():
                    raise ConfigError(
                        f"--init: {name} has values that are infinite or no number: nothing can be learned from it"
                    )
                yield name, array
        except CheckpointError as error:
            raise ConfigError(f"--init {error}") from error

    def head(self, name: str, x: Array) -> Array:
        """A parameter's value; of a head that begins anew, the one that it begins with."""
        if not self.new_head or not name.startswith(("head.", "head_dist.")):
            return x
        return jnp.full_like(x, self.head_bias if name.endswith("bias") else 0.0)


def open_start(
    config: TrainConfig, class_names: Sequence[str], saved: Path | None = None
) -> tuple[TrainConfig, Start | None]:
    """The config with the model of init's checkpoint, at the run's image size and for its classes, and that start;
    without init the config as it is, and None. No weights are read yet.

    The head is kept where it answers for the same classes: as many, and called the same if both have names.

    Args:
        saved: a step of a run that goes on. It has that model too, should init not be there any more.

    Raises:
        ConfigError: the checkpoint can't be opened, has dtypes that no model computes in, or can't have that size or
            number of classes.
    """
    if config.init is None:
        return config, None
    if saved is not None and _is_gone(config.init):
        found = _model_of(saved, config.init)
        return replace(config, model=found.config), Start(found, False, config.start.head_bias, (), config.init)
    checkpoint = _open(config, None)
    same_number = checkpoint.config.num_classes == len(class_names)
    relabelled = same_number and checkpoint.labels not in (None, tuple(class_names))
    if not same_number:
        checkpoint = _open(config, len(class_names))
    said = (*checkpoint.said, *[RELABELLED] * relabelled)
    new_head = relabelled or not same_number
    return replace(config, model=checkpoint.config), Start(checkpoint, new_head, config.start.head_bias, said)


def _is_gone(init: str) -> bool:
    return not is_hub_name(init) and not Path(init).exists()


def _model_of(saved: Path, init: str) -> Checkpoint:
    try:
        return open_checkpoint(str(saved))
    except CheckpointError as error:
        raise ConfigError(
            f"--init {init} isn't there any more, and the run's last step can't be read: {error}"
        ) from error


def _open(config: TrainConfig, num_classes: int | None) -> Checkpoint:
    assert config.init is not None
    try:
        found = open_checkpoint(
            checkpoint_of(config.init),
            preset=config.init_preset,
            overrides=parse_overrides(config.init_set),
            image_size=config.init_size,
            num_classes=num_classes,
        )
        found.check_floating()
        return found
    except (CheckpointError, ValueError) as error:
        raise ConfigError(in_words_of_a_run(str(error))) from error
