"""Where a run's measurements go besides metrics.jsonl, if that is asked for: TensorBoard, Weights & Biases."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from train.config import ConfigError, LogConfig
from train.workdir import run_id


class Sink(Protocol):
    """Takes the rows of metrics.jsonl as they are written."""

    def row(self, row: Mapping[str, Any]) -> None:
        """One of them."""
        ...

    def close(self, *, failed: bool) -> None:
        """After the last; `failed` where the run has not come to its end."""
        ...


class TensorBoard:
    """Event files, a scalar for each measurement; by tensorboardX, which needs neither TensorFlow nor torch.

    Not by its SummaryWriter: that writes in a thread of its own, and who hands it a row waits for ever once a full disk
    has ended that thread.
    """

    def __init__(self, folder: Path, resume_step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        folder.mkdir(exist_ok=True)
        self.events = EventsWriter(str(folder / "events"))
        # what a stopped run had measured after the step that it goes on from comes again
        start = SessionLog(status=SessionLog.START)
        self.events.write_event(Event(step=resume_step + 1, wall_time=time.time(), session_log=start))

    def row(self, row: Mapping[str, Any]) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.summary import scalar

        for name, value in row.items():
            if name != "step":
                self.events.write_event(Event(step=row["step"], wall_time=time.time(), summary=scalar(name, value)))
        self.events.flush()

    def close(self, *, failed: bool) -> None:
        self.events.close()


class WandB:
    """A run of a Weights & Biases project, the same one when the run goes on. What it had measured after the step that
    it goes on from comes again: everything is drawn over the run's own steps, and W&B counts its rows as it likes."""

    def __init__(self, project: str, workdir: Path, settings: Mapping[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]: an extra of its own

        given = dict(name=workdir.name, dir=str(workdir), config=dict(settings), resume="allow")
        with _said_by_wandb(project):
            self.run = wandb.init(project=project, id=run_id(workdir), **given)
        self.run.define_metric("*", step_metric="step")

    def row(self, row: Mapping[str, Any]) -> None:
        self.run.log(dict(row))

    def close(self, *, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


def check_sinks(config: LogConfig) -> None:
    """
    Raises:
        ConfigError: a package is missing; the message says what to install. Or W&B has no login.
    """
    for asked, option, package, extra in (
        (config.tensorboard, "--log.tensorboard", "tensorboardX", "tensorboard"),
        (config.wandb, "--log.wandb", "wandb", "wandb"),
    ):
        if asked and find_spec(package) is None:
            raise ConfigError(
                f"{option} needs the package {package}: pip install {package}, or vit-parity with the extra {extra}"
            )
    if config.wandb:
        import wandb  # pyright: ignore[reportMissingImports]: an extra of its own

        with _said_by_wandb(config.wandb):
            wandb.login()  # before anything is compiled


@contextmanager
def _said_by_wandb(project: str) -> Iterator[None]:
    """
    Raises:
        ConfigError: no login, no network, no such project: W&B's own classes, which all say why.
    """
    try:
        yield
    except Exception as error:
        raise ConfigError(f"--log.wandb {project}: W&B says: {error}") from error


def open_sinks(config: LogConfig, workdir: Path, settings: Mapping[str, Any], resume_step: int) -> list[Sink]:
    """Those that the config asks for."""
    sinks: list[Sink] = []
    if config.tensorboard:
        sinks.append(TensorBoard(workdir / "tensorboard", resume_step))
    if config.wandb:
        sinks.append(WandB(config.wandb, workdir, settings))
    return sinks
