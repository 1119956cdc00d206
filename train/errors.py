"""How a run ends that went wrong while it ran."""


class NonFiniteLoss(RuntimeError):
    """The loss became infinite or no number; the message says at which step and learning rate."""
