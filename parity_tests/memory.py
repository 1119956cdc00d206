"""What a process holds that no file backs, and the most of it while something runs (Linux)."""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

LOOK = 0.001  # seconds between two looks


def anonymous(pid: int | str = "self") -> int:
    """Bytes of a process's memory, now, that no file backs: RssAnon + RssShmem of /proc/PID/status.

    The rest of its RSS is mapped files: page cache, which the system takes back. 0 when the process is gone.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def peak_memory(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """The most bytes that a command holds and no file backs.

    Raises:
        subprocess.CalledProcessError: the command fails.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    most = 0
    while process.poll() is None:
        most = max(most, anonymous(process.pid))
        time.sleep(LOOK)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return most


class Growth:
    """By how many bytes the process's anonymous memory grows while a `with` block runs: `most` at any time."""

    most: int

    def __enter__(self) -> Self:
        self.most, self._before, self._done = 0, anonymous(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(LOOK):
            self._look()

    def _look(self) -> None:
        self.most = max(self.most, anonymous() - self._before)

    def __exit__(self, *raised: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()
