"""vit-verify from the command line: 0 where all agree, 1 and the place where not, 2 and one message for a mistake."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_torch
from parity_tests.test_planted_mistakes import eps_1e_5, swapped_q_and_k, tanh_gelu
from parity_tests.test_verify import SMALL, save
from parity_tests.tolerances import EXACT, FORWARD
from parity_tests.verify.command import main
from parity_tests.verify.source import Source
from vit_flax.mlp import Mlp

ROOT = Path(__file__).resolve().parent.parent
QUICK = ("--no-original", "--images", "4", "--dtypes", "float64")
Out = tuple[int, str, str]  # exit code, stdout, stderr


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("verify") / "native")


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., Out]:
    """Arguments -> exit code, stdout, stderr."""

    def call(*arguments: object) -> Out:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_it_prints_a_table_with_the_verdict(native: Path, verify: Callable[..., Out]) -> None:
    code, out, err = verify(native, *QUICK)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{native} (native): ")
    assert lines[0].endswith("4 images (2 photographs, 2 of noise), seed 0")
    (row,) = [line for line in lines if line.startswith("float64  every intermediate (9)")]
    measured, bound, said = row.split()[4:7]
    assert float(measured) < float(bound) == FORWARD
    assert said == "agrees"
    assert [line.split("  ")[0] for line in lines][-1] == "AGREE"
    assert "its own class: not asked for" in lines
    assert not [line for line in lines if line.startswith("note: gradients")]  # of half of the images, both kinds
    alone = "note: gradients are of the photograph alone: the noise would take as long again"
    assert alone in verify(native, *QUICK, "--images", 2)[1].splitlines()


@pytest.mark.slow
def test_json_has_every_number(native: Path, verify: Callable[..., Out]) -> None:
    code, out, _ = verify(native, "--json", "--images", 4, "--dtypes", "float32,float64", "--seed", 5)
    facts = json.loads(out)
    assert code == 0
    assert (facts["format"], facts["version"], facts["agrees"]) == ("vit-verify", 1, True)
    assert facts["checkpoint"]["layout"] == "native"
    assert facts["checkpoint"]["parameters"] == sum(p.numel() for p in vit_torch.ViT(SMALL).parameters())
    assert facts["checkpoint"]["config"]["num_heads"] == {"value": 5, "source": "config.json"}
    assert list(facts["dtypes"]) == ["float64", "float32"]
    exact, rounded = facts["dtypes"]["float64"], facts["dtypes"]["float32"]
    assert list(exact["intermediates"]) == list(rounded["intermediates"]) == [*exact["largest_difference"]]
    assert exact["intermediates"]["blocks.1"] < FORWARD
    noise = rounded["intermediates"]["blocks.1"]
    assert noise["ratio"] == pytest.approx(noise["flax"] / noise["torch"], rel=EXACT)
    assert (exact["images"], exact["images_of_gradients"]) == (4, 2)
    assert exact["predictions"]["torch"] == exact["predictions"]["flax"]
    assert len(exact["predictions"]["torch"]) == 4
    assert facts["original"] == {
        "compared": False,
        "failed": False,
        "reason": "vit_torch.ViT is itself the class of layout native",
    }
    assert {tensor["hub"][0]["name"] for tensor in facts["tensors"]} == set(vit_torch.ViT(SMALL).state_dict())
    assert facts["reproduce"]["seed"] == 5
    assert facts["reproduce"]["command"].startswith(f"vit-verify {native} --json")
    assert {"torch", "jax", "flax", "numpy"} <= set(facts["reproduce"]["versions"])
    worst = max(exact["intermediates"], key=lambda name: exact["intermediates"][name])
    (check,) = [c for c in facts["checks"] if (c["dtype"], c["promise"]) == ("float64", "intermediates")]
    assert (check["where"], check["measured"]) == (worst, exact["intermediates"][worst])


@pytest.mark.parametrize(
    ("mistake", "where"),
    [
        pytest.param(
            swapped_q_and_k, "PyTorch and Flax part at blocks.0.attn.weights (float64)", marks=pytest.mark.slow
        ),
        (tanh_gelu, "PyTorch and Flax part at blocks.0 (float64)"),
    ],
)
def test_another_function_exits_1_and_names_the_layer_where_they_part(
    native: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch, mistake: Any, where: str
) -> None:
    mistake(monkeypatch)
    code, out, _ = verify(native, *QUICK)
    assert code == 1
    assert f"DISAGREE  They disagree (and 1 more). {where}" in out
    assert "The most at image " in out


@pytest.mark.slow
def test_a_gradient_alone_that_differs_exits_1(
    native: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same outputs: a stopped gradient shows nowhere else."""
    call = Mlp.__call__
    monkeypatch.setattr(Mlp, "__call__", lambda self, x, *a, **k: call(self, jax.lax.stop_gradient(x), *a, **k))
    code, out, _ = verify(native, *QUICK)
    assert code == 1
    assert "They disagree. PyTorch and Flax part at the gradient of " in out


