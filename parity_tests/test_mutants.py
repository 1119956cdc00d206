"""The suite is tested too: deliberate mistakes, planted one by one in copies of the code, are all seen."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.mutants import report
from parity_tests.mutants.command import main
from parity_tests.mutants.journal import Journal, tree_sum
from parity_tests.mutants.judge import Kept, Seen, Verdict
from parity_tests.mutants.mutant import ROOT, Mutant
from parity_tests.mutants.outcome import Outcome
from parity_tests.mutants.processes import Died, run_all
from parity_tests.mutants.promises import PROMISES
from parity_tests.mutants.table import MUTANTS

FEW = (
    "missing transpose of a square matrix",
    "antialias on",
)


def mutants(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parity_tests.mutants", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_starts_with_nothing_loaded_that_mistakes_are_planted_in():
    ran = mutants("--help")
    assert ran.returncode == 0, ran.stderr


def test_every_mistake_still_applies():
    """Its old text stands once in its file; what comes of it is Python."""
    for mutant in MUTANTS.values():
        changed = mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8"))
        compile(changed, mutant.file, "exec")


def test_there_are_at_least_fifty_and_every_promise_that_they_name_is_there():
    assert len(MUTANTS) >= 50
    assert {mutant.promise for mutant in MUTANTS.values()} <= set(PROMISES)
    assert {mutant.package for mutant in MUTANTS.values()} == {"vit_flax", "vit_convert", "train"}


def test_a_text_that_is_gone_is_told():
    with pytest.raises(ValueError, match=r"x: its old text stands 0 times in vit_flax/mlp.py, expected a single time"):
        Mutant("x", "vit_flax/mlp.py", "what was never there", "", "nobody", "model: plain").applied("text")


@pytest.mark.slow
def test_mistakes_of_every_kind_are_seen_and_the_true_code_is_not():
    ran = mutants(*FEW, "--seeds", "1", "--no-conventional")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(FEW)} of {len(FEW)} mistakes seen; surviving: none" in ran.stdout
    assert "alarms: none" in ran.stdout


@pytest.mark.slow
def test_all_mistakes_are_seen_and_the_true_code_alarms_for_no_seed(tmp_path: Path):
    ran = mutants("--report", str(tmp_path / "mutants.md"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert numbers((tmp_path / "mutants.md").read_text(encoding="utf-8"))[1] == len(MUTANTS)


def numbers(text: str) -> tuple[int, int]:
    """(X, Y) of the sentence that X of Y mistakes pass."""
    found = re.search(r"(\d+) of (\d+) mistakes pass a float32 test at atol=5e-2", text)
    assert found, "the sentence is missing"
    return int(found[1]), int(found[2])


SEEN = Seen("model: plain", "norm", 1.0, 1e-12)
KILLED, SURVIVES = Verdict(SEEN, 1e-3, 1.0), Verdict(None, 0.1, 1.0)
KEPT, ALARM = Kept("draws", 1, "sides", 0.5, (), 1.0), Kept("draws", 1, "sides", 2.0, (SEEN,), 1.0)


@pytest.mark.parametrize(
    ("outcome", "good"),
    [
        (Outcome({"a": KILLED}, {"draws": KEPT}), True),
        (Outcome({"a": KILLED, "b": SURVIVES}), False),
        (Outcome({"a": Died("a crash")}), False),
        (Outcome({"a": KILLED}, {"draws": ALARM}), False),
    ],
)
def test_a_survivor_a_crash_and_an_alarm_are_failures(outcome: Outcome, good: bool):
    assert outcome.good is good


def test_what_the_usual_test_lets_through_is_counted():
    found = Outcome({"a": KILLED, "b": SURVIVES, "c": Died("a crash")})
    assert found.let_through() == ["a"]
    assert found.let_through(0.1) == ["a", "b"]
    assert found.let_through(1e-5) == []


def test_a_run_goes_on_from_verdicts_of_the_same_sources_alone(tmp_path: Path):
    """What survived or alarmed is measured again in any case."""
    journal = Journal(tmp_path / "verdicts.jsonl", "one")
    for name, result in {"a": KILLED, "b": SURVIVES, "c": Died("a crash"), "draws": KEPT, "steps": ALARM}.items():
        journal.write(name, result)
    assert Journal(tmp_path / "verdicts.jsonl", "one").read(1) == Outcome({"a": KILLED}, {"draws": KEPT})
    assert Journal(tmp_path / "verdicts.jsonl", "one").read(100) == Outcome({"a": KILLED}, {})
    assert Journal(tmp_path / "verdicts.jsonl", "another").read(1) == Outcome()
    (tmp_path / "verdicts.jsonl").write_text('{"kind": "verdict", "name": "a", "result": {}}\n')  # an older one
    assert Journal(tmp_path / "verdicts.jsonl", "one").read(1) == Outcome()
    assert Journal(None).tree == tree_sum()


@pytest.mark.parametrize(
    ("file", "forgets"),
    [
        ("vit_flax/mlp.py", True),
        ("vit_torch/training/step.py", True),
        ("vit_convert/new.py", True),
        ("train/step.py", True),
        ("parity_tests/mutants/judge.py", True),
        ("parity_tests/tolerances.py", True),
        ("parity_tests/test_positions.py", True),
        ("parity_tests/golden/deit/plain.json", True),
        ("parity_tests/mutants/report.py", False),
        ("docs/x.py", False),
    ],
)
def test_an_edited_tree_forgets(tmp_path: Path, file: str, forgets: bool):
    for name in ("vit_flax/mlp.py", "vit_torch/training/step.py", "train/step.py", "parity_tests/tolerances.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    before = tree_sum(tmp_path)
    assert before == tree_sum(tmp_path)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("x = 2\n")
    assert (tree_sum(tmp_path) != before) is forgets


def test_the_page_says_what_was_measured_and_no_more():
    """An alarm, a crash and a survivor are in its first words."""
    made = report.page(Outcome(dict.fromkeys(MUTANTS, KILLED), {"draws": KEPT, "steps": KEPT}))
    count = len(MUTANTS)
    assert f"**{count} of {count} are seen**" in made
    assert "of the 2 promises, measured on the true code (each for 1 seeds; files, which have" in made
    assert ", once), none alarms." in made
    assert "does not count as seen: there is none." in made
    assert "is asked" not in made
    first, second, *_ = MUTANTS
    verdicts = {**dict.fromkeys(MUTANTS, KILLED), first: SURVIVES, second: Died("a crash")}
    made = report.page(Outcome(verdicts, {"draws": KEPT, "steps": ALARM}))
    assert f"**{count - 2} of {count} are seen**" in made
    assert f"does not count as seen: there are {second}." in made
    assert made.count("1 alarm: steps.") == 2


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_task_that_raises_or_ends_its_process_comes_to_no_result():
    def ends() -> int:
        raise SystemExit(3)

    found = dict(run_all({"sums": lambda: 1 + 1, "raises": lambda: 1 // 0, "ends": ends}, workers=2))
    assert found["sums"] == 2
    for name, why in (("raises", "ZeroDivisionError"), ("ends", "SystemExit")):
        died = found[name]
        assert isinstance(died, Died)
        assert why in died.why


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tanh GELU"], "'tanh GELU' is no mistake of the table; close are"),
        (["--seeds", "-1"], "--seeds must be at least 0, got -1"),
        (["fast variance", "--report", "x.md"], "--report is of all mistakes"),
    ],
)
def test_a_wrong_argument_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
