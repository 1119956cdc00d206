"""vit-export from the command line: what can't be is one message before the work, and what isn't the model is none."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vit_torch
from parity_tests.compare import gap
from parity_tests.datasets import picture
from parity_tests.pairs import randomise
from parity_tests.tolerances import FLOAT32_CHAIN
from vit_convert.checkpoint import open_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.preprocess import Preprocess
from vit_convert.presets import PRESETS
from vit_tools.export.base import Asked
from vit_tools.export.check import Checked, check, other_sizes, together
from vit_tools.export.command import UsageError, check_size, main, platforms_of, report
from vit_tools.export.kinds import KINDS
from vit_tools.export.metadata import metadata
from vit_tools.export.onnx import in_bfloat16
from vit_tools.model import Model, load
from vit_tools.predict.command import main as predict

CONFIG = ViTConfig(image_size=8, patch_size=4, dim=8, depth=1, num_heads=2, mlp_dim=8, num_classes=3)
IMAGES = np.random.default_rng(0).standard_normal((5, 8, 8, 3), np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = vit_torch.ViT(CONFIG)
    randomise(model, 0)
    path = tmp_path_factory.mktemp("export") / "checkpoint"
    model.save_pretrained(path, preprocess=Preprocess(resize=(8, 8), crop=(8, 8)))
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Model:
    return load(str(checkpoint), "torch")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_numbers_that_are_none_and_other_shapes_are_not_the_model(model: Model, dtype: str):
    def infinite(x: np.ndarray) -> np.ndarray:
        return np.where(np.arange(3) == 1, np.inf, model(x)[0])

    assert not check(infinite, model, IMAGES).fine(dtype)
    assert not check(lambda x: model(x)[0] * np.nan, model, IMAGES).fine(dtype)
    assert not check(lambda x: model(x)[0][:, :2], model, IMAGES).fine(dtype)
    assert check(lambda x: model(x)[0], model, IMAGES) == Checked(5, 0.0, 5)


def test_a_broken_scale_is_no_quantization(model: Model):
    assert not check(lambda x: model(x)[0] * 2, model, IMAGES).fine("int8")
    assert check(lambda x: model(x)[0] * 1.1, model, IMAGES).fine("int8")


def test_a_program_that_fails_at_one_size_is_not_the_model(model: Model):
    """Whichever of the sizes it is that a dynamic one is tried at."""
    sizes = [IMAGES, *other_sizes(IMAGES, (4, 4))]
    assert [x.shape[1:3] for x in sizes] == [(8, 8), (12, 8), (12, 16)]
    assert [x.shape[1:3] for x in other_sizes(np.zeros((1, 8, 16, 3)), (4, 4))] == [(12, 16), (8, 8), (12, 24)]
    assert all((x[:, :8, :8] == IMAGES).all() for x in sizes)
    found = [Checked(5, 1e-7, 5), Checked(5, 0.5, 3), Checked(5, 1e-6, 4)]
    assert together(found) == Checked(15, 0.5, 12)
    assert not together(found).fine("float32")


def test_a_head_of_zeros_is_compared_as_it_is(checkpoint: Path, tmp_path: Path):
    """What a head is that begins anew."""
    zeros = vit_torch.ViT.from_pretrained(checkpoint)
    assert zeros.head is not None
    for p in zeros.head.parameters():
        p.data.zero_()
    zeros.save_pretrained(tmp_path / "zeros", preprocess=Preprocess(resize=(8, 8), crop=(8, 8)))
    model = load(str(tmp_path / "zeros"), "torch")
    assert check(lambda x: model(x)[0], model, IMAGES) == Checked(5, 0.0, 5)
    assert check(lambda x: model(x)[0] + 1, model, IMAGES).difference == pytest.approx(1, rel=FLOAT32_CHAIN)


class RuntimesOwn(Exception):
    """As ONNX Runtime's own are: derived from Exception alone."""


