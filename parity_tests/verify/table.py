"""The verdict as a table for people: the thing, what was measured, its bound."""

from parity_tests.verify.prove import Proof
from parity_tests.verify.verdict import Check, agrees, summary
from vit_convert.hub import num_parameters

COLUMNS = ("", "", "measured", "bound", "", "the worst")
NO_GAP = 2  # spaces between columns


def table(proof: Proof, checks: tuple[Check, ...]) -> str:
    """What is printed."""
    rows = [COLUMNS, *(row(check) for check in checks)]
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    lines = [(" " * NO_GAP).join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    without = ["", f"its own class: {proof.original}"] if isinstance(proof.original, str) else []
    without += [f"note: {said}" for said in proof.said[len(proof.source.checkpoint.said) :]]  # those are on stderr
    partings = [check.parting for check in checks if check.parting]
    head = "AGREE" if agrees(checks) else "DISAGREE"
    verdict = f"{head}  {summary(proof, checks)}  ({sum(proof.seconds.values()):.0f} s)"
    return "\n".join([title(proof), "", *lines, *without, "", verdict, *(f"  {text}" for text in partings[1:])])


def title(proof: Proof) -> str:
    """The checkpoint, and what it was shown."""
    checkpoint, images = proof.source.checkpoint, proof.images
    count, shown = len(images.names), len(images.shown)
    seen = f"{count} images ({shown} photograph{'s' * (shown != 1)}, {count - shown} of noise)"
    parameters = f"{num_parameters(checkpoint.config):,} parameters"
    return f"{proof.source.given} ({checkpoint.layout}): {parameters}; {seen}, seed {proof.asked.seed}"


def row(check: Check) -> tuple[str, ...]:
    said = "agrees" if check.agrees else "DISAGREES"
    return check.dtype, check.what, measured(check), bound(check), said, check.where


def measured(check: Check) -> str:
    """What was measured, as one reads it: 3.1e-15, 1.04 times, 152 of 152."""
    if check.kind == "all":
        return f"{check.measured:.0f} of {check.bound:.0f}"
    return f"{check.measured:.1e}" if check.kind == "below" else f"{check.measured:.2f} times"


def bound(check: Check) -> str:
    return {"all": "all", "below": f"{check.bound:.0e}", "times": f"{check.bound:.2f} times"}[check.kind]