@pytest.mark.slow
def test_noise_beyond_pytorchs_exits_1(
    native: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    eps_1e_5(monkeypatch)
    code, out, _ = verify(native, "--no-original", "--dtypes", "float32", "--images", 4)
    assert code == 1
    assert "PyTorch and Flax part at blocks.0" in out
    assert "times as far from float64 as PyTorch" in out


def test_a_tensor_that_is_another_in_one_model_exits_1_and_is_named(
    native: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Source.flax

    def corrupted(self: Source, dtype: str, **run: Any) -> Any:
        model = load(self, dtype, **run)
        kernel = model.blocks[1].mlp.fc2.kernel
        kernel.set_value(jnp.asarray(np.array(kernel.get_value())[::-1]))
        return model

    monkeypatch.setattr(Source, "flax", corrupted)
    code, out, _ = verify(native, *QUICK)
    assert code == 1
    assert "DISAGREE  They disagree (and " in out
    assert " more). blocks.1.mlp.fc2.weight is not the file's in both models (float64)." in out
    assert "PyTorch and Flax part at blocks.1 (float64)" in out


@pytest.mark.slow
def test_the_folder_of_a_run_is_its_checkpoint(native: Path, tmp_path: Path, verify: Callable[..., Out]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"format": "vit-parity-run", "version": 1}')
    code, _, err = verify(run, *QUICK)
    assert (code, err.count("\n")) == (2, 1)
    assert "a run that has not come to its end" in err
    (run / "checkpoint").symlink_to(native)
    code, out, _ = verify(run, *QUICK)
    assert code == 0
    assert out.startswith(f"{run} (native)")


def test_what_no_file_tells_is_asked_for(native: Path, tmp_path: Path, verify: Callable[..., Out]) -> None:
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((native / "model.safetensors").read_bytes())
    code, out, err = verify(bare, *QUICK)
    assert (code, out) == (2, "")
    assert "nothing tells image_size, num_heads" in err
    answers = ("image_size=28x54", "num_heads=5", "pos_resize=bicubic", "rope=none", "norm_eps=1e-6", "act=gelu")
    code, out, _ = verify(bare, *QUICK, *(w for a in (*answers, "pool=class") for w in ("--set", a)))
    assert code == 0
    assert "(timm:vit)" in out


def no_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def cut_short(path: Path) -> None:
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])


