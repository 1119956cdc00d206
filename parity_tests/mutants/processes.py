"""Each task in a process of its own, forked from one that has the libraries: it begins at once, and nothing stays."""

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")
LIMIT = 1800.0  # seconds that one task may take: far more than any does on a busy machine

_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Died:
    """A task that came to no result, and why."""

    why: str


@dataclass(frozen=True)
class _Running:
    name: str
    process: Any
    begun: float


def run_all(tasks: Mapping[str, Callable[[], T]], workers: int) -> Iterator[tuple[str, T | Died]]:
    """(name, result) of each task as it ends; so many run at a time."""
    waiting, running = list(tasks.items())[::-1], dict[Connection, _Running]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, task = waiting.pop()
                receiver, sender = _fork.Pipe(duplex=False)
                process = _fork.Process(target=_run, args=(task, sender), daemon=True)
                process.start()
                sender.close()
                running[receiver] = _Running(name, process, time.monotonic())
            for receiver in wait(list(running), timeout=1.0):
                assert isinstance(receiver, Connection)
                done = running.pop(receiver)
                yield done.name, _received(receiver, done.process)
            for late in running.values():
                if time.monotonic() - late.begun > LIMIT:
                    late.process.kill()  # its pipe closes, and says so above
    finally:
        for left in running.values():
            left.process.kill()


def _run(task: Callable[[], Any], sender: Connection) -> None:
    try:
        result: Any = task()
    except BaseException:
        result = Died(traceback.format_exc())
    sender.send(result)


def _received(receiver: Connection, process: Any) -> Any:
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        result = Died(f"its process ended without a result, with exit code {process.exitcode}")
    process.join()
    receiver.close()
    return result
