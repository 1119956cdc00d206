"""A run starts from a checkpoint of any layout: its function, a head for the run's classes, another image size."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

import vit_flax
import vit_torch
from parity_tests.compare import gap
from parity_tests.datasets import jpegs, write_folder
from parity_tests.tolerances import FORWARD
from train.__main__ import main
from train.config import ConfigError, TrainConfig
from train.input.data import open_data
from train.progress import Report
from train.recipes import RECIPES
from train.run import Run, run
from train.start import Start, open_start
from vit_convert.config import ViTConfig
from vit_convert.preprocess import Preprocess
from vit_convert.presets import PRESETS
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.settings import checked, flat
from vit_torch.training.loop.start import from_checkpoint

DIGITS = tuple(str(n) for n in range(10))
SMALL = ViTConfig(
    image_size=8, patch_size=2, in_channels=1, dim=16, depth=2, num_heads=2, mlp_dim=24, num_classes=10,
)  # fmt: skip

# What a bare file's question says here.
ASKED = r"(?s)by --init-preset NAME .*, or by --init-set image_size=HEIGHTxWIDTH num_heads=INTEGER \w+="
Write = Callable[..., Path]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Write:
    """Writes a float64 model with random weights as a checkpoint of a layout."""

    def write(layout: str = "native", labels: tuple[str, ...] | None = None, **changes: object) -> Path:
        generator = torch.Generator().manual_seed(0)
        model = vit_torch.ViT(SMALL.replace(**changes), generator=generator).double()
        model.save_pretrained(tmp_path / layout, layout=layout, labels=labels)
        return tmp_path / layout

    return write


def opened(path: Path, classes: tuple[str, ...] = DIGITS, **changes: object) -> tuple[TrainConfig, Start]:
    config, start = open_start(replace(RECIPES["digits"](), init=str(path), **changes), classes)
    assert start is not None
    return config, start


@pytest.mark.parametrize("layout", ["native", "timm", "transformers"])
def test_a_run_starts_with_the_checkpoints_function(checkpoint: Write, layout: str):
    path = checkpoint(layout)
    config, start = opened(path)
    assert not start.new_head
    model = vit_flax.ViT.from_pretrained(path)
    assert config.model == model.config
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1))
    theirs = vit_torch.ViT.from_pretrained(path)(torch.tensor(images).permute(0, 3, 1, 2)).detach().numpy()
    assert gap(np.asarray(model(jax.numpy.asarray(images))), theirs) < FORWARD
    named = dict(model.numpy_tensors())
    params = start.params()
    assert params.keys() == named.keys()
    assert all((params[name] == named[name]).all() for name in named)


def test_a_head_for_other_classes_begins_at_zero_and_the_rest_is_kept(checkpoint: Write):
    path = checkpoint()
    config, start = opened(path, ("cat", "dog", "bird"))
    assert config.model == SMALL.replace(num_classes=3)
    params, before = start.params(), dict(vit_flax.ViT.from_pretrained(path).numpy_tensors())
    assert params["head.kernel"].shape == (16, 3)
    assert not params["head.kernel"].any()
    assert all((params[name] == before[name]).all() for name in before if not name.startswith("head."))
    assert any("a new head of 3 classes" in line for line in start.said)


def test_two_heads_for_other_classes_begin_anew_both(checkpoint: Write):
    """A distilled DeiT's."""
    path = checkpoint(dist_token=True, pool="class_dist")
    config, start = opened(path, ("cat", "dog", "bird"), start=replace(RECIPES["digits"]().start, head_bias=-1.5))
    assert config.model == SMALL.replace(num_classes=3, dist_token=True, pool="class_dist")
    params = start.params()
    for head in ("head", "head_dist"):
        assert params[f"{head}.kernel"].shape == (16, 3)
        assert not params[f"{head}.kernel"].any()
        assert (np.asarray(params[f"{head}.bias"]) == -1.5).all()
    assert any("two new heads of 3 classes" in line for line in start.said)


def test_as_many_classes_of_other_names_get_a_new_head_and_the_same_names_keep_it(checkpoint: Write):
    path = checkpoint(labels=DIGITS)
    assert not opened(path)[1].new_head
    letters = tuple("abcdefghij")
    _, start = opened(path, letters)
    assert not start.params()["head.kernel"].any()
    assert (
        start.said[-1] == "a new head of zeros: the checkpoint's has as many classes, but others, or in another order"
    )


def test_a_new_head_begins_with_the_bias_that_is_asked_for(checkpoint: Write):
    base = RECIPES["digits"]().start
    _, start = opened(checkpoint(num_classes=0), start=replace(base, head_bias=-2.5))
    assert (np.asarray(start.params()["head.bias"]) == -2.5).all()


