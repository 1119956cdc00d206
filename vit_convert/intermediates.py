"""Named intermediates: what a model computes on its way, by the same names in both frameworks."""

from collections.abc import Sequence
from typing import TypeVar

from vit_convert.config import ViTConfig

Array = TypeVar("Array")


def intermediate_names(config: ViTConfig) -> tuple[str, ...]:
    """Every name that `model(images, intermediates=...)` knows, in the order in which they arise.

    `embeddings` (B, T, D) enters the first block; `blocks.{i}.attn.weights` (B, H, T, T) are the
    softmax weights and `blocks.{i}` (B, T, D) the output of block i; `norm` (B, T, D) exists where
    `final_norm` is "tokens"; `attn_pool.weights` (B, H, patches) are the softmax weights of attention
    pooling (`pool` map); `pooled` is (B, pooled_dim), or (B, 2, D) for class_dist; `logits`
    (B, K) exist where there is a head. T counts the prefix tokens and the patches.
    """
    blocks = [name for i in range(config.depth) for name in (f"blocks.{i}.attn.weights", f"blocks.{i}")]
    return ("embeddings", *blocks, *_after_blocks(config))


class Keep:
    """Keeps the values that were asked for, as they pass: `x = keep("norm", self.norm(x))`.

    After google-research/big_vision models/vit.py (`x = out["+sa"] = x + y`), but holding only what
    somebody wants, so that nothing else is kept alive.

    Raises:
        ValueError: names that a model of this config doesn't have.
    """

    def __init__(self, config: ViTConfig, wanted: Sequence[str]):
        if isinstance(wanted, str):
            raise ValueError(f"intermediates must be a tuple of names, got the string {wanted!r}")
        unknown = sorted(set(wanted) - set(intermediate_names(config)))
        if unknown:
            raise ValueError(
                f"unknown intermediates {unknown}; this model has embeddings, blocks.0 to blocks.{config.depth - 1} "
                f"(each also with .attn.weights), {', '.join(_after_blocks(config))}"
            )
        self.wanted = tuple(wanted)
        self.found: dict = {}

    def wants(self, name: str) -> bool:
        return name in self.wanted

    def __call__(self, name: str, value: Array) -> Array:
        if self.wants(name):
            self.found[name] = value
        return value

    def result(self, output: Array) -> Array | tuple[Array, dict[str, Array]]:
        """The output alone, or with exactly the named intermediates, in the order asked for."""
        return (output, {name: self.found[name] for name in self.wanted}) if self.wanted else output


def _after_blocks(config: ViTConfig) -> list[str]:
    of_pool = ["attn_pool.weights"] * (config.pool == "map") + ["pooled"]
    return ["norm"] * (config.final_norm == "tokens") + of_pool + ["logits"] * bool(config.num_classes)
