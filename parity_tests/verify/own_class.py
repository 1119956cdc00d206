"""Both frameworks against the class that the checkpoint was written for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from parity_tests.pairs import Arrays
from parity_tests.verify.measure import all_gaps, leaf_gaps_or_infinite
from parity_tests.verify.original import Original, Refused, Unavailable, open_original
from parity_tests.verify.own_parts import Unread, run_parts
from parity_tests.verify.own_run import IMAGES, Unnamed, gradients, in_hub_names, rounded_outputs, run_blocks
from parity_tests.verify.run import OUTPUT, Batch, Run
from parity_tests.verify.source import Source
from vit_convert.errors import some

OF = "gradient of "  # before a tensor's name, or before those of the images, beside the names of intermediates
IMAGE_GRADIENT = f"{OF}the images"
WEIGHTS = ".attn.weights"  # at the end of a block's name
AFTER_BLOCKS = {"norm": "its last norm", "attn_pool.weights": "what its pooling attends to", "pooled": "what it pools"}


@dataclass(frozen=True)
class OriginalGaps:
    """Both frameworks against the checkpoint's own class, in float64: intermediates and output -> gap; and, where
    gradients are taken, IMAGE_GRADIENT's, and with OF before it that of each tensor's."""

    name: str
    version: str
    torch: Mapping[str, float]
    flax: Mapping[str, float]  # empty where float64 wasn't asked for
    unnamed: str = ""  # why gradients of weights aren't compared
    unseen: str = ""  # which intermediates aren't found in the class, in words


@dataclass(frozen=True)
class OriginalFailed:
    """The checkpoint's own class is there and gives nothing that can be compared: a disagreement."""

    reason: str


def own_class_in(found: OriginalGaps) -> str:
    """What of the checkpoint's own class was compared: a class whose blocks aren't found has its output alone."""
    weights = sum(name.startswith("blocks.") and name.endswith(WEIGHTS) for name in found.torch)
    blocks = sum(name.startswith("blocks.") for name in found.torch) - weights
    leaves = sum(name.startswith(OF) and name != IMAGE_GRADIENT for name in found.torch)
    parts = ["what enters its first block"] if "embeddings" in found.torch else []
    parts += [f"what each of its {blocks} blocks gives"] if blocks else []
    parts += [f"the attention weights of {weights} of them"] if weights else []
    parts += [said for name, said in AFTER_BLOCKS.items() if name in found.torch]
    parts += ["its output"]
    parts += [f"the {IMAGE_GRADIENT}"] if IMAGE_GRADIENT in found.torch else []
    parts += [f"those of {leaves} tensors"] if leaves else []
    *first, last = parts
    listed = f"{', '.join(first)} and {last}" if first else last
    without = "" if leaves and not found.unnamed else f"; {'not all' if leaves else 'no'} gradients of its weights"
    unseen = found.unseen and f"; {found.unseen}"
    return f"compared with {found.name} in float64: {listed}{unseen}{without}{found.unnamed and f': {found.unnamed}'}"


def against_original(
    source: Source, batch: Batch, torch: Run, flax: Run | None, images: Mapping[str, np.ndarray]
) -> tuple[OriginalGaps | OriginalFailed | str, Mapping[str, np.ndarray | str]]:
    """What is measured in float64, or why nothing is; and the class's output in dtypes that round.

    Args:
        torch, flax: the two frameworks' runs in float64; without Flax's it is PyTorch's alone that is compared.
        images: what it is shown in each dtype that rounds.
    """
    shape, graded = torch.arrays[OUTPUT].shape, batch.images[: batch.graded]
    of_images: Arrays = {}
    of_params: list[Tensor] = []
    try:
        original = open_original(source)
        found, blocks = run_blocks(original, batch.images, source.checkpoint.config.depth)
        if found[OUTPUT].shape != shape:
            said = f"{original.name} answers {found[OUTPUT].shape}, this model {shape}: another output"
            return OriginalFailed(said), {}
        unread = ""
        try:
            found |= run_parts(original, batch.images, blocks, source.checkpoint.config, torch.arrays)
        except Unread as reason:
            unread = f"beside its blocks nothing is read, for it doesn't run while it is watched: {reason}"
        rounded = rounded_outputs(original, images)
        if len(graded):
            of_images[IMAGES], of_params = gradients(original, graded, batch.cotangent((len(graded), *shape[1:])))
    except Unavailable as reason:
        return str(reason), {}
    except Refused as reason:
        return OriginalFailed(str(reason)), {}
    leaves, unnamed = _named(original, source, of_params, torch.gradients) if of_params else ({}, "")
    sides = [{} if run is None else _gaps(run, found, of_images | leaves) for run in (torch, flax)]
    unseen = unread or _unseen(torch.arrays, found)
    return OriginalGaps(original.name, original.version, sides[0], sides[1], unnamed, unseen), rounded


def _unseen(ours: Arrays, found: Arrays) -> str:
    """Which of our intermediates are nowhere in the class, in words; logits are its output."""
    lost = [name for name in ours if name not in _fitting(ours, found) and name != "logits"]
    return f"not found in it: {some(lost, ', ', 3)}" if lost else ""


def _named(original: Original, source: Source, of_params: list[Tensor], ours: Arrays) -> tuple[Arrays, str]:
    """Gradients of its parameters by our names, and which of ours aren't among them, in words."""
    try:
        leaves = in_hub_names(original, source, of_params)
    except Unnamed as reason:
        return {}, str(reason)
    lost = sorted(set(ours) - set(_fitting(ours, leaves)) - {IMAGES})
    return leaves, f"none of {some(lost, ', ', 3)} in what it saves" if lost else ""


def _gaps(run: Run, found: Arrays, found_gradients: Arrays) -> dict[str, float]:
    """Of what both have, in the same shape, in our order."""
    there = _fitting(run.gradients, found_gradients)
    gaps = all_gaps(run.arrays, _fitting(run.arrays, found))
    if IMAGES in there:
        gaps[IMAGE_GRADIENT] = all_gaps(run.gradients, _only(there, {IMAGES}))[IMAGES]
    leaves = _only(there, there.keys() - {IMAGES})
    of_leaves = leaf_gaps_or_infinite(_only(run.gradients, leaves), leaves) if leaves else {}
    return gaps | {OF + name: gap for name, gap in of_leaves.items()}


def _fitting(ours: Arrays, theirs: Arrays) -> Arrays:
    return {name: theirs[name] for name, x in ours.items() if name in theirs and theirs[name].shape == x.shape}


def _only(arrays: Arrays, names: Collection[str]) -> Arrays:
    return {name: x for name, x in arrays.items() if name in names}
