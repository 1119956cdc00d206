"""What a run chooses beside the config: checked the same way for both models."""

from collections.abc import Sequence


def check_run_options(
    dropout: float, attn_dropout: float, attention: str, known: Sequence[str] = ("fused", "explicit")
) -> None:
    """Raises ValueError for rates outside [0, 1) and for an unknown attention implementation."""
    for name, rate in (("dropout", dropout), ("attn_dropout", attn_dropout)):
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {rate}")
    if attention not in known:
        raise ValueError(f"attention must be {' or '.join(map(repr, known))}, got {attention!r}")


def check_masks(shape: tuple[int, ...], depth: int, batch: int) -> None:
    """Raises ValueError unless stochastic depth's factors are (depth, 2, B)."""
    if shape != (depth, 2, batch):
        raise ValueError(f"drop_path must be (depth, 2, B) = ({depth}, 2, {batch}), got {shape}")
