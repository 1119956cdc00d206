"""An export is the model, as the target's own runtime runs it, and says what it was made of."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vit_torch
from parity_tests.compare import gap
from parity_tests.datasets import picture
from parity_tests.pairs import randomise
from parity_tests.tolerances import FLOAT32_CHAIN
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_tools.export import kinds
from vit_tools.export.check import Checked, check, parts
from vit_tools.export.command import main
from vit_tools.model import load

CONFIG = ViTConfig(
    image_size=(16, 24), patch_size=8, dim=24, depth=2, num_heads=3, mlp_dim=40, num_classes=7, num_registers=1,
    layer_scale=True,
)  # fmt: skip
PREPROCESS = Preprocess(resize=(18, 26), crop=(16, 24), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
LABELS = ("cat", "dog", "a, b", "été", "bird", "fish", "$ign")
SUFFIXES = ("onnx", "pt2", "stablehlo")
pytestmark = pytest.mark.slow  # two minutes: programs are traced, lowered and loaded again


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "checkpoint"
    model = vit_torch.ViT(CONFIG)
    randomise(model, 0)
    model.save_pretrained(path, preprocess=PREPROCESS, labels=LABELS)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> dict[str, Path]:
    """The three files, by the command itself."""
    out = {suffix: checkpoint.parent / f"model.{suffix}" for suffix in SUFFIXES}
    for path in out.values():
        assert main([str(checkpoint), str(path)]) == 0
    return out


def images(count: int) -> np.ndarray:
    """Preprocessed photographs (count, 16, 24, 3)."""
    return np.stack([PREPROCESS(picture(i)) for i in range(count)])


def logits(checkpoint: Path, x: np.ndarray) -> np.ndarray:
    model = vit_torch.ViT.from_pretrained(checkpoint)
    with torch.no_grad():
        return model(torch.tensor(x).permute(0, 3, 1, 2)).numpy()


def by_onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["images"]
    return np.asarray(session.run(["logits"], {"images": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})[0])


def by_torch(path: Path, x: np.ndarray) -> np.ndarray:
    return torch.export.load(path).module()(torch.tensor(x).permute(0, 3, 1, 2)).detach().numpy()


def by_jax(path: Path, x: np.ndarray) -> np.ndarray:
    from jax import export

    return np.asarray(export.deserialize(bytearray(path.read_bytes())).call(x))


RUNTIMES = {"onnx": by_onnxruntime, "pt2": by_torch, "stablehlo": by_jax}


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_targets_own_runtime_gives_the_models_logits(exported, checkpoint: Path, suffix: str, batch: int):
    x = images(batch)
    assert gap(RUNTIMES[suffix](exported[suffix], x), logits(checkpoint, x)) < FLOAT32_CHAIN


OF_ANY_SIZE: dict[str, dict[str, Any]] = {
    "learned": {},
    "offset": dict(pos_resize="bicubic_offset", num_registers=0, layer_scale=False),
    "antialias": dict(pos_resize="bicubic_antialias", pool="map", class_token=False, final_norm="tokens"),
    "sincos": dict(pos_embed="sincos2d", pool="mean"),
    "rope": dict(rope="dinov3", rope_theta=100.0, pos_embed="none", num_heads=2),
    "eva": dict(rope="eva02", rope_theta=10_000.0, rope_ref_grid=3, num_heads=2),
}
WITH_THEM = [("pt2", name) for name in OF_ANY_SIZE] + [("onnx", name) for name in ("learned", "offset", "rope")]


@pytest.mark.parametrize(("suffix", "positions"), WITH_THEM)
def test_with_dynamic_size_images_of_any_size_give_the_models_logits(
    tmp_path: Path, capsys, suffix: str, positions: str
):
    """The model's own size, of which its positions are left as they are, smaller, larger, and of another shape."""
    model = vit_torch.ViT(CONFIG.replace(**OF_ANY_SIZE[positions]), dynamic_size=True)
    randomise(model, 0)
    model.save_pretrained(tmp_path / "checkpoint", preprocess=PREPROCESS)
    out = tmp_path / f"model.{suffix}"
    assert main([str(tmp_path / "checkpoint"), str(out), "--dynamic-size"]) == 0
    assert "on 27 images of several sizes: largest difference" in capsys.readouterr().out
    assert inside(out)["dynamic_size"] is True
    for height, width in ((16, 24), (16, 16), (40, 32), (24, 88)):
        x = np.random.default_rng(0).standard_normal((3, height, width, 3), np.float32)
        with torch.no_grad():
            expected = model(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
        assert gap(RUNTIMES[suffix](out, x), expected) < FLOAT32_CHAIN


def inside(path: Path) -> dict[str, Any]:
    """The metadata, by the target's own reader."""
    if path.suffix == ".stablehlo":
        with zipfile.ZipFile(path) as zipped:
            return json.loads(zipped.read("vit-parity.json"))
    if path.suffix == ".pt2":
        files = {"vit-parity.json": ""}
        torch.export.load(path, extra_files=files)
        return json.loads(files["vit-parity.json"])
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return json.loads(session.get_modelmeta().custom_metadata_map["vit-parity.json"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_preprocessing_config_and_the_weights_sum_travel_inside(exported, suffix: str):
    found = inside(exported[suffix])
    assert tuple(found["labels"]) == LABELS
    assert Preprocess.from_dict(found["preprocess"]) == PREPROCESS
    assert ViTConfig.from_dict(found["config"]) == CONFIG
    assert found["sha256"] == inside(exported["onnx"])["sha256"]
    assert len(found["sha256"]) == 64
    others = ["cuda", "tpu"] if suffix == "stablehlo" else []
    assert found["platforms"] == {"run": ["cpu"], "lowered": others}


def test_the_weights_sum_is_of_the_weights(checkpoint: Path, exported, tmp_path: Path):
    model = vit_torch.ViT.from_pretrained(checkpoint)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    model.save_pretrained(tmp_path / "other")
    assert main([str(tmp_path / "other"), str(tmp_path / "other.pt2")]) == 0
    assert inside(tmp_path / "other.pt2")["sha256"] != inside(exported["pt2"])["sha256"]


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        ("onnx", "float16"),
        ("onnx", "bfloat16"),
        ("onnx", "int8"),
        ("pt2", "bfloat16"),
        ("pt2", "float16"),
        ("stablehlo", "bfloat16"),
    ],
)
def test_smaller_dtypes_are_near_the_model_and_smaller(
    checkpoint: Path, exported, tmp_path: Path, capsys, suffix: str, dtype: str
):
    out = tmp_path / f"model.{suffix}"
    assert main([str(checkpoint), str(out), "--dtype", dtype]) == 0
    assert "the same label for" in capsys.readouterr().out
    found = RUNTIMES[suffix](out, images(4))
    assert found.dtype == np.float32
    assert 1e-6 < gap(found, logits(checkpoint, images(4))) < 0.2
    assert inside(out)["dtype"] == dtype
    assert out.stat().st_size < exported[suffix].stat().st_size


def test_onnx_in_bfloat16_is_the_float32_model_with_rounded_factors(checkpoint: Path, exported, tmp_path: Path):
    """The weights of linear maps and of the patches; norms, biases and positions keep their bits. Half the size."""
    model = vit_torch.ViT.from_pretrained(checkpoint)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.weight.copy_(module.weight.bfloat16())
    model.save_pretrained(tmp_path / "rounded")
    out = tmp_path / "model.onnx"
    assert main([str(checkpoint), str(out), "--dtype", "bfloat16"]) == 0
    assert gap(by_onnxruntime(out, images(4)), logits(tmp_path / "rounded", images(4))) < FLOAT32_CHAIN
    rounded = sum(p.numel() for name, p in model.named_parameters() if p.ndim > 1 and name.endswith("weight"))
    assert exported["onnx"].stat().st_size - out.stat().st_size > 1.5 * rounded


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_export_that_is_another_function_is_not_left(
    checkpoint: Path, tmp_path: Path, monkeypatch, capsys, suffix: str
):
    """Here the weights are changed on the way, in one number."""
    model = vit_torch.ViT.from_pretrained(checkpoint)
    assert model.head is not None
    with torch.no_grad():
        model.head.bias[3] += 0.5
    model.save_pretrained(tmp_path / "wrong")
    kind = kinds.KINDS[f".{suffix}"]
    wrong = lambda asked, path, said: kind.write(replace(asked, path=str(tmp_path / "wrong")), path, said)  # noqa: E731
    monkeypatch.setitem(kinds.KINDS, f".{suffix}", replace(kind, write=wrong))
    out = tmp_path / "out" / f"model.{suffix}"
    out.parent.mkdir()
    assert main([str(checkpoint), str(out)]) == 1
    assert "it is not the model: nothing was written" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []


def test_the_comparison_sees_a_difference_and_batches_of_every_size(checkpoint: Path):
    model, sizes = load(str(checkpoint), "torch"), []

    def run(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return logits(checkpoint, x) + 1.0

    checked = check(run, model, images(7))
    largest = np.abs(logits(checkpoint, images(7))).max()
    assert checked.difference == pytest.approx(1 / largest, rel=FLOAT32_CHAIN)
    assert sizes == [1, 2, 3, 1]
    assert [len(p) for p in parts(images(3))] == [1, 2]
    assert not checked.fine("float32")
    assert Checked(7, 1e-6, 7).fine("float32")


def test_a_folder_of_ones_own_is_compared_on(checkpoint: Path, tmp_path: Path, capsys):
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"no")
    assert main([str(checkpoint), str(tmp_path / "m.pt2"), "--images", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "on 3 images" in printed.out
    assert f"vit-export: {tmp_path / 'broken.png'}: can't be read: " in printed.err
    with Image.open(tmp_path / "0.png"):
        pass
