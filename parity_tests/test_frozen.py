"""What is frozen stays, bit for bit, and takes no optimizer state; what is trained moves as it would alone."""

import jax
import numpy as np
import pytest

from parity_tests.small_step import MODEL, after, small_batch, small_state, small_step
from train.config import ConfigError
from train.optimizer.frozen import frozen_names
from vit_convert.hub import hub_shapes

NAMES = tuple(hub_shapes(MODEL))


@pytest.mark.parametrize(
    ("patterns", "trained"),
    [
        (("*", "!head.*"), {"head.kernel", "head.bias"}),
        pytest.param(("patch_embed.*", "blocks.0.*", "pos_embed"), None, marks=pytest.mark.slow),
    ],
)
def test_the_frozen_stay_and_all_else_moves(patterns: tuple[str, ...], trained: set[str] | None):
    step = small_step(frozen=patterns)
    begun, (state, _) = small_state(step), after(step, steps=2)
    moved = {path for path, x in state.params.items() if (np.asarray(x) != np.asarray(begun.params[path])).any()}
    kept = {path for path in state.params if path.startswith(("patch_embed.", "blocks.0.", "pos_embed"))}
    assert moved == (trained or set(state.params) - kept)
    assert state.ema is not None
    for path in set(begun.params) - moved:
        np.testing.assert_array_equal(state.ema[path], begun.params[path])


def test_the_frozen_have_no_moments():
    sizes = [x.size for x in jax.tree.leaves(small_state(small_step(frozen=("*", "!head.*"))).opt_state)]
    assert sum(sizes) == 2 * (16 * 5 + 5) + 1  # mean and square of the head, and the count


def test_no_gradient_is_computed_for_what_lies_before_the_trained():
    """A GELU's derivative has an exponential: a linear probe's program has none of them, the softmaxes' alone."""
    step = small_step(frozen=("*", "!head.*"))
    program = str(jax.make_jaxpr(step.update)(small_state(step), *small_batch(step)))
    whole = str(jax.make_jaxpr(small_step().update)(small_state(small_step()), *small_batch(step)))
    assert program.count(" exp ") < whole.count(" exp ")


def test_the_last_pattern_that_matches_decides():
    assert frozen_names(("blocks.*", "!blocks.1.*", "blocks.1.norm1.*"), NAMES) == {
        name for name in NAMES if name.startswith(("blocks.0.", "blocks.1.norm1."))
    }


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("block.0.*",), r"'block.0.\*' matches no parameter of this model; close are .*blocks.0"),
        (("heads.weight", "hed.*"), r"'heads.weight' matches .*head.weight.*; optimizer.frozen: 'hed.\*' matches"),
        (("*",), "leaves nothing to train"),
    ],
)
def test_a_wrong_pattern_is_told(patterns: tuple[str, ...], message: str):
    with pytest.raises(ConfigError, match=message):
        frozen_names(patterns, NAMES)
