"""Writing what is complete or not there: beside its place first, renamed at the end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden path of the same folder and suffix to write to. At the end it takes the place of `path`; on failure it
    is removed, and what was there stays. It is drawn: threads share their process's number, and containers on one
    disk all have a process 1."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
