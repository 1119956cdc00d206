"""Making the next tensor while the last one is written: both take a conversion's time, on two cores."""

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

Named = tuple[str, np.ndarray]


def ahead(stream: Iterable[Named]) -> Generator[Named, None, None]:
    """The stream, of which the next is already being made, on another thread: one and never more."""
    source = iter(stream)
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(next, source, None)
        while (here := coming.result()) is not None:
            coming = other.submit(next, source, None)
            yield here
