"""HostsConfig: which of several processes this one is. No part of a run's config, which is the same for all."""

from collections.abc import Iterator
from dataclasses import dataclass

from train.config.checks import Check, check_all


@dataclass(frozen=True, kw_only=True)
class HostsConfig:
    """One process a host (under SLURM: a GPU), the same command on each: docs/hosts.md."""

    distributed: bool = False  # this is one of several processes; SLURM, GKE, a TPU pod or Open MPI says which
    coordinator: str | None = None  # HOST:PORT of process 0, where nothing says it; so the next two
    processes: int | None = None  # how many there are
    process_id: int | None = None  # which one this is, from 0

    def __post_init__(self) -> None:
        check_all(self.checks())

    @property
    def several(self) -> bool:
        """Whether there is anything to join."""
        return self.distributed or self.coordinator is not None

    def checks(self) -> Iterator[Check]:
        """What the values have to be."""
        given = {"coordinator": self.coordinator, "processes": self.processes, "process-id": self.process_id}
        missing = [f"--{name}" for name, value in given.items() if value is None]
        yield len(missing) in (0, 3), f"--coordinator, --processes and --process-id go together: add {missing}"
        if missing:
            return
        host, _, port = (self.coordinator or "").rpartition(":")
        fits = bool(host) and port.isdecimal()
        yield fits, f"--coordinator must be HOST:PORT of process 0, got {self.coordinator!r}"
        number, count = self.process_id or 0, self.processes or 0
        yield 0 <= number < count, f"--process-id must be from 0 to --processes - 1 = {count - 1}, got {number}"
