"""timm's own class with something changed in it, and a checkpoint of timm's that is proven against it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from parity_tests.families.timm import SIZES, saver
from parity_tests.verify.asked import Asked
from parity_tests.verify.original import OPEN, Original
from parity_tests.verify.prove import Proof, prove
from parity_tests.verify.source import Source, open_source

FLOAT64 = Asked(dtypes=("float64",), images=2)


def save_timm(folder: Path) -> None:
    """A small ViT of timm's."""
    saver("vit_base_patch16_224", **SIZES)(folder)


def change_class(patch: pytest.MonkeyPatch, change: Callable[[Original], Original | None]) -> None:
    """From here on timm's class is opened with this change, made in place or returned."""
    opens = OPEN["timm"]

    def opened(source: Source) -> Original:
        original = opens(source)
        return change(original) or original

    patch.setitem(OPEN, "timm", opened)


def prove_changed(
    folder: Path, patch: pytest.MonkeyPatch, change: Callable[[Original], Original | None], asked: Asked = FLOAT64
) -> Proof:
    """Both frameworks against the changed class."""
    change_class(patch, change)
    save_timm(folder)
    return prove(open_source(str(folder)), asked)
