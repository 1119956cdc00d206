"""What a run says while it runs: a line that tells enough, rows for TensorBoard and W&B, no end for want of readers."""

import io
import json
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from parity_tests.test_train_cli import TINY
from parity_tests.tolerances import FLOAT32
from train.config import ConfigError, LogConfig
from train.errors import NonFiniteLoss
from train.journal import Journal
from train.progress import Report
from train.sinks import TensorBoard, check_sinks, open_sinks

ROW = {
    "step": 20, "loss": 1.25, "accuracy": 0.5, "images_per_second": 1234.0, "step_seconds": 0.0512,
    "input_wait": 0.07, "mfu": 0.412, "test_accuracy": 0.875,
}  # fmt: skip


def shown(rows: list[dict[str, Any]], times: list[float], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a report prints of these rows, which come at these seconds."""
    clock = iter([0.0, *times])
    monkeypatch.setattr("train.progress.time.perf_counter", lambda: next(clock))
    out = io.StringIO()
    report = Report(100, Console(file=out, width=200))
    for row in rows:
        report.row(row)
    return out.getvalue()


def test_the_line_tells_step_loss_accuracy_speed_waiting_mfu_and_time_left(monkeypatch: pytest.MonkeyPatch):
    said = shown([ROW, ROW | {"step": 40}], [20.0, 30.0], monkeypatch).splitlines()
    expected = "test 87.50%  loss 1.250  accuracy 50.0%  1,234 images/s  51 ms a step, 7% of it waiting  MFU 41.2%"
    assert said == [f"step  20/100  ?:?? left  {expected}", f"step  40/100  0:30 left  {expected}"]


def test_time_left_is_by_the_pace_of_this_process(monkeypatch: pytest.MonkeyPatch):
    """A run that goes on from step 80 has not made 80 steps in its first seconds."""
    rows = [ROW | {"step": 81}, ROW | {"step": 91}]
    assert shown(rows, [60.0, 160.0], monkeypatch).splitlines()[-1].startswith("step  91/100  1:30 left  ")


def test_a_terminal_of_80_columns_shows_it_all_and_the_time_left_where_rows_are_a_minute_apart(
    monkeypatch: pytest.MonkeyPatch,
):
    """Of a long run of a fast machine, whose numbers are wide."""
    clock = iter([0.0, 60.0, 120.0])
    monkeypatch.setattr("train.progress.time.perf_counter", lambda: next(clock))
    out, row = io.StringIO(), ROW | {"images_per_second": 1_234_567.8, "loss": 12.3456, "accuracy": 1.0}
    with Report(1_234_567, Console(file=out, width=80, force_terminal=True, force_interactive=True)) as report:
        report.row(row)
        report.row(row | {"step": 40})
    drawn = out.getvalue()
    for part in ("     40/1234567  1028:46:21 left  test 87.50%", "12.346  accuracy 100.0%  1,234,568 images/s"):
        assert part in drawn
    assert "51 ms a step, 7% of it waiting  MFU 41.2%" in drawn
    assert "━━━━━━━━━━━━━━━━" in drawn
    assert "…" not in drawn
    assert "-:--:--" not in drawn


def test_what_another_process_met_is_said_on_stderr_with_its_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Of what is the same on all of them the first one speaks alone."""
    monkeypatch.setattr("train.devices.hosts.jax.process_index", lambda: 3)
    with Journal(None, Report(100, quiet=True)) as journal:
        journal.say("updates left out")
        journal.say_own("0005.jpg can't be decoded")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "vit-train: process 3: 0005.jpg can't be decoded\n")


def test_a_device_whose_peak_is_unknown_shows_no_mfu(monkeypatch: pytest.MonkeyPatch):
    row = {name: value for name, value in ROW.items() if name != "mfu"}
    assert "MFU" not in shown([row], [20.0], monkeypatch)


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """(name, step) -> value of TensorBoard's event files: records of a length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]: made at run time

    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            data = data[16 + length :]
    return found


def test_tensorboard_has_every_measurement(tmp_path: Path):
    sink = TensorBoard(tmp_path, resume_step=0)
    sink.row(ROW)
    sink.row(ROW | {"step": 40, "loss": 0.75})
    sink.close(failed=False)
    found = scalars(tmp_path)
    assert found["loss", 20] == 1.25
    assert found["loss", 40] == 0.75
    assert {name for name, step in found if step == 20} == set(ROW) - {"step"}


class Recorded(ModuleType):
    """A wandb that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.told: list[Any] = []

    def init(self, **given: Any) -> "Recorded":
        self.told.append(given)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        self.told.append((name, step_metric))

    def log(self, row: dict[str, Any]) -> None:
        self.told.append(row)

    def finish(self, exit_code: int) -> None:
        self.told.append(("finish", exit_code))


