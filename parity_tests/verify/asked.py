"""What is to be measured."""

from dataclasses import dataclass

DTYPES = ("float64", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of a proof."""

    dtypes: tuple[str, ...] = DTYPES  # those of DTYPES; the truth is float64 whichever they are
    images: int | None = None  # None: as many as a model of this width needs
    seed: int = 0
    original: bool = True  # whether the checkpoint's own class is looked for
