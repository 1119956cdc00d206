"""When a step is saved: by the clock, by steps, or because the process is told to end. All hosts decide the same."""

import time

from train.config import CheckpointConfig
from train.devices import hosts
from train.saving.interrupts import Interrupts


class Due:
    """Decides after each step. The clock is the first host's; a signal counts on whichever host it came.

    With several hosts these two are asked for every `agree_steps` steps only: the answer has to travel.
    """

    def __init__(self, config: CheckpointConfig, agree_steps: int):
        self.config, self.agree_steps = config, agree_steps
        self.interrupts = Interrupts()
        self.ending = 0  # the number of the signal that ends the run, known to all hosts
        self.saved()

    def saved(self) -> None:
        """The clock begins anew."""
        self.since = time.monotonic()

    def __call__(self, step: int) -> bool:
        """Whether the state after this step is to be saved. All hosts have to ask, after each step."""
        if not hosts.several() or step % self.agree_steps == 0:
            told = hosts.gather_numbers(self.interrupts.received, self._late())
            self.ending = max(signal for signal, _ in told)
            if self.ending or told[0][1]:
                return True
        return self.config.steps is not None and step % self.config.steps == 0

    def told(self, count: int) -> bool:
        """Whether the run is to end, asked after so many batches of an evaluation, by all hosts."""
        if hosts.several() and count % self.agree_steps:
            return False
        self.ending = max(signal for (signal,) in hosts.gather_numbers(self.interrupts.received))
        return self.ending > 0

    def _late(self) -> bool:
        minutes = self.config.minutes
        return minutes is not None and time.monotonic() - self.since >= 60 * minutes