def test_wandb_gets_settings_rows_and_an_end_and_the_same_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Which run it is stands in its config.json: another one in the same folder is another one there."""
    wandb, run = Recorded(), tmp_path / "run"
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run.mkdir()
    for name in ("one", "one", "other"):
        (run / "config.json").write_text(json.dumps({"format": "vit-parity-run", "version": 1, "run_id": name}))
        sinks = open_sinks(LogConfig(wandb="vits"), run, {"seed": 3}, 0)
        with Journal(None, Report(100, quiet=True), sinks=sinks) as journal:
            journal.write(ROW)
    first, over, row, end = wandb.told[:4]
    second, third = wandb.told[4], wandb.told[8]
    assert (first["project"], first["config"], first["name"]) == ("vits", {"seed": 3}, "run")
    assert over == ("*", "step")
    assert row == ROW
    assert end == ("finish", 0)
    assert first["id"] == second["id"] == "one"
    assert third["id"] == "other"
    assert second["resume"] == "allow"


def test_wandb_is_told_of_a_run_that_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It would show it as finished."""
    wandb = Recorded()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    sinks = open_sinks(LogConfig(wandb="vits"), tmp_path, {}, 0)
    with pytest.raises(NonFiniteLoss), Journal(None, Report(100, quiet=True), sinks=sinks):
        raise NonFiniteLoss("it diverged")
    assert wandb.told[-1] == ("finish", 1)


class Failing:
    """What takes no rows: a service that was killed, a disk that is full."""

    def row(self, row: Any) -> None:
        raise BrokenPipeError("the service is gone")

    def close(self, *, failed: bool) -> None:
        raise OSError("no space")


def test_a_sink_that_fails_is_said_and_left_out_and_the_run_goes_on(tmp_path: Path):
    out = io.StringIO()
    with Report(100, Console(file=out, width=200)) as report:
        path = tmp_path / "metrics.jsonl"
        with Journal(path, report, sinks=[Failing(), TensorBoard(tmp_path / "board", 0)]) as journal:
            journal.write(ROW)
            journal.write(ROW | {"step": 40})
    assert out.getvalue().count("Failing takes no more rows: the service is gone; the run goes on, and") == 1
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [20, 40]
    assert {step for _, step in scalars(tmp_path / "board")} >= {20, 40}


def test_a_sink_that_fails_at_the_end_hides_no_error():
    report = Report(100, Console(file=io.StringIO()))
    with pytest.raises(NonFiniteLoss, match="it diverged"), Journal(None, report, sinks=[Failing()]):
        raise NonFiniteLoss("it diverged")


def test_tensorboard_has_no_thread_that_a_run_could_wait_for(tmp_path: Path):
    before = threading.active_count()
    sink = TensorBoard(tmp_path, resume_step=0)
    sink.row(ROW)
    assert threading.active_count() == before
    assert scalars(tmp_path)["loss", 20] == 1.25  # it is there at once
    sink.close(failed=False)


def test_a_missing_package_is_said_before_a_run_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("train.sinks.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--log.wandb needs the package wandb: pip install wandb"):
        check_sinks(LogConfig(wandb="vits"))
    with pytest.raises(ConfigError, match=r"--log.tensorboard needs the package tensorboardX"):
        check_sinks(LogConfig(tensorboard=True))


@pytest.mark.slow
def test_a_run_whose_reader_leaves_goes_on_to_its_end(tmp_path: Path):
    """`vit-train ... | head -1`: it is told on stderr, and all is there."""
    command = [sys.executable, "-m", "train", "digits", "--workdir", str(tmp_path / "run"), *TINY.split()]
    with subprocess.Popen(
        [*command, "--log.tensorboard"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline().startswith("digits: ")
        run.stdout.close()
        assert run.stderr is not None
        error = run.stderr.read()
    assert run.returncode == 0, error
    assert "nobody reads the progress any more; the run goes on" in error
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {(row["step"]): row["loss"] for row in rows if "loss" in row}
    found = scalars(tmp_path / "run" / "tensorboard")
    assert {step: value for (name, step), value in found.items() if name == "loss"} == pytest.approx(
        losses, rel=FLOAT32
    )


def test_help_for_a_reader_who_leaves_is_no_error():
    command = f"{sys.executable} -m train digits --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("unevaluated", [False, True])
def test_an_evaluation_that_comes_again_stands_once(tmp_path: Path, unevaluated: bool):
    """A run that was killed after it had made up for an evaluation that it left off makes it again."""
    rows = [{"step": 3, "loss": 1.0}, {"step": 4, "loss": 0.5}, {"step": 4, "test_count": 9}, {"step": 5, "loss": 0.4}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step"')
    with Journal(path, Report(9, quiet=True), 4, unevaluated=unevaluated):
        pass
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[: 2 if unevaluated else 3]