def put(monkeypatch, load: Any) -> None:
    """A torch.export whose files are not programs, but are read by `load`."""

    def write(asked: Any, path: Path, said: Any) -> None:
        path.write_bytes(b"program")

    monkeypatch.setitem(KINDS, ".pt2", replace(KINDS[".pt2"], load=load, write=write))


@pytest.mark.parametrize("error", [RuntimeError, ValueError, RuntimesOwn])
@pytest.mark.parametrize("loads", [False, True])
def test_a_program_that_cannot_be_run_is_one_message_and_not_left(
    checkpoint: Path, tmp_path: Path, monkeypatch, capsys, error: type[Exception], loads: bool
):
    """Whatever a runtime raises, as it loads the file or as it runs it."""

    def fail(given: Any) -> Any:
        raise error("a batch of 1 alone")

    put(monkeypatch, (lambda path: fail) if loads else fail)
    assert main([str(checkpoint), str(tmp_path / "model.pt2")]) == 1
    assert "torch.export can't be run: a batch of 1 alone: nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_of_ours_that_fails_keeps_its_traceback(checkpoint: Path, tmp_path: Path, monkeypatch):
    """It is a bug, and says nothing of the program."""

    def fail(*given: Any, **more: Any) -> Any:
        raise ValueError("a bug")

    put(monkeypatch, lambda path: lambda x: np.zeros((len(x), 3)))
    monkeypatch.setattr(Model, "__call__", fail)
    with pytest.raises(ValueError, match="a bug"):
        main([str(checkpoint), str(tmp_path / "model.pt2")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("gone", "gone: no such file or folder"),
        ("empty", "empty: no image is in this folder"),
        ("broken", "--images broken: none of its images can be read"),
        (None, "give --images FOLDER to compare on, or install scikit-learn, which has two photographs"),
    ],
)
def test_images_that_are_none_are_said_before_the_work(
    checkpoint: Path, tmp_path: Path, monkeypatch, capsys, images: str | None, message: str
):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"<html>")
    find = importlib.util.find_spec
    monkeypatch.setattr("vit_tools.export.command.find_spec", lambda name: None if name == "sklearn" else find(name))
    worked = replace(KINDS[".pt2"], write=lambda *_: pytest.fail("the export was made"))
    monkeypatch.setitem(KINDS, ".pt2", worked)
    assert main([str(checkpoint), "model.pt2", *(["--images", images] if images else [])]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "model.pt2").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_export_that_is_ended_half_way_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch, capsys, number: signal.Signals
):
    """By Ctrl-C, or `kill` or `timeout`: no traceback either."""
    handler = signal.getsignal(number)

    def ended(path: Path) -> Any:
        assert list(tmp_path.glob(".model.pt2.*"))
        os.kill(os.getpid(), number)
        time.sleep(60)  # the signal ends it

    put(monkeypatch, ended)
    assert main([str(checkpoint), str(tmp_path / "model.pt2")]) == 128 + number
    said = f"vit-export: ended by {number.name}; nothing was written to {tmp_path / 'model.pt2'}\n"
    assert capsys.readouterr().err == said
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) == handler


WHOLE = """
import sys
from dataclasses import replace

import numpy as np

from vit_tools.export.command import main
from vit_tools.export.kinds import KINDS
from vit_tools.model import load

model = load(sys.argv[1], "torch")
answers = lambda path: lambda images: model(images)[0]
write = lambda asked, path, said: path.write_bytes(b"program")
KINDS[".pt2"] = replace(KINDS[".pt2"], load=answers, write=write)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("stdout", "code"), [("closed", 128 + signal.SIGPIPE), ("full", 2)])
def test_a_checked_file_stays_where_nobody_reads_of_it(checkpoint: Path, tmp_path: Path, stdout: str, code: int):
    """It took minutes. The reader went away, or the disk of the message is full."""
    command = [sys.executable, "-c", WHOLE, str(checkpoint), str(tmp_path / "model.pt2")]
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full:
        to = writing if stdout == "closed" else full
        done = subprocess.run(command, stdout=to, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    said = "" if stdout == "closed" else "vit-export: error: [Errno 28] No space left on device\n"
    assert (done.stderr, done.returncode) == (said, code)
    assert (tmp_path / "model.pt2").read_bytes() == b"program"
    assert len(list(tmp_path.iterdir())) == 1


SMALL_DISK = """
import resource, signal, sys

