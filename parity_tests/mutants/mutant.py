"""A deliberate mistake: one text of one file that becomes another."""

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """A mistake of meaning: what it makes of the code still runs, and gives something else."""

    name: str
    file: str  # from the repository's root
    old: str  # stands there once
    new: str
    who: str  # makes this mistake
    promise: str  # that is asked first, by its name in `promises.PROMISES`

    @property
    def package(self) -> str:
        """The package that the file is of."""
        return self.file.partition("/")[0]

    def applied(self, source: str) -> str:
        """The file's text with the mistake.

        Raises:
            ValueError: the old text doesn't stand there exactly once, or is the new one.
        """
        if (count := source.count(self.old)) != 1 or self.old == self.new:
            raise ValueError(f"{self.name}: its old text stands {count} times in {self.file}, expected a single time")
        return source.replace(self.old, self.new)


def plant(mutant: Mutant, folder: Path) -> None:
    """A copy of the mistake's package in the folder, with the mistake; compiled files keep their sources' times."""
    shutil.copytree(ROOT / mutant.package, folder / mutant.package)
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    (folder / mutant.file).write_text(mutant.applied(source), encoding="utf-8")
