"""docs/mutants.md: which promise sees which mistake, and which mistakes the usual test lets through."""

from collections.abc import Iterable
from pathlib import Path

from parity_tests.mutants.judge import Kept, Verdict
from parity_tests.mutants.outcome import CONVENTIONAL, Outcome, passes
from parity_tests.mutants.table import MUTANTS

HEAD = """# Deliberate mistakes

A test is worth what it would see. Here are {count} mistakes that people make when they write a Vision Transformer
again, move its weights, or rewrite its training. Each is planted in a copy of the code
([parity_tests/mutants](../parity_tests/mutants)) and loaded in a process of its own, in which the suite's promises are
measured again: the same quantities with the same bounds, on smaller models and shorter runs, by
[parity_tests/mutants/promises](../parity_tests/mutants/promises) and not by pytest. **{killed} of {count} are seen**,
and {true}.

**{sentence}** That test: two float32 models at their initial values, as small as training begins, are given the same
images, and their outputs may differ by 5e-2. At atol=1e-3 {thousandth} would pass, at 1e-5 {strict}. (4e-2 stands in
transformers' Flax tests of CLIP and of dual encoders; its common test asserted 1e-5, of hidden states as well, which
is more than outputs show.) Of a mistake in training it compares parameters and averaged parameters after ten steps on
the same batches and draws, at a learning rate of up to 1e-2 (in float64, as float32's rounding is a ten-thousandth of
5e-2). It is run on a config that has the part in question. What it misses is too small there, or stands behind a
bias, a layer scale or a token that begins near zero.

![each mistake, as a multiple of what the test allows](mutants.png)

Made by `python -m parity_tests.mutants --report docs/mutants.md`; `parity_tests/test_mutants.py` holds it. A mutant
that crashes does not count as seen: there {dead}.

## Mistakes

*seen by*: the first promise that was found broken, and where the two part. *found*: by how much of the largest value
there; of noise, how many times PyTorch's. *allowed*: the tolerance
([parity_tests/tolerances.py](../parity_tests/tolerances.py)). *usual test*: its verdict, and the largest difference
that it finds.
"""
TRUE = """
## The true code

Every promise on the code as it is, for this many seeds of weights, inputs and draws (a file has its own weights and
inputs, and is judged once), with what came nearest to its tolerance: {alarms}.

| promise | seeds | nearest | of its tolerance |
|---|---|---|---|
"""
COLUMNS = "| mistake | who makes it | seen by | found | allowed | usual test |\n|---|---|---|---|---|---|\n"


def sentence(outcome: Outcome) -> str:
    """The number that the README has, too."""
    return f"{len(outcome.let_through())} of {len(outcome.verdicts)} mistakes pass a float32 test at atol=5e-2."


def write(outcome: Outcome, path: Path) -> None:
    """Writes the page, beside it first."""
    from vit_convert.beside import beside  # not before the mistakes are planted: it is of what is tested

    with beside(path) as temporary:
        temporary.write_text(page(outcome), encoding="utf-8")


def page(outcome: Outcome) -> str:
    """Markdown."""
    seeds = max((kept.seeds for kept in outcome.kept.values() if isinstance(kept, Kept)), default=0)
    many = f"(each for {seeds} seeds; files, which have their own weights and inputs, once)"
    true = f"of the {len(outcome.kept)} promises, measured on the true code {many}, {alarming(outcome)}"
    head = HEAD.format(
        count=len(outcome.verdicts),
        killed=len(outcome.killed),
        true=true if seeds else "the true code wasn't run",
        sentence=sentence(outcome),
        thousandth=len(outcome.let_through(1e-3)),
        strict=len(outcome.let_through(1e-5)),
        dead="are " + ", ".join(outcome.dead) if outcome.dead else "is none",
    )
    return head + "".join(_files(outcome)) + TRUE.format(alarms=alarming(outcome)) + "".join(_kept(outcome))


def alarming(outcome: Outcome) -> str:
    """Which promises the true code doesn't keep."""
    return f"{len(outcome.alarms)} alarm: {', '.join(outcome.alarms)}" if outcome.alarms else "none alarms"


def _files(outcome: Outcome) -> Iterable[str]:
    """A table a file, in the order of the mistakes."""
    for file in dict.fromkeys(mutant.file for mutant in MUTANTS.values()):
        yield f"\n### {file}\n\n{COLUMNS}"
        for name, mutant in MUTANTS.items():
            if mutant.file == file:
                verdict = outcome.verdicts[name]
                cells = [name, mutant.who, *_verdict(verdict)]
                yield f"| {' | '.join(cells)} |\n"


def _verdict(verdict: object) -> list[str]:
    if not isinstance(verdict, Verdict):
        return ["**broken**", "", "", ""]
    usual = "not run"
    if verdict.conventional is not None:
        word = "passes" if passes(verdict) else "fails"
        usual = f"{word}, {verdict.conventional:.1e}"
    if (seen := verdict.seen) is None:
        return ["**none**", "", "", usual]
    if not seen.tolerance:
        return [seen.promise, seen.what, "", usual]
    return [f"{seen.promise}; {seen.what}", f"{seen.found:.1e}", f"{seen.tolerance:.1e}", usual]


def _kept(outcome: Outcome) -> Iterable[str]:
    for kept in outcome.kept.values():
        if isinstance(kept, Kept):
            yield f"| {kept.promise} | {kept.seeds} | {kept.worst} | {kept.times:.2g} |\n"


def line(name: str, verdict: object) -> str:
    """One line of progress for a mutant."""
    if not isinstance(verdict, Verdict):
        return f"BROKEN    {name}"
    usual = "" if verdict.conventional is None else f"; the usual test {'passes' if passes(verdict) else 'fails'}"
    if verdict.conventional is not None:
        usual += f" ({verdict.conventional:.1e} of {CONVENTIONAL:.0e})"
    fate = f"killed    {name}: {verdict.seen}" if verdict.seen else f"SURVIVES  {name}"
    return f"{fate}{usual}; {verdict.seconds:.0f} s"


def kept_line(name: str, kept: object) -> str:
    """One line of progress for a promise about the true code."""
    if not isinstance(kept, Kept):
        return f"BROKEN    {name}"
    if kept.broken:
        return f"ALARM     {name}: {'; '.join(map(str, kept.broken[:3]))}"
    return f"kept      {name}: {kept.seeds} seeds, at most {kept.times:.2g} of its tolerance; {kept.seconds:.0f} s"
