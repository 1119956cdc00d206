"""The one error for everything that can be wrong with a user's checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint can't be read or written: says the thing, what was expected, what came, what to do."""
