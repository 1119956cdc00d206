"""vit-verify finds attention weights, the last norm and pooled features in a checkpoint's own class."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity_tests.changed_class import prove_changed
from parity_tests.compare import gap
from parity_tests.real.base import Forward
from parity_tests.tolerances import FORWARD
from parity_tests.verify.original import Original
from parity_tests.verify.own_class import OriginalGaps
from parity_tests.verify.own_parts import run_parts
from parity_tests.verify.verdict import agrees, check_all
from vit_convert.config import ViTConfig

CONFIG = ViTConfig(
    image_size=8, patch_size=4, in_channels=1, dim=8, depth=1, num_heads=2, mlp_dim=8, num_classes=3, class_token=True
)
COUNT, HEADS, TOKENS, DIM = 3, CONFIG.num_heads, 5, CONFIG.dim


def split(x: Tensor) -> Tensor:
    """(B, T, D) -> (B, H, T, D/H)."""
    return x.reshape(len(x), TOKENS, HEADS, DIM // HEADS).transpose(1, 2)


def by_softmax(block: "Block", q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (split(q) @ split(k).transpose(-2, -1) * block.scale).softmax(-1) @ split(v)


def by_function(block: "Block", q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.softmax(torch.einsum("bhtd,bhsd->bhts", split(q), split(k)) * block.scale, dim=-1) @ split(v)


def by_kernel(block: "Block", q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(split(q), split(k), value=split(v), scale=block.scale)


WAYS: dict[str, Callable[["Block", Tensor, Tensor, Tensor], Tensor]] = {
    "Tensor.softmax": by_softmax,
    "F.softmax": by_function,
    "scaled_dot_product_attention": by_kernel,
}


class Block(nn.Module):
    """x + attention, whose scale isn't the usual one."""

    scale = 0.9

    def __init__(self, way: str):
        super().__init__()
        self.way = way
        self.qkv = nn.Linear(DIM, 3 * DIM)

    def forward(self, x: Tensor) -> Tensor:
        return x + WAYS[self.way](self, *self.qkv(x).chunk(3, -1)).transpose(1, 2).reshape(x.shape)


class MultiHead(nn.Module):
    """torch's own module, which runs one kernel for all where no gradient is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(DIM, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(x, x, x, need_weights=False)[0]


class Model(nn.Module):
    """Images are tokens already; the head reads the first."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.blocks = nn.ModuleList([block])
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks[0](pixels[:, 0]))[:, 0])


