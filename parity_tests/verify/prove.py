"""The proof: one checkpoint in both frameworks, in every dtype, and in its own class."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np

from parity_tests.pairs import held_exactly
from parity_tests.verify.asked import Asked
from parity_tests.verify.images import Images, count_for, make_images
from parity_tests.verify.measure import (
    NOISE_VALUES,
    Exact,
    Predictions,
    Rounded,
    compare_exact,
    compare_rounded,
    predict,
    relative,
)
from parity_tests.verify.own_class import OriginalFailed, OriginalGaps, against_original, own_class_in
from parity_tests.verify.places import Place, place_of
from parity_tests.verify.products import allowed, noisiest, products_of
from parity_tests.verify.run import (
    OUTPUT,
    Batch,
    Run,
    backward_takes_minutes,
    check_finite,
    make_batch,
    names_for,
    run_in_flax,
    run_in_torch,
)
from parity_tests.verify.source import Source
from parity_tests.verify.tensors import Mapped, held_in_flax, map_tensors, unequal
from vit_tools.attention.maps import attention_map, last_reader

HELD = {"float32", "float16", "bfloat16"}  # stored dtypes whose every value float32 has: one truth does for both
DRAWN = 4  # photographs whose attention is shown
WIDENS = 1.01  # times PyTorch's error: what a product's widens a bound by less than is not worth a word


@dataclass(frozen=True)
class Attention:
    """What the pooled feature is read from, in both frameworks: as vit-predict and vit-app show it."""

    images: tuple[int, ...]
    torch: np.ndarray  # (images, rows, columns), of vit_tools.attention.maps
    flax: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Both frameworks in one dtype."""

    images: int
    graded: int  # of them, those of which gradients were taken
    unequal: tuple[str, ...]  # hub names of tensors that either model has otherwise than the file, rounded to the dtype
    distances: Exact | Rounded
    places: Mapping[str, Place]  # intermediate -> where the two differ the most
    predictions: Predictions | None  # None: no head
    attention: Attention
    own: float | str | None  # the error of its own class's output, as Errors has them; or why none; None: not asked


@dataclass(frozen=True)
class Proof:
    """Everything that was measured."""

    source: Source
    asked: Asked
    images: Images
    said: tuple[str, ...]  # of the checkpoint, of its images, of what wasn't compared
    tensors: tuple[Mapped, ...]
    dtypes: Mapping[str, Measured]
    original: OriginalGaps | OriginalFailed | str  # or why it wasn't compared
    seconds: Mapping[str, float]  # by stage