def another_shape(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    config["config"]["mlp_dim"] = 51
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("harm", [no_weights, cut_short, another_shape])
def test_a_checkpoint_that_is_none_is_one_message(
    native: Path, tmp_path: Path, verify: Callable[..., Out], harm: Callable[[Path], None]
) -> None:
    path = save(tmp_path / "harmed")
    harm(path)
    code, out, err = verify(path, "--report", tmp_path / "report.html")
    assert (code, out) == (2, "")
    assert err.startswith("vit-verify: error: ")
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["harmed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone",), "gone: no such file or directory"),
        (("SRC", "--dtypes", "float8"), "--dtypes: expected some of float64,float32,bfloat16, got 'float8'"),
        (("SRC", "--dtypes", ""), "--dtypes: expected some of float64,float32,bfloat16, got ''"),
        (("SRC", "--images", "0"), "--images: expected 1 or more, got 0"),
        (("SRC", "--seed", "-1"), "--seed: expected 0 or more, got -1"),
        (("SRC", "--set", "eps=1"), "--set eps=1: "),
        (("SRC", "--preset", "vit_bose"), "unknown preset 'vit_bose'"),
        (("SRC", "--weights", "teacher"), "holds one set of weights and no 'teacher'"),
        (("SRC", "--report", "no/such/report.html"), "--report no/such/report.html: there is no folder"),
        (("SRC", "--report", "."), "--report . is a folder"),
    ],
)
def test_a_mistake_is_one_message(
    native: Path, verify: Callable[..., Out], arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = verify(*(native if word == "SRC" else word for word in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("vit-verify: error: ")
    assert message in err


def test_a_report_that_cannot_be_written_is_said_before_the_proof(
    native: Path, tmp_path: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parity_tests.verify.prove.prove", lambda *_: pytest.fail("it was proved"))
    asked = (native, "--report", tmp_path / "report.html")
    with monkeypatch.context() as patch:  # root may write everywhere
        patch.setattr(os, "access", lambda path, mode: (path, mode) != (tmp_path, os.W_OK))
        message = f"--report {tmp_path / 'report.html'}: no permission to write in {tmp_path}"
        assert verify(*asked) == (2, "", f"vit-verify: error: {message}\n")
    monkeypatch.setattr("parity_tests.verify.command.find_spec", lambda name: None)
    message = "vit-verify: error: needs matplotlib: pip install 'vit-parity[verify]'\n"
    assert verify(*asked) == (2, "", message)


def test_the_verdict_is_printed_where_its_report_fails(
    native: Path, tmp_path: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target == tmp_path / "report.html":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    code, out, err = verify(native, "--report", tmp_path / "report.html", *QUICK)
    assert out.splitlines()[-1].startswith("AGREE")
    message = f"{tmp_path / 'report.html'} can't be written: No space left on device"
    assert (code, err) == (2, f"vit-verify: error: {message}\n")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_printed_and_in_the_report_and_a_reader_may_leave(tmp_path: Path) -> None:
    path, report = save(tmp_path / os.fsdecode(b"\xff")), tmp_path / os.fsdecode(b"\xfe.html")
    command = [sys.executable, "-m", "parity_tests.verify", str(path), "--report", str(report), *QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(os.fsencode(path) + b" (native): ")
    assert "\\udcff (native): " in report.read_text(encoding="utf-8")

    report.unlink()
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
    assert "\\udcff (native): " in report.read_text(encoding="utf-8")


def test_a_mistake_of_its_own_is_no_verdict(
    native: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads the exit code alone would take 1 for a disagreement."""

    def fail(*given: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr("parity_tests.verify.prove.prove", fail)
    code, out, err = verify(native)
    assert (code, out) == (70, "")
    assert "RuntimeError: can't allocate memory" in err


def test_a_missing_library_is_one_message(
    native: Path, verify: Callable[..., Out], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "parity_tests.verify.source", raising=False)
    monkeypatch.delitem(sys.modules, "vit_torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert verify(native)[2] == "vit-verify: error: needs torch: pip install 'vit-parity[verify]'\n"


def test_help_loads_no_framework() -> None:
    check = (
        "import sys; from parity_tests.verify.command import make_parser; text = make_parser().format_help(); "
        "print(sorted({'torch', 'jax', 'numpy', 'matplotlib'} & set(sys.modules))); print(text)"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    first, text = done.stdout.split("\n", 1)
    assert first == "[]"
    assert {"--json", "--report", "--dtypes", "--images", "--seed", "--no-original", "--preset"} <= set(text.split())


@pytest.mark.slow
def test_it_runs_without_pytest_and_as_a_module(native: Path) -> None:
    command = [sys.executable, "-m", "parity_tests.verify", str(native), *QUICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AGREE" in done.stdout
    imported = "import sys; import parity_tests.verify.prove; print({'pytest', 'hypothesis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", imported], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
