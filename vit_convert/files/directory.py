"""The weights file of a directory, by the names that the libraries give theirs."""

import re
from collections.abc import Collection
from pathlib import Path

from vit_convert.errors import CheckpointError, some

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Where several are there, they are one model in several formats: the first of these is taken.
PREFERRED = (WEIGHTS, INDEX, "open_clip_model.safetensors")
# Of these, and of files with other names, a directory may hold one.
NAMED = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
    "flax_model.msgpack",
    "model.npz",
    "model.msgpack",
)
TORCH = (".pt", ".pth", ".pth.tar", ".bin")  # of torch.save; .pth.tar, which is no tar, is what timm's training writes
SUFFIXES = (".safetensors", ".npz", ".msgpack", *TORCH)
ORBAX_STEP = "_CHECKPOINT_METADATA"  # is in each step's own directory
_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.\w+")


def weights_among(names: Collection[str]) -> list[str]:
    """The weights files among a directory's names: one, if it is clear which; none; or several, all of them."""
    for name in PREFERRED:
        if name in names:
            return [name]
    named = [name for name in NAMED if name in names]
    return named or sorted(name for name in names if name.endswith(SUFFIXES) and not _SHARD.fullmatch(name))


def weights_in(folder: Path) -> Path:
    """The weights file of a directory.

    Raises:
        CheckpointError: there is none, or several with nothing to choose by.
    """
    names = sorted(path.name for path in folder.iterdir())
    found = weights_among([name for name in names if (folder / name).is_file()])
    if len(found) > 1:
        raise CheckpointError(f"{folder}: which of these? Pass one of them: {some(found, ', ')}")
    if not found:
        held = some(names, ", ", 20) or "nothing"
        raise CheckpointError(
            f"{folder}: a directory needs {WEIGHTS}, {INDEX} or another weights file ({', '.join(SUFFIXES)}), "
            f"this one has {held}{_inner_hint(folder)}"
        )
    return folder / found[0]


def _inner_hint(folder: Path) -> str:
    inner = folder / "checkpoint"  # a training run keeps its weights there
    if (inner / "config.json").is_file():
        return f"; did you mean {inner}?"
    found = [*folder.glob(f"*/{ORBAX_STEP}")] or folder.glob(f"steps/*/{ORBAX_STEP}")  # of a run that goes on
    steps = sorted((path.parent for path in found), key=lambda step: (len(step.name), step))
    return f"; did you mean {steps[-1]}, its last step?" if steps else ""
