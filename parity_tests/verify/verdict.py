"""What was measured against its bounds, and the verdict. The bounds are the suite's own: parity_tests/tolerances.py."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from parity_tests.tolerances import FORWARD, GRADIENT
from parity_tests.verify.measure import Errors, Exact, Rounded
from parity_tests.verify.own_class import OF, OriginalFailed, OriginalGaps
from parity_tests.verify.products import allowed, noisiest
from parity_tests.verify.prove import Measured, Proof

Kind = Literal["below", "times", "all"]
SIDES = {"torch": "PyTorch", "flax": "Flax"}


@dataclass(frozen=True)
class Check:
    """One line of the verdict."""

    dtype: str
    promise: str  # tensors, intermediates, gradients, predictions, original
    what: str  # the same in words
    kind: Kind  # below: a gap under its bound; times: an error at most so many times PyTorch's; all: none is left out
    measured: float
    bound: float
    where: str = ""  # the worst
    parting: str = ""  # in one sentence, where the two part; empty if they don't

    @property
    def agrees(self) -> bool:
        within = {
            "below": self.measured < self.bound,
            "times": self.measured <= self.bound,
            "all": self.measured == self.bound,
        }[self.kind]
        return within and not self.parting

    @property
    def beside_bound(self) -> float:
        """What was measured as a part of its bound; infinite where one of all is left out."""
        if self.kind == "all":
            return 0.0 if self.measured == self.bound else inf
        return self.measured / self.bound


def check_all(proof: Proof) -> tuple[Check, ...]:
    """Every promise, in the order in which a mistake would show."""
    return tuple(_checks(proof))


def agrees(checks: tuple[Check, ...]) -> bool:
    return all(check.agrees for check in checks)


def worst_of(checks: Iterable[Check]) -> Check:
    """What is nearest to its bound or furthest beyond it: the first of equals, for that is where a mistake begins.
    Predictions only follow from what else is compared, and come last."""
    return max(checks, key=lambda check: (not check.agrees, check.promise != "predictions", check.beside_bound))


def summary(proof: Proof, checks: tuple[Check, ...]) -> str:
    """The verdict in a sentence."""
    failed = [check for check in checks if not check.agrees]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        return f"They disagree{more}. {failed[0].parting}"
    return f"On this checkpoint {'; '.join(_found(proof))}."


def _found(proof: Proof) -> Iterator[str]:
    """What was measured where all agrees, and no more."""
    own = [proof.original.name] if isinstance(proof.original, OriginalGaps) else []
    if "float64" in proof.dtypes:
        *first, last = "PyTorch", "Flax", *own
        yield f"{', '.join(first)} and {last} are one function"
    elif own:
        yield f"PyTorch and {own[0]} are one function in float64, in which Flax was not run"
    worst = {dtype: times for dtype, of in proof.dtypes.items() if (times := _largest(of.distances)) is not None}
    if worst:
        said = " and ".join(f"{times:.2f} times PyTorch's in {dtype}" for dtype, times in worst.items())
        yield f"Flax's error against float64 is at most {said}"


def _largest(distances: Exact | Rounded) -> float | None:
    if isinstance(distances, Exact):
        return None
    return max(errors.ratio for errors in (*distances.layers.values(), *distances.gradients.values()))


def _checks(proof: Proof) -> Iterator[Check]:
    for dtype, measured in proof.dtypes.items():
        yield _tensors(proof, dtype, measured)
        if isinstance(measured.distances, Exact):
            yield from _exact(dtype, measured, measured.distances)
            yield from _original(proof.original)
        else:
            yield from _rounded(dtype, measured.distances)
            yield from _predictions(dtype, measured)
    if "float64" not in proof.dtypes:
        yield from _original(proof.original)


def _tensors(proof: Proof, dtype: str, measured: Measured) -> Check:
    count = sum(len(mapped.hub) for mapped in proof.tensors)
    lost = measured.unequal
    parting = f"{lost[0]} is not the file's in both models ({dtype})." if lost else ""
    return Check(
        dtype, "tensors", "tensors with the same bits", "all", count - len(lost), count, (*lost, "")[0], parting
    )


def _exact(dtype: str, measured: Measured, found: Exact) -> Iterator[Check]:
    yield _gaps(dtype, "intermediates", f"every intermediate ({len(found.gaps)})", found.gaps, FORWARD, measured)
    yield _gaps(dtype, "gradients", f"every gradient ({len(found.gradients)})", found.gradients, GRADIENT, measured)
    yield from _predictions(dtype, measured)


def _predictions(dtype: str, measured: Measured) -> Iterator[Check]:
    """Of the images that aren't too close to call, where there are any."""
    found = measured.predictions
    if found is None or all(found.close):
        return
    same, count = found.same, measured.images - sum(found.close)
    parting = "" if same == count else f"{count - same} of {count} images are put into different classes ({dtype})."
    yield Check(dtype, "predictions", "predictions that are the same", "all", same, count, "", parting)


