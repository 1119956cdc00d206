"""What the checkpoint's own class computes beside what its blocks give: softmax weights, the last norm, what it pools.

Libraries have many names for these, or no module at all; so they are read where torch is asked for them.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from parity_tests.pairs import Arrays
from parity_tests.verify.original import Original, Refused, first_line
from vit_convert.config import ViTConfig

OF_POOL = "attn_pool.weights"


class Unread(Exception):
    """It doesn't run while it is watched: why."""


def run_parts(
    original: Original, images: np.ndarray, blocks: Sequence[nn.Module], config: ViTConfig, wanted: Collection[str]
) -> Arrays:
    """Those of `wanted` that are found, by our names, float64. It takes a run of its own: while it is watched, torch
    leaves out the one kernel that nn.MultiheadAttention has for inference, so its output may be other bits.

    Args:
        blocks: the class's, in the order in which they run; without them nothing is found.

    Raises:
        Unread: it doesn't run under a torch function mode.
        Refused: they aren't finite.
    """
    if not blocks:
        return {}
    parts = Parts(len(images), config, wanted)
    hooks = parts.watch(original.model, blocks)
    try:
        with parts:
            output = original.answer(images)
    except MemoryError:
        raise
    except Exception as error:  # whatever another library says
        raise Unread(first_line(error)) from error
    finally:
        for hook in hooks:
            hook.remove()
    found = parts.found()
    if "pooled" in wanted and not (config.num_classes or config.pre_logits):
        found.setdefault("pooled", output)  # what it pools is its answer
    if broken := [name for name, array in found.items() if not np.isfinite(array).all()]:
        raise Refused(f"{original.name} gives values that are NaN or infinite, the first in {broken[0]}")
    return found


class Parts(TorchFunctionMode):
    """Sees every call of torch within it, and knows which block is running."""

    def __init__(self, count: int, config: ViTConfig, wanted: Collection[str]):
        super().__init__()
        self.wanted = wanted
        self.heads = 2 if config.pool == "class_dist" else 1
        self.pooled_shape = (count, config.dim if self.heads == 2 else config.pooled_dim)
        self.running: int | None = None
        self.tokens: Tensor | None = None  # what the last block gave
        self.kept: dict[str, list[Tensor]] = defaultdict(list)

    def watch(self, model: nn.Module, blocks: Sequence[nn.Module]) -> list[Any]:
        """Hooks on the blocks and on every norm outside them."""
        inside = {module for block in blocks for module in block.modules()}
        norms = [module for module in model.modules() if module not in inside and _is_norm(module)]
        hooks: list[Any] = [norm.register_forward_hook(self._norm) for norm in norms]
        for i, block in enumerate(blocks):
            hooks.append(block.register_forward_pre_hook(self._enters(i)))
            hooks.append(block.register_forward_hook(self._leaves(i == len(blocks) - 1)))
        return hooks

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in WEIGHTS and (name := self._attending()) in self.wanted:
            weights = WEIGHTS[func](result, *args, **(kwargs or {}))
            if weights is not None and weights.ndim == 4:
                self.kept[name].append(weights)
        elif func in PRODUCTS and self._is_head(args):
            self.kept["pooled"].append(args[0])
        return result

    def found(self) -> dict[str, np.ndarray]:
        """What came as often as it has to."""
        once = {name: kept[0] for name, kept in self.kept.items() if len(kept) == 1 and name != "pooled"}
        if OF_POOL in once:
            once[OF_POOL] = once[OF_POOL][:, :, 0]  # its one query
        pooled = self.kept["pooled"][: self.heads]
        if len(pooled) == self.heads:
            once["pooled"] = torch.stack(pooled, dim=1) if self.heads == 2 else pooled[0]
        return {name: x.detach().double().numpy() for name, x in once.items() if name in self.wanted}

    def _attending(self) -> str:
        """Our name of the softmax weights that are computed now."""
        if self.running is not None:
            return f"blocks.{self.running}.attn.weights"
        return "" if self.tokens is None else OF_POOL

    def _is_head(self, args: Sequence[Any]) -> bool:
        """Whether features of whole images meet a matrix of the class's after its blocks: the first such product reads
        what was pooled, of two heads the first two."""
        if self.tokens is None or len(args) < 2 or not isinstance(args[1], nn.Parameter):
            return False
        return tuple(args[0].shape) == self.pooled_shape

    def _enters(self, i: int) -> Callable[..., None]:
        def enters(module: nn.Module, inputs: Any) -> None:
            self.running = i

        return enters

    def _leaves(self, last: bool) -> Callable[..., None]:
        def leaves(module: nn.Module, inputs: Any, output: Any) -> None:
            self.running = None
            if last:
                self.tokens = output[0] if isinstance(output, tuple) else output

        return leaves

    def _norm(self, module: nn.Module, inputs: Sequence[Any], output: Any) -> None:
        """A norm of the very tensor that the last block gave."""
        if self.tokens is not None and inputs and inputs[0] is self.tokens:
            self.kept["norm"].append(output)


def _is_norm(module: nn.Module) -> bool:
    """A module of a vector; a matrix is a layer's."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 1


def _given(result: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return result


def _of_fused(
    result: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """softmax(q k' * scale), as torch documents its kernel; of a masked call there is nothing to compare."""
    if attn_mask is not None or is_causal or enable_gqa:
        return None
    return torch.softmax(query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5), dim=-1)


def _of_multi_head(result: Any, *args: Any, **kwargs: Any) -> Tensor | None:
    """torch's own function, asked once more for the weights of every head."""
    call = signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    call.arguments |= dict(need_weights=True, average_attn_weights=False)
    return F.multi_head_attention_forward(*call.args, **call.kwargs)[1]


# (what the call gave, its arguments) -> the softmax weights, (B, H, T, S)
WEIGHTS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.softmax: _given,
    torch.softmax: _given,
    Tensor.softmax: _given,
    F.scaled_dot_product_attention: _of_fused,
    F.multi_head_attention_forward: _of_multi_head,
}
PRODUCTS = {F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__}
