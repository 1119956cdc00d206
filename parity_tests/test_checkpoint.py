"""A checkpoint of one's own keeps the suite's promises: pytest parity_tests --checkpoint SRC, and only then."""

import warnings
from typing import Any

import pytest

from parity_tests.verify.asked import DTYPES, Asked
from parity_tests.verify.prove import Proof, no_gradients, prove
from parity_tests.verify.source import open_source
from parity_tests.verify.verdict import check_all
from vit_convert.errors import CheckpointError
from vit_convert.resolve import parse_overrides

ROUNDED = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def measured(request: pytest.FixtureRequest) -> Proof | str:
    """Once for all promises; or why nothing can be."""
    option: Any = request.config.getoption
    try:
        overrides = parse_overrides(option("set"))
        source = open_source(
            option("checkpoint"), preset=option("preset"), overrides=overrides, weights=option("weights")
        )
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # what other libraries warn of is no error, as for vit-verify
            return prove(source, Asked())
    except CheckpointError as error:
        return str(error)


@pytest.fixture
def proof(measured: Proof | str) -> Proof:
    if isinstance(measured, str):
        pytest.skip("nothing was measured")  # the first test says why
    return measured


def holds(proof: Proof, promise: str, dtype: str = "float64") -> None:
    """Raises AssertionError with the place where the two part."""
    checks = [check for check in check_all(proof) if (check.promise, check.dtype) == (promise, dtype)]
    assert checks
    for check in checks:
        assert check.agrees, check.parting


def test_it_can_be_measured(measured: Proof | str) -> None:
    """One failure that says what is wrong with the checkpoint: the promises below are then skipped."""
    if isinstance(measured, str):
        pytest.fail(measured, pytrace=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tensor_has_the_file_s_bits_in_both(proof: Proof, dtype: str) -> None:
    holds(proof, "tensors", dtype)


def test_every_intermediate_agrees_in_float64(proof: Proof) -> None:
    holds(proof, "intermediates")


def test_every_gradient_agrees_in_float64(proof: Proof) -> None:
    holds(proof, "gradients")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_prediction_is_the_same(proof: Proof, dtype: str) -> None:
    """Where rounding may exchange the first two classes, no image is asked for."""
    predictions = proof.dtypes[dtype].predictions
    if predictions is None:
        pytest.skip("the model has no head")
    if all(predictions.close):
        pytest.skip(f"{dtype}: all images are too close to call")
    holds(proof, "predictions", dtype)


def test_both_are_the_function_of_its_own_class(proof: Proof) -> None:
    if isinstance(proof.original, str):
        pytest.skip(proof.original)
    holds(proof, "original")


@pytest.mark.parametrize("dtype", ROUNDED)
def test_flax_is_as_near_to_float64_as_torch_is(proof: Proof, dtype: str) -> None:
    holds(proof, "intermediates", dtype)


@pytest.mark.parametrize("dtype", ROUNDED)
def test_flax_gradients_are_as_near_to_float64_as_torchs_are(proof: Proof, dtype: str) -> None:
    if not proof.dtypes[dtype].graded:
        pytest.skip(no_gradients(dtype))
    holds(proof, "gradients", dtype)