def test_a_mean_for_other_channels_than_the_checkpoints_is_refused(checkpoint: Write):
    """The recipe's model has them; that of the checkpoint decides."""
    given = replace(RECIPES["digits"]().data, mean=(0.5,) * 3, std=(0.5,) * 3)
    config, _ = opened(checkpoint(), data=given)
    with pytest.raises(ConfigError, match=r"data.mean must have one number for each of the model's 1 channels, got \("):
        open_data(config)


def test_another_image_size_resizes_the_positions_as_loading_does(checkpoint: Write):
    path = checkpoint()
    config, start = opened(path, init_size=12)
    assert config.model.image_hw == (12, 12)
    resized = dict(vit_flax.ViT.from_pretrained(path, image_size=12).numpy_tensors())
    assert (start.params()["pos_embed"] == resized["pos_embed"]).all()


def test_a_checkpoint_that_leaves_questions_is_refused_with_the_way_out(checkpoint: Write):
    bare = checkpoint("timm") / "model.safetensors"
    (bare.parent / "config.json").unlink()
    with pytest.raises(
        ConfigError,
        match=ASKED,
    ):
        opened(bare)


def test_a_bare_file_is_started_from_by_the_name_of_its_model(tmp_path: Path):
    model = vit_torch.ViT(PRESETS["test_vit"].config.replace(num_classes=10))
    bare = tmp_path / "bare.pth"
    torch.save(model.state_dict(), bare)
    config, start = opened(bare, init_preset="test_vit")
    assert config.model == model.config
    expected = dict(vit_flax.ViT.from_pretrained(bare, preset="test_vit").numpy_tensors())
    found = start.params()
    assert {name: np.asarray(x).tobytes() for name, x in found.items()} == {n: x.tobytes() for n, x in expected.items()}
    settings = checked(flat({"data": {"name": "digits"}, "init": str(bare), "init_preset": "test_vit"}), "the test")
    with pytest.raises(Refused, match=ASKED):
        from_checkpoint({**settings, "init_preset": None}, tuple("0123456789"), {})
    with pytest.raises(Refused, match="init_preset needs init"):
        checked({**settings, "init": None}, "the test")
    for name, x in from_checkpoint(settings, tuple("0123456789"), {}).state_dict().items():
        assert torch.equal(x, model.state_dict()[name]), name


def test_a_bare_file_is_started_from_by_the_fields_that_nothing_tells(tmp_path: Path, checkpoint: Write):
    """A model that no preset is, in both loops."""
    bare = checkpoint("timm") / "model.safetensors"
    (bare.parent / "config.json").unlink()
    said = {name: getattr(SMALL, name) for name in ("num_heads", "norm_eps", "act", "pool", "pos_resize", "rope")}
    given = ("image_size=8x8", *(f"{name}={value}" for name, value in said.items()))
    config, start = opened(bare, init_set=given)
    assert config.model == SMALL
    answers = said | {"image_size": (8, 8)}
    expected = dict(vit_flax.ViT.from_pretrained(bare, overrides=answers).numpy_tensors())
    assert {name: np.asarray(x).tobytes() for name, x in start.params().items()} == {
        name: x.tobytes() for name, x in expected.items()
    }
    in_torch = vit_torch.ViT.from_pretrained(bare, overrides=answers).state_dict()
    given_there = {"data": {"name": "digits"}, "dtype": "float64", "init": str(bare), "init_set": list(given)}
    settings = checked(flat(given_there), "the test")
    for name, x in from_checkpoint(settings, tuple("0123456789"), {}).state_dict().items():
        assert torch.equal(x, in_torch[name].double()), name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("num_headz=4",), r"^--init-set num_headz=4: .*num_heads"),
        (("num_heads",), r"^--init-set needs field=value, got 'num_heads'"),
        (("num_heads=many",), "^--init-set num_heads.*many"),
        (("act=gelu", "act=silu"), "^--init-set act is given two values, gelu and silu"),
    ],
)
def test_a_field_that_is_none_is_refused_by_its_name(checkpoint: Write, given: tuple[str, ...], said: str):
    with pytest.raises(ConfigError, match=said):
        opened(checkpoint(), init_set=given)


def test_fields_of_a_model_need_a_checkpoint():
    with pytest.raises(ConfigError, match="init_set num_heads=3 depth=2 needs init"):
        replace(RECIPES["digits"](), init_set=("num_heads=3", "depth=2"))
    with pytest.raises(Refused, match="init_set needs init"):
        checked(flat({"data": {"name": "digits"}, "init_set": ["num_heads=3"]}), "the test")


