"""The suite is tested too: each mistake that public ports make turns the parity check red."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import vit_flax
import vit_flax.attention
import vit_flax.block
import vit_flax.mlp
import vit_flax.vit
from parity_tests.test_forward_parity import SMALL, check_forward, check_gradients


def tanh_gelu(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(vit_flax.mlp.ACTIVATIONS, "gelu", partial(jax.nn.gelu, approximate=True))


def eps_1e_5(patch: pytest.MonkeyPatch) -> None:
    make_norm = vit_flax.block.make_norm
    wrong = lambda config, dim, **of: make_norm(config.replace(norm_eps=1e-5), dim, **of)  # noqa: E731
    patch.setattr(vit_flax.block, "make_norm", wrong)


def eps_1e_12(patch: pytest.MonkeyPatch) -> None:
    make_norm = vit_flax.vit.make_norm
    wrong = lambda config, dim, **of: make_norm(config.replace(norm_eps=1e-12), dim, **of)  # noqa: E731
    patch.setattr(vit_flax.vit, "make_norm", wrong)


def swapped_q_and_k(patch: pytest.MonkeyPatch) -> None:
    project = vit_flax.attention.Attention.project

    def swapped(self: vit_flax.attention.Attention, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        q, k, v = project(self, x)
        return k, q, v

    patch.setattr(vit_flax.attention.Attention, "project", swapped)


def heads_before_parts(patch: pytest.MonkeyPatch) -> None:
    """qkv read as (H, 3, D/H): the same shapes, another function."""

    def project(self: vit_flax.attention.Attention, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        B, T, _ = x.shape
        q, k, v = jnp.unstack(self.qkv(x).reshape(B, T, self.num_heads, 3, -1), axis=3)
        return q, k, v

    patch.setattr(vit_flax.attention.Attention, "project", project)


def no_head_scale(patch: pytest.MonkeyPatch) -> None:
    attention_weights = vit_flax.attention.attention_weights
    patch.setattr(vit_flax.attention, "attention_weights", lambda q, k: attention_weights(q * q.shape[-1] ** 0.5, k))


def float32_softmax(patch: pytest.MonkeyPatch) -> None:
    """What jax.nn.dot_product_attention does to float64: 4e-8, far below any float32 tolerance."""
    softmax = jax.nn.softmax
    patch.setattr(jax.nn, "softmax", lambda x, axis: softmax(x.astype(jnp.float32), axis=axis).astype(x.dtype))


def pooled_prefix(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vit_flax.vit, "pool_tokens", lambda config, x, attn_pool: x.mean(axis=1))


def resized_as_jax_does(patch: pytest.MonkeyPatch) -> None:
    """jax.image.resize: another cubic, and antialias on."""

    def resize(config: vit_flax.ViTConfig, table: jax.Array, grid: tuple[int, int]) -> jax.Array:
        table = jax.image.resize(table.reshape(*config.grid, config.dim), (*grid, config.dim), "cubic")
        return table.reshape(1, -1, config.dim)

    patch.setattr("vit_flax.pos_embed.resize_positions", resize)


MISTAKES = [
    (tanh_gelu, SMALL),
    (eps_1e_5, SMALL),
    (eps_1e_12, SMALL),
    (swapped_q_and_k, SMALL),
    (heads_before_parts, SMALL),
    (no_head_scale, SMALL),
    (float32_softmax, SMALL),
    (pooled_prefix, SMALL.replace(pool="mean")),
]


@pytest.mark.parametrize(("mistake", "config"), MISTAKES, ids=lambda x: getattr(x, "__name__", ""))
@pytest.mark.parametrize("check", [check_forward, pytest.param(check_gradients, marks=pytest.mark.slow)])
def test_a_planted_mistake_turns_the_suite_red(monkeypatch, mistake, config, check):
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match="differs by"):
        check(config)


def test_another_resize_turns_the_suite_red(monkeypatch):
    from parity_tests.test_models import check_dynamic_size

    check_dynamic_size("bicubic")
    resized_as_jax_does(monkeypatch)
    with pytest.raises(AssertionError):
        check_dynamic_size("bicubic")


def test_nothing_planted_is_green():
    check_forward(SMALL)
    check_gradients(SMALL)