from vit_tools.export.command import main

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that grows beyond it is OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_is_full_is_one_message_where_pytorch_writes(checkpoint: Path, tmp_path: Path):
    command = [sys.executable, "-c", SMALL_DISK, str(checkpoint), str(tmp_path / "model.pt2")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    message = f"vit-export: error: {tmp_path / 'model.pt2'} can't be written: File too large"
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (2, "", message)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_a_name_for_pytorch_too(checkpoint: Path, tmp_path: Path):
    out = tmp_path / os.fsdecode(b"\xff.pt2")
    command = [sys.executable, "-m", "vit_tools.export.command", str(checkpoint), str(out)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(os.fsencode(out))
    assert KINDS[".pt2"].read_metadata(out)["dtype"] == "float32"
    assert list(tmp_path.iterdir()) == [out]
    with open(out, "rb") as file:
        found = torch.export.load(file).module()(torch.tensor(IMAGES).permute(0, 3, 1, 2)).detach().numpy()
    expected = load(str(checkpoint), "torch")(IMAGES)[0]
    assert gap(found, expected) < FLOAT32_CHAIN


def test_platforms_are_those_of_jax_and_cpu_is_always_there():
    assert platforms_of("cuda, tpu") == ("cpu", "cuda", "tpu")
    assert platforms_of("cpu") == ("cpu",)
    with pytest.raises(UsageError, match=r"got 'gpu'; a GPU is cuda \(NVIDIA\) or rocm \(AMD\)"):
        platforms_of("gpu")
    with pytest.raises(UsageError, match=r"expected some of cpu, cuda, rocm, tpu, got ''"):
        platforms_of("cpu,")


def test_a_model_that_is_too_large_for_a_file_is_refused_with_the_way_out():
    """Each kind says its own limit, and names kinds that hold the model."""
    giant, large = (PRESETS[name].config for name in ("vit_giant_patch14_dinov2", "vit_large_patch16_224"))
    protobuf, flatbuffers = r"ONNX holds up to 2 GB \(protobuf's limit\)", r"StableHLO holds up to 2 GB \(flatbuffers' "
    for suffix, dtype, whose, size in (
        (".onnx", "int8", protobuf, r"4\.5 GB in float32"),
        (".onnx", "bfloat16", protobuf, r"4\.5 GB in float32"),
        (".onnx", "float16", protobuf, r"2\.3 GB in float16"),
        (".stablehlo", "float32", flatbuffers, r"4\.5 GB in float32"),
        (".stablehlo", "bfloat16", flatbuffers, r"2\.3 GB in bfloat16"),
    ):
        with pytest.raises(UsageError, match=f"{whose}.*, and this model has {size}: write .pt2$"):
            check_size(KINDS[suffix], giant, dtype)
        check_size(KINDS[suffix], large, "float32")
    check_size(KINDS[".pt2"], giant, "float32")


@pytest.mark.parametrize("suffix", KINDS)
def test_what_was_run_and_what_was_only_lowered_is_said(checkpoint: Path, suffix: str):
    kind, found = KINDS[suffix], open_checkpoint(str(checkpoint))
    asked = Asked(str(checkpoint), found, {}, "float32", platforms_of("cuda,tpu"))
    others = ["cuda", "tpu"] if suffix == ".stablehlo" else []
    assert metadata(asked, kind)["platforms"] == {"run": ["cpu"], "lowered": others}
    said = report(asked, kind, Checked(9, 1e-7, 9))
    assert said.endswith("; run on cpu; cuda, tpu: lowered, not run" if others else "9 of 9; run on cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("model.tflite", "OUT must end in .onnx, .stablehlo, .pt2, got"),
        ("model.pt2 --dtype int8", "--dtype int8: torch.export is written in float32, float16, bfloat16"),
        ("no/such/model.pt2", "there is no folder"),
        ("folder.pt2 --overwrite", "folder.pt2 is a folder: OUT is a file"),
        ("model.stablehlo --platforms gpu", "a GPU is cuda (NVIDIA) or rocm (AMD)"),
        ("model.stablehlo --dynamic-size", "StableHLO is written for images of one size; write .onnx or .pt2"),
        ("taken.pt2", "exists: give another name, or --overwrite"),
        ("model.pt2 --set eps", "eps"),
    ],
)
def test_mistakes_are_one_message(checkpoint: Path, tmp_path: Path, monkeypatch, capsys, arguments: str, message: str):
    monkeypatch.chdir(tmp_path)
    Path("taken.pt2").touch()
    Path("folder.pt2").mkdir()
    assert main([str(checkpoint), *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vit-export: error: ")
    assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.pt2", "taken.pt2"]


@pytest.mark.parametrize("behind", [False, True], ids=["folded", "behind a transpose"])
def test_onnx_that_stays_in_float32_is_no_bfloat16(behind: bool):
    """An exporter that leaves a transpose between a weight and its product hides the weight: that is said."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = {"w": np.ones((6, 6), np.float32), "positions": np.ones((3, 6), np.float32)}
    nodes = [helper.make_node("Transpose", ["w"], ["turned"])] * behind
    nodes.append(helper.make_node("MatMul", ["x", "turned" if behind else "w"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "positions"], ["y"]))
    given, made = ([helper.make_tensor_value_info(name, kind, (3, 6))] for name in "xy")
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    program = helper.make_model(helper.make_graph(nodes, "graph", given, made, stored))
    if behind:
        with pytest.raises(CheckpointError, match="54 numbers of the weights stayed float32, 0 became bfloat16"):
            in_bfloat16(program)
    else:
        kept = {weight.name: weight.data_type for weight in in_bfloat16(program).graph.initializer}
        assert kept == {"w.bfloat16": onnx.TensorProto.BFLOAT16, "positions": kind}


@pytest.mark.parametrize("command", ["vit-export", "vit-predict"])
@pytest.mark.parametrize(
    ("unfit", "message"),
    [
        (Preprocess(resize=(8, 8), crop=(8, 8), mean=(0.5,), std=(0.5,)), "of 1 channels (as many as its mean has), "),
        (Preprocess(resize=(9, 9), crop=(8, 6)), "of 8x6 pixels, which the model's patches of 4x4 don't divide: "),
    ],
)
def test_preprocessing_that_does_not_fit_the_model_is_one_message(
    tmp_path: Path, capsys, command: str, unfit: Preprocess, message: str
):
    src = tmp_path / "checkpoint"
    vit_torch.ViT(CONFIG).save_pretrained(src, preprocess=unfit)
    picture(0).save(tmp_path / "a.png")
    if command == "vit-export":
        code = main([str(src), str(tmp_path / "model.pt2")])
    else:
        code = predict([str(tmp_path / "a.png"), "--checkpoint", str(src)])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith(f"{command}: error: the preprocessing of {src} makes images {message}")
    assert error.count("\n") == 1


def test_missing_packages_are_named(checkpoint: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("vit_tools.export.command.find_spec", lambda name: None)
    assert main([str(checkpoint), str(tmp_path / "m.onnx")]) == 2
    error = capsys.readouterr().err
    assert "ONNX needs torch, onnx, onnxscript, onnxruntime: pip install torch onnx onnxscript onnxruntime" in error
    assert "or vit-parity with the extra export" in error
