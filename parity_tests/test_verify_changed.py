"""A checkpoint's own class that answers otherwise than both frameworks, or fails, is a disagreement with its place."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity_tests.changed_class import FLOAT64, change_class, prove_changed, save_timm
from parity_tests.selection import quick
from parity_tests.tolerances import GRADIENT
from parity_tests.verify.asked import Asked
from parity_tests.verify.command import main
from parity_tests.verify.measure import Rounded
from parity_tests.verify.original import OPEN, Original, open_original
from parity_tests.verify.own_class import OF, OriginalGaps
from parity_tests.verify.prove import prove
from parity_tests.verify.source import open_source
from parity_tests.verify.verdict import agrees, check_all


def test_embeddings_that_its_own_class_has_otherwise_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def moved(original: Original) -> None:
        with torch.no_grad():
            original.model.get_parameter("pos_embed").mul_(1 + 1e-6)

    save_timm(tmp_path)
    change_class(monkeypatch, moved)
    assert main([str(tmp_path), "--dtypes", "float64", "--images", "2"]) == 1
    assert "PyTorch and timm VisionTransformer part at embeddings (float64)" in capsys.readouterr().out


def raises(error: Exception) -> Callable[[Any], Any]:
    def fail(given: Any) -> Any:
        raise error

    return fail


def answers(change: Callable[[torch.Tensor], Any]) -> Callable[[Any], Original]:
    """timm's own class whose answer is changed."""
    opens = OPEN["timm"]

    def changed(source: Any) -> Original:
        original = opens(source)
        return replace(original, answer=replace(original.answer, run=lambda x: change(original.answer.run(x))))

    return changed


FAILURES = {
    "refuses the file": (
        raises(RuntimeError("Error(s) in loading state_dict:\n size mismatch for cls_token")),
        "timm doesn't load it: RuntimeError: Error(s) in loading state_dict: size mismatch for cls_token",
    ),
    "is of a package without a part": (
        raises(ModuleNotFoundError("No module named 'timm.gone'", name="timm.gone")),
        "timm can't be imported: ModuleNotFoundError: No module named 'timm.gone'",
    ),
    "crashes": (
        answers(raises(ValueError("no such size"))),
        "timm VisionTransformer doesn't run on these images: ValueError: no such size",
    ),
    "answers another shape": (
        answers(lambda logits: logits[:, :-1]),
        "timm VisionTransformer answers (2, {less}), this model (2, {classes}): another output",
    ),
    "answers NaN": (
        answers(lambda logits: logits * np.nan),
        "timm VisionTransformer gives values that are NaN or infinite, the first in output",
    ),
}


@pytest.mark.parametrize("failure", quick(list(FAILURES), ["refuses the file"]))
def test_its_own_class_failing_is_a_disagreement_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: str
) -> None:
    opens, reason = FAILURES[failure]
    save_timm(tmp_path)
    classes = open_source(str(tmp_path)).checkpoint.config.num_classes
    reason = reason.format(classes=classes, less=classes - 1)
    monkeypatch.setitem(OPEN, "timm", opens)
    report = tmp_path / "report.html"
    words = [str(tmp_path), "--dtypes", "float64", "--images", "2", "--report", str(report), "--json"]
    assert main(words) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["original"] == {"compared": False, "failed": True, "reason": reason}
    (check,) = [check for check in found["checks"] if not check["agrees"]]
    assert (check["promise"], check["measured"], check["bound"]) == ("original", 0, 1)
    assert found["summary"] == f"They disagree. Its own class gives nothing to compare with (float64): {reason}."
    assert "It disagrees: " in report.read_text(encoding="utf-8").split('id="original"')[1]


@pytest.mark.slow
def test_a_class_whose_gradient_is_another_disagrees_though_its_output_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPEN, "timm", answers(lambda logits: 2 * logits - logits.detach()))
    save_timm(tmp_path)
    found = check_all(prove(open_source(str(tmp_path)), FLOAT64))
    failed = [check for check in found if not check.agrees]
    assert [check.what.partition(" against")[0] for check in failed] == ["PyTorch", "Flax"]
    assert all("part at gradient of the images (float64): 5.0e-01 of its largest" in check.parting for check in failed)


def test_a_class_with_another_gradient_of_one_tensor_disagrees_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output and its gradient of the images are the same."""

    def wrong(original: Original) -> None:
        layer: Any = original.model.get_submodule("blocks.1.mlp.fc1")
        layer.register_forward_hook(lambda module, given, out: out + module.bias - module.bias.detach())

    failed = [check for check in check_all(prove_changed(tmp_path, monkeypatch, wrong)) if not check.agrees]
    assert [check.what.partition(" against")[0] for check in failed] == ["PyTorch", "Flax"]
    assert all("part at gradient of blocks.1.mlp.fc1.bias (float64): 5.0e-01" in check.parting for check in failed)


@pytest.mark.slow
def test_its_own_class_is_run_in_dtypes_that_round_and_its_error_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_timm(tmp_path)
    asked = Asked(dtypes=("float32", "bfloat16"), images=4)
    found = prove(open_source(str(tmp_path)), asked)
    assert agrees(check_all(found))
    for dtype, of in found.dtypes.items():
        assert isinstance(of.distances, Rounded)
        ours = of.distances.layers["output"]
        assert isinstance(of.own, float)
        assert 0.5 < of.own / ours.torch < 2  # the same operations in nearly the same order
        assert (
            f"in {dtype} the output of its own class is {of.own:.1e} from float64, PyTorch's {ours.torch:.1e}, Flax's "
            f"{ours.flax:.1e} (root mean squares)"
        ) in found.said

    def failing(original: Original) -> Original:
        return replace(original, answer=replace(original.answer, plain=lambda model, x: raises(TypeError("no"))(x)))

    found = prove_changed(tmp_path / "again", monkeypatch, failing, replace(asked, dtypes=("float32",)))
    assert agrees(check_all(found))
    assert "its own class doesn't run in float32: TypeError: no" in found.said


@pytest.mark.slow
def test_a_tensor_that_its_class_has_frozen_has_a_gradient_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As open_clip has its tables of positions."""

    def frozen(original: Original) -> None:
        original.model.get_parameter("pos_embed").requires_grad_(False)

    found = prove_changed(tmp_path, monkeypatch, frozen)
    assert isinstance(found.original, OriginalGaps)
    assert found.original.torch[f"{OF}pos_embed"] < GRADIENT


@pytest.mark.slow
def test_gradients_that_cannot_be_named_are_no_disagreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = raises(OSError("the disk is full"))
    found = prove_changed(tmp_path, monkeypatch, lambda original: replace(original, save=full))
    assert agrees(check_all(found))
    assert found.said[-1].endswith(
        "its output and the gradient of the images; no gradients of its weights: timm VisionTransformer doesn't save "
        "them: OSError: the disk is full"
    )


def test_too_little_memory_is_no_disagreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_timm(tmp_path)
    monkeypatch.setitem(OPEN, "timm", raises(MemoryError("1 TB")))
    with pytest.raises(MemoryError):
        open_original(open_source(str(tmp_path)))
