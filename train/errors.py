"""How a run ends that went wrong while it ran."""


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or no number; the message says at which step and learning rate."""


class DataError(RuntimeError):
    """Images that a run can't go on without can't be read, or their labels fit no class; the message says which."""


class SavingError(RuntimeError):
    """A step or weights can't be written; the message says which and why."""


class Stopped(Exception):
    """The run was told to end by a signal, and has saved its step."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number
