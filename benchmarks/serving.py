"""Loaders as processes that give images when they are asked, one at a time, the others stopped meanwhile"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def serve(batches: Iterator[Any], size: Callable[[Any], int]) -> None:
    """The child's side: a number of images on a line of stdin, the seconds that they took on one of stdout."""
    for _ in range(3):
        next(batches)  # compiled, opened, threads started
    print("ready", flush=True)
    for line in sys.stdin:
        wanted, got, begun = int(line), 0, time.perf_counter()
        while got < wanted:
            got += size(next(batches))
        print(json.dumps({"images": got, "seconds": time.perf_counter() - begun}), flush=True)


@dataclass(frozen=True)
class Round:
    """What one round took: by the clock, and of processors, over all processes of the loader."""

    images: int
    seconds: float
    cpu_seconds: float


class Loader:
    """The parent's side."""

    def __init__(self, command: list[str], cores: int):
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group of its own, with the processes that it starts
            preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]),
        )
        while (line := self._line()) != "ready\n":  # libraries print, too
            if not line:
                raise RuntimeError(self.process.stderr.read()[-2000:] if self.process.stderr else "")
        self._signal(signal.SIGSTOP)

    def round(self, images: int) -> Round:
        """At least that many images more."""
        assert self.process.stdin is not None
        before = self._cpu_seconds()
        self._signal(signal.SIGCONT)
        self.process.stdin.write(f"{images}\n")
        self.process.stdin.flush()
        found = json.loads(self._line())
        self._signal(signal.SIGSTOP)
        return Round(found["images"], found["seconds"], self._cpu_seconds() - before)

    def close(self) -> None:
        """Ends it, and what it started."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def _cpu_seconds(self) -> float:
        """User and system time of all processes of the group so far (proc(5), /proc/PID/stat: 5, 14 and 15)."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == self.process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")
