"""How the command ends that can't do what it was asked."""


class Refused(Exception):
    """The user asked for something that can't be run; the message says what to change."""


class Diverged(RuntimeError):
    """The loss became infinite or no number; the message says at which step."""
