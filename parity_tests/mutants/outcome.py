"""What a whole run came to, and whether it is good."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from parity_tests.mutants.judge import Kept, Verdict
from parity_tests.mutants.processes import Died

CONVENTIONAL = 5e-2  # what ports assert of float32 outputs (transformers' Flax tests of CLIP: 4e-2)


@dataclass
class Outcome:
    """Verdicts by mutant, and what the true code kept, by promise."""

    verdicts: dict[str, Verdict | Died] = field(default_factory=dict)
    kept: dict[str, Kept | Died] = field(default_factory=dict)

    @property
    def killed(self) -> dict[str, Verdict]:
        return {name: v for name, v in self.verdicts.items() if isinstance(v, Verdict) and v.seen is not None}

    def let_through(self, allowed: float = CONVENTIONAL) -> list[str]:
        """Mutants that the conventional test lets through, if it allows so much."""
        return [name for name, verdict in self.verdicts.items() if passes(verdict, allowed)]

    @property
    def survivors(self) -> list[str]:
        return [name for name, v in self.verdicts.items() if isinstance(v, Verdict) and v.seen is None]

    @property
    def alarms(self) -> list[str]:
        """Promises that the true code doesn't keep."""
        return [name for name, kept in self.kept.items() if isinstance(kept, Kept) and kept.broken]

    @property
    def dead(self) -> Mapping[str, Died]:
        """What came to no result: a mutant that crashes is none."""
        return {name: v for name, v in {**self.verdicts, **self.kept}.items() if isinstance(v, Died)}

    @property
    def good(self) -> bool:
        return not (self.survivors or self.alarms or self.dead)


def passes(verdict: Verdict | Died, allowed: float = CONVENTIONAL) -> bool:
    """Whether the conventional test was asked and is content."""
    if isinstance(verdict, Died) or verdict.conventional is None:
        return False
    return verdict.conventional <= allowed
