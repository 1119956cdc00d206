"""The attention of the guide that this project grew from is ours, written another way."""

import math
from typing import cast

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import Tensor, nn

import vit_flax.dropout
import vit_torch
import vit_torch.attention
from parity_tests.compare import gap
from parity_tests.pairs import images_for, make_pair
from parity_tests.tolerances import FORWARD
from vit_convert.config import ViTConfig

CONFIG = ViTConfig(image_size=(12, 20), patch_size=(4, 5), dim=24, depth=1, num_heads=3, mlp_dim=40, num_classes=7)
RATE = 0.25


class GuideAttention(nn.Module):
    """Separate q, k, v and out layers, an explicit softmax, dropout on the weights."""

    def __init__(self, dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape

        def heads(y: Tensor) -> Tensor:
            return y.view(batch, tokens, self.num_heads, self.head_dim).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.head_dim)
        weights = self.dropout(torch.softmax(scores, dim=-1))
        context = torch.matmul(weights, v).transpose(1, 2).contiguous().view(batch, tokens, dim)
        return self.out(context)


def attention_of(model: vit_torch.ViT) -> vit_torch.attention.Attention:
    return cast(vit_torch.attention.Attention, model.get_submodule("blocks.0.attn"))


def guide_for(model: vit_torch.ViT) -> GuideAttention:
    """The guide's module with the weights of our fused one: qkv's rows are q | k | v."""
    guide, attention = GuideAttention(CONFIG.dim, CONFIG.num_heads, RATE).double(), attention_of(model)
    q, k, v = (part.clone() for part in attention.qkv.weight.detach().chunk(3))
    bias_q, bias_k, bias_v = (part.clone() for part in attention.qkv.bias.detach().chunk(3))
    guide.load_state_dict(
        {"query.weight": q, "key.weight": k, "value.weight": v, "out.weight": attention.proj.weight.detach()}
        | {"query.bias": bias_q, "key.bias": bias_k, "value.bias": bias_v, "out.bias": attention.proj.bias.detach()}
    )
    return guide


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_the_guides_attention_is_ours(attention):
    ours, flax = make_pair(CONFIG, attention=attention)
    guide = guide_for(ours).eval()
    x = np.random.default_rng(0).standard_normal((2, 13, CONFIG.dim))
    expected = guide(torch.tensor(x)).detach().numpy()
    assert gap(attention_of(ours)(torch.tensor(x))[0].detach().numpy(), expected) < FORWARD
    assert gap(flax.blocks[0].attn(jnp.asarray(x))[0], expected) < FORWARD


def test_dropout_falls_on_the_weights_as_in_the_guide(monkeypatch):
    """With one and the same mask, in all three."""
    ours, flax = make_pair(CONFIG, attn_dropout=RATE)
    mask = np.random.default_rng(1).random((2, CONFIG.num_heads, 13, 13)) < 1 - RATE
    guide = guide_for(ours)
    monkeypatch.setattr(guide.dropout, "forward", lambda weights: weights * torch.tensor(mask) / (1 - RATE))
    monkeypatch.setattr(torch.Tensor, "bernoulli_", lambda self, p, generator: self.copy_(torch.tensor(mask)))
    monkeypatch.setattr(vit_flax.dropout.jax.random, "bernoulli", lambda key, p, shape: jnp.asarray(mask))
    x = np.random.default_rng(0).standard_normal((2, 13, CONFIG.dim))
    expected = guide(torch.tensor(x)).detach().numpy()
    torchs = attention_of(ours)(torch.tensor(x), generator=torch.Generator())[0]
    flaxs = flax.blocks[0].attn(jnp.asarray(x), rngs=nnx.Rngs(0))[0]
    assert gap(torchs.detach().numpy(), expected) < FORWARD
    assert gap(flaxs, expected) < FORWARD
    assert not np.allclose(expected, guide_for(ours).eval()(torch.tensor(x)).detach().numpy())


def test_swapped_parts_of_qkv_would_be_seen():
    ours, _ = make_pair(CONFIG)
    guide = guide_for(ours).eval()
    guide.query, guide.key = guide.key, guide.query
    images = torch.tensor(images_for(CONFIG, 3)).reshape(3, -1, CONFIG.dim)[:, :13]
    output = attention_of(ours)(images)[0]
    assert gap(output.detach().numpy(), guide(images).detach().numpy()) > 1e-3
