"""A checkpoint of one's own keeps the suite's promises: pytest parity_tests --checkpoint SRC, and only then."""

from typing import Any

import pytest

from parity_tests.verify.asked import Asked
from parity_tests.verify.prove import OriginalGaps, Proof, prove
from parity_tests.verify.source import open_source
from parity_tests.verify.verdict import check_all
from vit_convert.errors import CheckpointError
from vit_convert.resolve import parse_override

ROUNDED = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def proof(request: pytest.FixtureRequest) -> Proof:
    """Measured once for all promises."""
    option: Any = request.config.getoption
    try:
        overrides = dict(map(parse_override, option("set")))
        source = open_source(
            option("checkpoint"), preset=option("preset"), overrides=overrides, weights=option("weights")
        )
        return prove(source, Asked())
    except CheckpointError as error:
        pytest.exit(str(error), returncode=2)


def holds(proof: Proof, promise: str, dtype: str = "float64") -> None:
    """Raises AssertionError with the place where the two part."""
    checks = [check for check in check_all(proof) if (check.promise, check.dtype) == (promise, dtype)]
    assert checks
    for check in checks:
        assert check.agrees, check.parting


@pytest.mark.parametrize("dtype", ["float64", *ROUNDED])
def test_every_tensor_has_the_file_s_bits_in_both(proof: Proof, dtype: str) -> None:
    holds(proof, "tensors", dtype)


def test_every_intermediate_agrees_in_float64(proof: Proof) -> None:
    holds(proof, "intermediates")


def test_every_gradient_agrees_in_float64(proof: Proof) -> None:
    holds(proof, "gradients")


def test_every_prediction_is_the_same(proof: Proof) -> None:
    if not proof.source.checkpoint.config.num_classes:
        pytest.skip("the model has no head")
    holds(proof, "predictions")


def test_both_are_the_function_of_its_own_class(proof: Proof) -> None:
    if not isinstance(proof.original, OriginalGaps):
        pytest.skip(proof.original)
    holds(proof, "original")


@pytest.mark.parametrize("dtype", ROUNDED)
def test_flax_is_as_near_to_float64_as_torch_is(proof: Proof, dtype: str) -> None:
    holds(proof, "intermediates", dtype)


@pytest.mark.parametrize("dtype", ROUNDED)
def test_flax_gradients_are_as_near_to_float64_as_torchs_are(proof: Proof, dtype: str) -> None:
    if not proof.dtypes[dtype].graded:
        pytest.skip(proof.said[-1])
    holds(proof, "gradients", dtype)