class Stages:
    """What the proof is at, and how long each stage took."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.say(name)
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun


def prove(source: Source, asked: Asked, say: Callable[[str], None] = lambda stage: None) -> Proof:
    """Measures everything that is asked for, on the CPU; at most two models are in memory at once, but its own class
    with its gradients.

    Args:
        say: told each stage as it begins.

    Raises:
        CheckpointError: values that aren't finite, in the file or in PyTorch's own float64 activations.
    """
    config, checkpoint, stages = source.checkpoint.config, source.checkpoint, Stages(say)
    count = asked.images or count_for(config)
    images = make_images(config, checkpoint.preprocess, count, asked.seed)
    names, said = names_for(config, count)
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        with stages("tensors"):
            tensors = map_tensors(checkpoint)
        batch = make_batch(images.arrays, names, "float32", asked.seed)  # what float32 holds, float64 holds as well
        with stages("float64, PyTorch"):
            truth, different = _truth(source, batch)
        dtypes, flax = {}, None
        if "float64" in asked.dtypes:
            with stages("float64, Flax"):
                flax, also = _in_flax(source, "float64", batch)
            dtypes["float64"] = _measured(source, images, batch, Sides(truth, flax, truth, (*different, *also)))
        original: OriginalGaps | OriginalFailed | str = "not asked for"
        rounding, own = [name for name in asked.dtypes if name != "float64"], {}
        if asked.original:
            with stages("its own class"):
                shown = {dtype: held_exactly(images.arrays, dtype) for dtype in rounding}
                original, own = against_original(source, batch, truth, flax, shown)
        del flax
        for dtype in rounding:
            dtypes[dtype] = _rounded(source, images, dtype, batch, truth, stages, own.get(dtype))
    if any(measured.graded for measured in dtypes.values()) or isinstance(original, OriginalGaps):
        said += one_is_graded(images, batch.graded)
    if isinstance(original, OriginalGaps):
        said += (own_class_in(original),)
        said += tuple(own_class_rounded(dtype, of) for dtype, of in dtypes.items() if of.own is not None)
    without = [dtype for dtype, measured in dtypes.items() if not measured.graded]
    said += tuple(map(no_gradients, without))
    said += tuple(text for dtype, measured in dtypes.items() for text in _said_of(dtype, measured))
    notes = (*checkpoint.said, *images.said, *said)
    return Proof(source, asked, images, notes, tensors, dtypes, original, stages.seconds)


def one_is_graded(images: Images, graded: int) -> tuple[str, ...]:
    """What is to be said where gradients are of the first image and not of the second, which is noise: of more images
    half are graded, both kinds among them."""
    if graded != 1 or len(images.names) == 1:
        return ()
    which = "of the photograph alone: the noise" if 0 in images.shown else "of one image alone: the other"
    return (f"gradients are {which} would take as long again",)


def own_class_rounded(dtype: str, measured: Measured) -> str:
    """How far its own class, weights and buffers cast, is from float64 beside both frameworks: told, and not judged,
    for where a class rounds is its own affair."""
    if isinstance(measured.own, str):
        return f"its own class doesn't run in {dtype}: {measured.own}"
    assert isinstance(measured.distances, Rounded)
    ours = measured.distances.layers[OUTPUT]
    return (
        f"in {dtype} the output of its own class is {measured.own:.1e} from float64, PyTorch's {ours.torch:.1e}, "
        f"Flax's {ours.flax:.1e} (root mean squares)"
    )


def no_gradients(dtype: str) -> str:
    """Why a dtype has none."""
    return f"no gradients in {dtype}: without instructions for it this CPU takes minutes"


def _said_of(dtype: str, measured: Measured) -> Iterator[str]:
    """Where products widen a bound, and what rounding leaves undecided."""
    if (predictions := measured.predictions) is not None and (close := sum(predictions.close)):
        yield f"predictions in {dtype}: {close} of {measured.images} images are too close to call"
    distances = measured.distances
    if isinstance(distances, Rounded) and (product := noisiest(distances.products)).errors.ratio > WIDENS:
        length, errors = product
        yield (
            f"a matrix product of {length} terms alone has {errors.ratio:.2f} times PyTorch's error in {dtype} here "
            f"({errors.flax:.1e} and {errors.torch:.1e}), so what comes of such may have {allowed(product):.2f} times"
        )
    if isinstance(distances, Rounded) and (few := distances.layers[OUTPUT].values) < NOISE_VALUES:
        times = allowed(noisiest(distances.products), few)
        yield f"the output's {few} values say little of noise in {dtype}: its error may be {times:.2f} times PyTorch's"


def _truth(source: Source, batch: Batch) -> tuple[Run, tuple[str, ...]]:
    """PyTorch in float64, and the tensors of its model that aren't the file's."""
    model = source.torch("float64")
    run = run_in_torch(model, batch)
    check_finite(run, source.given)
    return run, unequal(source.checkpoint, model.numpy_tensors())


def _in_flax(source: Source, dtype: str, batch: Batch) -> tuple[Run, tuple[str, ...]]:
    """Flax, and the tensors of its model that aren't the file's. Where no intermediate is asked for, its blocks are
    scanned: one of them is compiled."""
    model = source.flax(dtype, scan=True)
    return run_in_flax(model, batch), unequal(source.checkpoint, held_in_flax(model))


def _rounded(
    source: Source, images: Images, dtype: str, exact: Batch, truth: Run, stages: Stages, own: np.ndarray | str | None
) -> Measured:
    """A dtype that rounds: the truth is that of the rounded weights and images."""
    stored = {d.name for d in source.checkpoint.dtypes.values()}
    batch = exact
    with stages(f"{dtype}, PyTorch"):
        model = source.torch(dtype)
        if dtype != exact.dtype:
            gradients = not backward_takes_minutes(source.checkpoint.config, dtype)
            batch = make_batch(images.arrays, exact.names, dtype, exact.seed, gradients)
        torch, different = run_in_torch(model, batch), unequal(source.checkpoint, model.numpy_tensors())
    if dtype != exact.dtype or not stored <= HELD:
        with stages(f"{dtype}, float64 of the rounded weights"):
            truth = run_in_torch(model.double(), batch)
    del model
    with stages(f"{dtype}, Flax"):
        flax, also = _in_flax(source, dtype, batch)
    measured = _measured(source, images, batch, Sides(torch, flax, truth, (*different, *also)))
    return replace(measured, own=relative(own, truth.arrays[OUTPUT]) if isinstance(own, np.ndarray) else own)


class Sides(NamedTuple):
    """What one dtype came to on each side."""

    torch: Run
    flax: Run
    truth: Run  # PyTorch in float64: `torch` itself where that is the dtype
    unequal: tuple[str, ...]


def _measured(source: Source, images: Images, batch: Batch, sides: Sides) -> Measured:
    config, (torch, flax, truth, different) = source.checkpoint.config, sides
    distances: Exact | Rounded
    if truth is torch:
        distances, times = compare_exact(torch, flax), 1.0
    else:
        distances = compare_rounded(torch, flax, truth, products_of(config, batch.dtype, batch.seed))
        times = float(allowed(noisiest(distances.products), distances.layers[OUTPUT].values))
    places = {
        name: place_of(config, images.names, name, array, flax.arrays[name]) for name, array in torch.arrays.items()
    }
    shown = tuple(i for i in images.shown if i < len(batch.images))[:DRAWN]
    weights = (run.arrays[last_reader(config)][list(shown)] for run in (torch, flax))
    maps = (attention_map(of_shown, config) for of_shown in weights)
    predicted = predict(torch, flax, truth, times) if config.num_classes else None
    attention = Attention(shown, *maps)
    return Measured(
        len(batch.images), batch.graded, tuple(sorted({*different})), distances, places, predicted, attention, None
    )