def _gaps(dtype: str, promise: str, what: str, gaps: Mapping[str, float], bound: float, measured: Measured) -> Check:
    worst = max(gaps, key=lambda name: gaps[name])
    first = next((name for name, gap in gaps.items() if not gap < bound), None)
    parting = "" if first is None else _parting_of_gap(dtype, first, gaps[first], bound, measured)
    return Check(dtype, promise, what, "below", gaps[worst], bound, worst, parting)


def _parting_of_gap(dtype: str, name: str, gap: float, bound: float, measured: Measured) -> str:
    place = measured.places.get(name)
    what = name if place else f"the gradient of {name}"
    said = f"PyTorch and Flax part at {what} ({dtype}): {gap:.1e} of its largest value, the bound is {bound:.0e}."
    if place is None:
        return said
    return f"{said} The most at {place.where}: PyTorch {place.torch:.9g}, Flax {place.flax:.9g}."


def _original(original: OriginalGaps | OriginalFailed | str) -> Iterator[Check]:
    if isinstance(original, str):
        return
    if isinstance(original, OriginalFailed):
        parting = f"Its own class gives nothing to compare with (float64): {original.reason}."
        yield Check("float64", "original", "its own class runs it", "all", 0, 1, "", parting)
        return
    for side, gaps in {"torch": original.torch, "flax": original.flax}.items():
        if not gaps:
            continue
        bounds = {name: GRADIENT if name.startswith(OF) else FORWARD for name in gaps}
        worst = max(gaps, key=lambda name: gaps[name] / bounds[name])
        first = next((name for name, gap in gaps.items() if not gap < bounds[name]), None)
        parting = ""
        if first is not None:
            who = f"{SIDES[side]} and {original.name} part at {first} (float64)"
            parting = f"{who}: {gaps[first]:.1e} of its largest value, the bound is {bounds[first]:.0e}."
        what = f"{SIDES[side]} against {original.name} ({len(gaps)})"
        yield Check("float64", "original", what, "below", gaps[worst], bounds[worst], worst, parting)


def _rounded(dtype: str, found: Rounded) -> Iterator[Check]:
    bounds = {name: allowed(noisiest(found.products, name), of.values) for name, of in found.layers.items()}
    yield _ratios(dtype, "intermediates", "Flax's error over PyTorch's", found.layers, bounds)
    if found.gradients:
        all_of_it = noisiest(found.products)  # they come back through all
        bounds = {kind: allowed(all_of_it, of.values) for kind, of in found.gradients.items()}
        yield _ratios(dtype, "gradients", "Flax's error over PyTorch's, gradients", found.gradients, bounds)


def _ratios(dtype: str, promise: str, what: str, errors: Mapping[str, Errors], bounds: Mapping[str, float]) -> Check:
    """The worst is what comes nearest to its own bound."""
    worst = max(errors, key=lambda name: errors[name].ratio / bounds[name])
    first = next((name for name, error in errors.items() if not error.ratio <= bounds[name]), None)
    parting = ""
    if first is not None:
        error, place = errors[first], f"the gradient of {first}" if promise == "gradients" else first
        parting = (
            f"PyTorch and Flax part at {place} ({dtype}): Flax is {error.ratio:.2f} times as far from float64 as "
            f"PyTorch ({error.flax:.1e} and {error.torch:.1e}, root mean square), the bound is {bounds[first]:.2f}."
        )
    return Check(dtype, promise, what, "times", errors[worst].ratio, bounds[worst], worst, parting)