def watched(model: nn.Module, *wanted: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The tokens that it is shown, and what is found in it."""
    tokens = np.random.default_rng(0).standard_normal((COUNT, TOKENS, DIM, 1))
    original = Original("a class", "1", model, Forward(model.double().eval(), cast(Any, None)), cast(Any, None))
    blocks: Any = model.blocks
    return tokens[..., 0], dict(run_parts(original, tokens, [*blocks], CONFIG, wanted))


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits)
    return exp / exp.sum(-1, keepdims=True)


def in_heads(x: np.ndarray) -> np.ndarray:
    return x.reshape(COUNT, TOKENS, HEADS, DIM // HEADS).transpose(0, 2, 1, 3)


@pytest.mark.parametrize("way", WAYS)
def test_attention_weights_are_read_whichever_way_torch_is_asked_for_them(way: str) -> None:
    torch.manual_seed(0)
    model = Model(block := Block(way))
    x, found = watched(model, "blocks.0.attn.weights", "norm", "pooled")
    weight, bias = (p.detach().numpy() for p in (block.qkv.weight, block.qkv.bias))
    q, k = (in_heads(part) for part in np.split(x @ weight.T + bias, 3, axis=-1)[:2])
    assert gap(found["blocks.0.attn.weights"], softmax(q @ k.swapaxes(-2, -1) * block.scale)) < FORWARD
    normed = model.norm(block(torch.tensor(x))).detach().numpy()
    assert gap(found["norm"], normed) < FORWARD
    assert gap(found["pooled"], normed[:, 0]) < FORWARD


def test_attention_weights_of_multihead_attention_are_those_of_every_head() -> None:
    torch.manual_seed(0)
    block = MultiHead()
    x, found = watched(Model(block), "blocks.0.attn.weights")
    weight, bias = (p.detach().numpy() for p in (block.attn.in_proj_weight, block.attn.in_proj_bias))
    q, k = (in_heads(part) for part in np.split(x @ weight.T + bias, 3, axis=-1)[:2])
    assert gap(found["blocks.0.attn.weights"], softmax(q @ k.swapaxes(-2, -1) * (DIM // HEADS) ** -0.5)) < FORWARD


class Masked(Block):
    """Attention in which tokens are hidden from each other has no weights that ours could be compared with."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = map(split, self.qkv(x).chunk(3, -1))
        hidden = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
        return x + F.scaled_dot_product_attention(q, k, v, hidden).transpose(1, 2).reshape(x.shape)


def test_attention_weights_behind_a_mask_are_not_found() -> None:
    assert set(watched(Model(Masked("")), "blocks.0.attn.weights", "pooled")[1]) == {"pooled"}


class Projects(Model):
    """Its head is a matrix without a module, as open_clip's projection."""

    def __init__(self) -> None:
        super().__init__(Block("F.softmax"))
        self.proj = nn.Parameter(torch.ones(DIM, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm(self.blocks[0](pixels[:, 0]))[:, 1] @ self.proj


def test_what_a_matrix_without_a_module_reads_is_what_is_pooled() -> None:
    found = watched(Projects(), "norm", "pooled")[1]
    assert np.array_equal(found["pooled"], found["norm"][:, 1])


def test_only_what_is_wanted_is_kept() -> None:
    assert set(watched(Model(Block("F.softmax")), "pooled")[1]) == {"pooled"}


class Twice(Model):
    """Its block runs twice, so neither run's weights are those of a block of ours."""

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks[0](self.blocks[0](pixels[:, 0])))[:, 0])


def test_attention_weights_of_a_block_that_runs_twice_are_not_taken_for_one() -> None:
    assert set(watched(Twice(Block("F.softmax")), "blocks.0.attn.weights", "pooled")[1]) == {"pooled"}


@pytest.mark.slow
def test_a_class_with_another_last_norm_parts_there_though_its_output_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(original: Original) -> None:
        model: Any = original.model
        with torch.no_grad():
            for tensor in (model.norm.weight, model.norm.bias):
                tensor.mul_(2)
            model.head.weight.div_(2)

    found = prove_changed(tmp_path, monkeypatch, change).original
    assert isinstance(found, OriginalGaps)
    assert {name for name, of in found.torch.items() if not of < FORWARD} >= {"norm", "pooled"}
    assert max(found.torch[name] for name in ("blocks.1", "blocks.1.attn.weights", "output")) < FORWARD


def test_a_class_with_other_attention_weights_parts_there_before_its_block_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sharper(original: Original) -> None:
        attn: Any = original.model.get_submodule("blocks.1.attn")
        attn.fused_attn, attn.scale = False, attn.scale * 1.01

    failed = [check for check in check_all(prove_changed(tmp_path, monkeypatch, sharper)) if not check.agrees]
    assert len(failed) == 2
    assert all("part at blocks.1.attn.weights (float64)" in check.parting for check in failed)


@pytest.mark.slow
def test_a_class_that_does_not_run_while_it_is_watched_is_compared_by_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shy(original: Original) -> Original:
        def run(pixels: Tensor) -> Tensor:
            if torch.overrides._get_current_function_mode() is not None:
                raise TypeError("no modes")
            return original.answer.run(pixels)

        return replace(original, answer=replace(original.answer, run=run))

    found = prove_changed(tmp_path, monkeypatch, shy)
    assert agrees(check_all(found))
    assert "its output" in found.said[-1]
    assert "nothing is read, for it doesn't run while it is watched: TypeError: no modes" in found.said[-1]
