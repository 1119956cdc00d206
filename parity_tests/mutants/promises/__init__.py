"""Every promise that a mistake can break, by name. Loads what is tested: only a mutant's own process may import it."""

from parity_tests.mutants.promises import draws, files, model, noise, resize, saved, steps
from parity_tests.mutants.promises.base import Measured, Promise

PROMISES: dict[str, Promise] = {
    **model.PROMISES,
    **resize.PROMISES,
    **files.PROMISES,
    **saved.PROMISES,
    **noise.PROMISES,
    **draws.PROMISES,
    **steps.PROMISES,
}

__all__ = ["PROMISES", "Measured", "Promise"]
