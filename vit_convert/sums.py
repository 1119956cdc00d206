"""SHA-256 of every file of a saved step, as `sha256sum` writes and checks them: what is read is what was written.

Orbax's own checksums (CRC-32C) cover the index of a step, not the arrays in it: a flipped bit there would be read.
"""

import hashlib
import json
from pathlib import Path

SUMS = "SHA256SUMS"
METADATA = "_CHECKPOINT_METADATA"  # of the whole step; Orbax completes it when the sums are there already


def write_sums(step: Path) -> None:
    """Writes the sums of all files in the folders of a step."""
    lines = [f"{_sum(path)}  {name}\n" for name, path in _files(step).items()]
    (step / SUMS).write_text("".join(lines), encoding="utf-8")


def damage(step: Path) -> str | None:
    """What is wrong with a step: the first file that is missing, or not as it was written; None: it is whole."""
    try:
        if not isinstance(json.loads((step / METADATA).read_text(encoding="utf-8")), dict):
            return f"{METADATA} is not as it was written"
        lines = (step / SUMS).read_text(encoding="utf-8").splitlines()
        return _difference(dict(_entry(line) for line in lines), _files(step))
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError) as error:
        return f"can't be read: {error}"


def _difference(written: dict[str, str], found: dict[str, Path]) -> str | None:
    for name in sorted(written.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if written.get(name) != _sum(found[name]):
            return f"{name} is not as it was written"
    return None if written else f"{SUMS} is empty"


def _entry(line: str) -> tuple[str, str]:
    """name, sum

    Raises:
        ValueError: the line is no sum.
    """
    digest, found, name = line.partition("  ")
    if not found or len(digest) != 64:
        raise ValueError(f"{SUMS}: {line[:80]!r} is no sum of a file")
    return name, digest


def _files(step: Path) -> dict[str, Path]:
    paths = (path for path in step.glob("*/**/*") if path.is_file())
    return {path.relative_to(step).as_posix(): path for path in sorted(paths)}


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