def test_the_name_of_a_model_needs_a_checkpoint():
    with pytest.raises(ConfigError, match="init_preset test_vit needs init"):
        replace(RECIPES["digits"](), init_preset="test_vit")


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "train", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.slow
def test_fine_tuning_from_the_command_line_learns_and_loads_in_pytorch(checkpoint: Write, tmp_path: Path, heads: int):
    small = SMALL if heads == 1 else SMALL.replace(dist_token=True, pool="class_dist")
    path, workdir = checkpoint("timm", **small.replace(num_classes=7).to_dict()), tmp_path / "run"
    done = train("digits", "--workdir", str(workdir), "--init", str(path), "--steps", "3", "--batch-size", "100")
    assert done.returncode == 0, done.stderr
    assert ("a new head of 10 classes" if heads == 1 else "two new heads of 10 classes") in done.stdout
    model = vit_torch.ViT.from_pretrained(workdir / "checkpoint")
    assert model.config == small
    assert model.labels == DIGITS
    config, start = opened(workdir)  # the folder of a run is its checkpoint
    assert config.model == small
    assert (
        start.params()["head.bias"]
        == dict(vit_flax.ViT.from_pretrained(workdir / "checkpoint").numpy_tensors())["head.bias"]
    ).all()
    assert (dict(model.named_parameters())["head.weight"] != 0).any()


def test_a_run_prepares_images_as_its_checkpoint_does_unless_its_config_says_otherwise(
    checkpoint: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The values of the training step, and of what is saved: -1..1 and not ImageNet's."""
    for split in ("train", "test"):
        write_folder(tmp_path / "photos" / split, jpegs(9))
    given = Preprocess(resize=(8, 8), crop=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 0.75))
    model = vit_torch.ViT(SMALL.replace(in_channels=3), generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "start", preprocess=given)
    runs: list[Run] = []

    def prepared(**said: object) -> list[tuple[float, ...]]:
        config = RECIPES["finetune"]()
        data = replace(config.data, name=f"folder:{tmp_path / 'photos'}", **said)
        config = replace(config, init=str(tmp_path / "start"), init_size=8, batch_size=4, data=data)
        with monkeypatch.context() as patch:
            patch.setattr(Run, "run", lambda self: runs.append(self))
            run(config, tmp_path / "run", recipe="finetune", overwrite=True)
        step, saved = runs[-1].step, runs[-1].data.preprocess
        return [tuple(step.mean), tuple(step.std), tuple(saved.mean), tuple(saved.std)]

    assert prepared() == [given.mean, given.std] * 2
    assert prepared(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)) == [(0.1, 0.2, 0.3), (1.0, 2.0, 3.0)] * 2


STEPS = ["--batch-size", "100", "--steps", "6", "--log.steps", "2", "--ema-decay", "0.9"]


def test_a_run_goes_on_without_the_checkpoint_that_it_began_with(
    checkpoint: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It was moved, or removed. With no saved step that is whole there is nothing to go on from, and that is said."""
    init = checkpoint("timm", num_classes=7)
    main(["digits", "--workdir", str(tmp_path / "whole"), "--init", str(init), *STEPS])
    command = ["digits", "--workdir", str(tmp_path / "run"), "--init", str(init), *STEPS]
    once = iter([signal.SIGTERM])  # a second signal ends the process at once
    with monkeypatch.context() as patch:
        patch.setattr(Report, "row", lambda *_: [os.kill(os.getpid(), number) for number in once])
        with pytest.raises(SystemExit) as stop:
            main(command)
    assert stop.value.code == 128 + signal.SIGTERM
    init.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "run", tmp_path / "damaged")
    main(command)
    whole, run = ((tmp_path / name / "checkpoint" / "model.safetensors").read_bytes() for name in ("whole", "run"))
    assert run == whole
    (data,) = (tmp_path / "damaged").glob("steps/*/state/_METADATA")
    data.write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        main([*command[:2], str(tmp_path / "damaged"), *command[3:]])
    assert stop.value.code == 2
    assert f"--init {init} isn't there any more, and the run's last step can't be read: " in capsys.readouterr().err


def test_what_the_checkpoint_decides_cant_be_given(checkpoint: Write, tmp_path: Path):
    done = train("digits", "--workdir", str(tmp_path / "run"), "--init", str(checkpoint()), "--model.depth", "3")
    assert done.returncode == 2
    assert "--model.depth can't be given" in done.stderr
    done = train("digits", "--workdir", str(tmp_path / "run"), "--init", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "vit-convert" not in done.stderr  # which could not read it either
    assert not (tmp_path / "run").exists()


def test_recipes_from_a_checkpoint_ask_for_it(tmp_path: Path):
    done = train("finetune", "--workdir", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "--init" in done.stderr
    assert "--data.name" in done.stderr
