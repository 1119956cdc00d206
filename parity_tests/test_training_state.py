"""RUN/state is whole or refused: torn, or of another model, rule or run, it is one message; nothing is half-written."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from parity_tests.compare import elementwise
from parity_tests.test_saved_steps import assert_same_bits, saver_in
from parity_tests.tolerances import FLOAT32
from train import workdir as folder
from train.__main__ import main, parse
from train.config import TrainConfig
from train.devices.placement import make_placement
from train.input.data import open_data
from train.model import abstract_state
from train.replaced import drop
from train.run import make_step
from train.saving.portable import open_portable
from train.step import State
from vit_convert import __main__ as convert
from vit_convert.errors import CheckpointError
from vit_convert.training_state import FOLDER, TrainingState, read_state, write_state
from vit_torch import training

TINY = "--model.dim 16 --model.mlp-dim 32 --model.depth 1 --model.num-heads 2 --batch-size 100 --log.steps 2 --steps 7"
TINY += " --eval-epochs 0.3 --augment.mixup-alpha 0 --augment.cutmix-alpha 0 --ema-decay 0.9"
Fails = Callable[..., str]


HIDDEN = "blocks.0.attn.proj.weight"


def small(rule: str = "adamw") -> TrainingState:
    rng = np.random.default_rng(0)
    shapes = {"head.weight": (3, 2), "head.bias": (3,), "cls_token": (1, 1, 2)}
    shapes |= {HIDDEN: (2, 2)} if rule == "muon" else {}
    params, ema, mu, nu = ({n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} for _ in range(4))
    nu.pop(HIDDEN, None)  # of what is made orthogonal, muon knows the velocity alone
    moments = {"mu": mu} if rule == "sgd" else {"mu": mu, "nu": nu}
    return TrainingState(5, rule, params, moments, ema)


def files(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("rule", ["adamw", "lamb", "sgd", "muon"])
def test_a_state_comes_back_with_its_bits(tmp_path: Path, rule: str):
    without = {kind: {"head.bias": of["head.bias"]} for kind, of in small(rule).moments.items()}  # the rest is frozen
    for state in (small(rule), replace(small(rule), ema=None), replace(small(rule), moments=without)):
        write_state(tmp_path / FOLDER, state)
        found = read_state(tmp_path / FOLDER)
        assert (found.step, found.rule, found.parts().keys()) == (5, rule, state.parts().keys())
        for part, of in state.parts().items():
            assert {n: x.tobytes() for n, x in found.parts()[part].items()} == {n: x.tobytes() for n, x in of.items()}
    assert {path.name for path in tmp_path.iterdir()} == {FOLDER}
    assert set(files(tmp_path / FOLDER)) == {"state.json", "state.safetensors"}


def test_muon_has_no_mean_square_of_what_it_makes_orthogonal(tmp_path: Path):
    state = small("muon")
    more = {**state.moments["nu"], HIDDEN: state.moments["mu"][HIDDEN]}
    with pytest.raises(CheckpointError, match=rf"1 unexpected:\s+nu\.{HIDDEN}"):
        write_state(tmp_path / FOLDER, replace(state, moments={**state.moments, "nu": more}))


def test_sgd_without_momentum_has_no_moments(tmp_path: Path):
    write_state(tmp_path / FOLDER, replace(small("sgd"), moments={}))
    assert read_state(tmp_path / FOLDER).moments == {}


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path):
    write_state(tmp_path / FOLDER, small())
    before = files(tmp_path)
    for wrong in (replace(small(), moments={}), replace(small(), rule="adafactor")):
        with pytest.raises(CheckpointError, match="the state to be written is not whole"):
            write_state(tmp_path / FOLDER, wrong)
    odd = replace(small(), params={n: x.astype(np.complex64) for n, x in small().params.items()})
    with pytest.raises(CheckpointError, match="no such dtype"):
        write_state(tmp_path / FOLDER, odd)
    assert files(tmp_path) == before


def edit_json(**values: Any) -> Callable[[Path], None]:
    def edit(state: Path) -> None:
        said = json.loads((state / "state.json").read_text())
        (state / "state.json").write_text(json.dumps(said | values))

    return edit


def edit_tensors(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Path], None]:
    def edit(state: Path) -> None:
        save_file(change(load_file(state / "state.safetensors")), state / "state.safetensors")

    return edit


def cut(state: Path) -> None:
    whole = (state / "state.safetensors").read_bytes()
    (state / "state.safetensors").write_bytes(whole[: len(whole) - 5])


def pickled(state: Path) -> None:
    (state / "state.safetensors").write_bytes(pickle.dumps({"params": 1}))


HARM: dict[str, tuple[Callable[[Path], Any], str]] = {
    "torn": (cut, "state.safetensors: truncated or not a safetensors file"),
    "a pickle": (pickled, "state.safetensors: truncated or not a safetensors file"),
    "no tensors": (lambda s: (s / "state.safetensors").unlink(), "state.safetensors is missing"),
    "no description": (lambda s: (s / "state.json").unlink(), "no training state, for state.json is missing"),
    "no JSON": (lambda s: (s / "state.json").write_text("{"), "not readable as JSON"),
    "another format": (
        edit_json(format="vit-parity"),
        "expected format 'vit-parity-state' version 1, got 'vit-parity'",
    ),
    "a newer version": (edit_json(version=2), "version 2: was it written by a newer vit-parity"),
    "no step": (edit_json(step=None), "step must be the number of updates made, got None"),
    "a negative step": (edit_json(step=-1), "step must be the number of updates made, got -1"),
    "a step that is none": (edit_json(step=True), "step must be the number of updates made, got True"),
    "no such rule": (edit_json(rule="adafactor"), "rule must be one of adamw, lamb, sgd, muon, got 'adafactor'"),
    "a rule of no name": (edit_json(rule=["adamw"]), "rule must be one of adamw"),
    "the moments of another rule": (edit_json(rule="sgd"), r"3 unexpected:\s+nu\."),
    "no parameters": (
        edit_tensors(lambda t: {n: x for n, x in t.items() if not n.startswith("params.")}),
        "it has no parameters",
    ),
    "moments, an average and a shape": (
        edit_tensors(
            lambda t: (
                {n: x for n, x in t.items() if n not in ("nu.head.bias", "ema.cls_token")}
                | {"mu.head.weight": t["mu.head.weight"].T.copy(), "velocity.head.bias": t["mu.head.bias"]}
            )
        ),
        r"(?s)2 missing:.*(nu\.head\.bias|ema\.cls_token).*1 unexpected:.*velocity\.head\.bias.*1 misshapen:.*"
        r"mu\.head\.weight: expected \(3, 2\), got \(2, 3\)",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_state_that_is_not_whole_is_one_clear_error(tmp_path: Path, harm: str):
    write_state(tmp_path / FOLDER, small())
    action, message = HARM[harm]
    action(tmp_path / FOLDER)
    with pytest.raises(CheckpointError, match=message):
        read_state(tmp_path / FOLDER)


@pytest.fixture(scope="module")
def torch_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the torch loop began."""
    workdir = tmp_path_factory.mktemp("torch") / "run"
    training.main([*TINY.split(), "--workdir", str(workdir), "--stop-after", "4"])
    return workdir


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Arguments -> what vit-train writes to stderr on its way out with code 2."""

    def call(*arguments: str | Path) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        assert stop.value.code == 2
        return capsys.readouterr().err

    return call


@pytest.mark.slow
def test_vit_train_goes_on_from_what_the_torch_loop_left(torch_run: Path, tmp_path: Path):
    run = shutil.copytree(torch_run, tmp_path / "run")
    env = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    command = [
        sys.executable,
        "-m",
        "train",
        str(run / "config.json"),
        "--workdir",
        str(run),
        "--checkpoint.steps",
        "2",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"going on from {run / FOLDER}, the state after 4 steps of adamw\n" in done.stdout
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6, 7]
    training.main([*TINY.split(), "--workdir", str(tmp_path / "whole")])
    whole = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    rates = [[row["learning_rate"] for row in of if "loss" in row] for of in (rows, whole)]
    assert elementwise(*rates) < FLOAT32
    assert (run / "checkpoint" / "model.safetensors").is_file()
    assert files(run / FOLDER) == files(torch_run / FOLDER)


def other_model(state: Path) -> None:
    training.main(
        [*TINY.split(), "--model.mlp-dim", "24", "--workdir", str(state.parent / "other"), "--stop-after", "1"]
    )
    shutil.rmtree(state)
    (state.parent / "other" / FOLDER).rename(state)
    shutil.rmtree(state.parent / "other")


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "torn": HARM["torn"],
    "another model": (
        other_model,
        r"(?s)is no state of this run.* misshapen:.*params.blocks.0.mlp.fc1.weight: expected",
    ),
    "another rule": (edit_json(rule="lamb"), "is a state of lamb, and optimizer.name is adamw"),
    "another dtype": (
        edit_tensors(lambda t: {n: x.astype(np.float64) for n, x in t.items()}),
        r"(?s) of another dtype:.*params\.blocks.0.attn.proj.bias: expected float32, got float64",
    ),
    "no average": (
        edit_tensors(lambda t: {n: x for n, x in t.items() if not n.startswith("ema.")}),
        r"(?s)is no state of this run.* missing:\s+ema\.",
    ),
    "less trained": (
        edit_tensors(lambda t: {n: x for n, x in t.items() if n not in ("mu.cls_token", "nu.cls_token")}),
        r"(?s)is no state of this run.*2 missing:\s+mu\.cls_token .*nu\.cls_token",
    ),
    "the end of the run": (edit_json(step=7), "is the state after 7 steps, and the run has 7: none is left"),
}


@pytest.mark.parametrize("harm", REFUSED)
def test_a_state_of_another_run_is_one_message_and_changes_nothing(
    torch_run: Path, tmp_path: Path, fails: Fails, harm: str
):
    run = shutil.copytree(torch_run, tmp_path / "run")
    action, message = REFUSED[harm]
    action(run / FOLDER)
    before = files(tmp_path)
    said = fails(run / "config.json", "--workdir", run)
    assert said.startswith("vit-train: error: ")
    assert said.count("vit-train: error:") == 1
    assert re.search(message, said), said
    assert said.endswith(f"Nothing was changed: put this run's own state there, or remove {run / FOLDER}\n")
    assert "Traceback" not in said
    assert files(tmp_path) == before
    assert not (run / "steps").exists()


def test_a_run_in_float64_is_refused_by_name(torch_run: Path, tmp_path: Path, fails: Fails):
    """The torch loop has such runs, and vit-train has none."""
    said = json.loads((torch_run / "config.json").read_text())
    said["train_config"]["dtype"] = "float64"
    (tmp_path / "config.json").write_text(json.dumps(said))
    message = fails(tmp_path / "config.json", "--workdir", tmp_path)
    assert message.endswith('config.json: dtype is "float64", expected "float32" or "bfloat16"\n')


def test_overwriting_a_run_forgets_its_state(torch_run: Path, tmp_path: Path):
    run = shutil.copytree(torch_run, tmp_path / "run")
    folder.create(run, {"train_config": parsed().to_dict()}, overwrite=True)
    assert not (run / "state").exists()
    drop(run)
    assert {path.name for path in run.iterdir()} == {"config.json"}


def parsed(*given: str) -> TrainConfig:
    return parse(["digits", "--workdir", "x", *TINY.split(), *given]).config


def random_state(config: TrainConfig, at: int) -> State:
    """Of this run, after so many steps."""
    step, draw = make_step(config, open_data(config), make_placement(config, jax.devices()[:1]), None), np.random
    rng = draw.default_rng(at)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype) if x.shape else jnp.asarray(at, x.dtype),
        abstract_state(step),
    )


def write_run(run: Path, config: TrainConfig, *states: State) -> Path:
    run.mkdir(parents=True)
    folder.create(run, {"recipe": "digits", "train_config": config.to_dict()}, overwrite=False)
    with saver_in(run / "steps") as saver:
        for state in states:
            saver.save(int(state.step), state, ())
    return run


@pytest.fixture(scope="module")
def flax_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of vit-train with two saved steps."""
    config = parsed()
    return write_run(tmp_path_factory.mktemp("flax") / "run", config, *(random_state(config, at) for at in (2, 4)))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fails:
    """Arguments -> the one message of vit-convert --to run-state, which leaves everything as it was."""

    def call(*arguments: str | Path) -> str:
        before = files(tmp_path)
        capsys.readouterr()
        assert convert.main([*map(str, arguments), "--to", "run-state"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("vit-convert: error: ")
        assert "Traceback" not in err
        assert files(tmp_path) == before
        return err

    return call


def converts(*arguments: str | Path) -> None:
    assert convert.main([*map(str, arguments), "--to", "run-state"]) == 0


def test_the_last_step_is_taken_and_a_named_one_if_asked(flax_run: Path, tmp_path: Path):
    for source, step in ((flax_run, 4), (flax_run / "steps" / "2", 2)):
        converts(source, tmp_path / str(step))
        found, state = read_state(tmp_path / str(step) / FOLDER), random_state(parsed(), step)
        assert (found.step, found.rule) == (step, "adamw")
        assert found.ema is not None
        assert state.ema is not None
        kernel = "blocks.0.attn.proj"
        moments = state.opt_state[1][0]
        for ours, theirs in (
            (found.params, state.params), (found.ema, state.ema),
            (found.moments["mu"], moments.mu), (found.moments["nu"], moments.nu),
        ):  # fmt: skip
            np.testing.assert_array_equal(ours[f"{kernel}.weight"].T, theirs[f"{kernel}.kernel"])
            np.testing.assert_array_equal(ours[f"{kernel}.bias"], theirs[f"{kernel}.bias"])
            assert len(ours) == len(theirs)
        assert {path.name for path in (tmp_path / str(step)).iterdir()} == {"config.json", FOLDER}


def test_muons_velocities_and_moments_go_to_both_frameworks_and_back(tmp_path: Path):
    config = parsed("--optimizer.name", "muon")
    state = random_state(config, 4)
    converts(write_run(tmp_path / "run", config, state), tmp_path / "out")
    found = read_state(tmp_path / "out" / FOLDER)
    matrices, others = (masked.inner_state for masked in state.opt_state[1][:2])
    velocity, hidden = matrices[0].trace, {name for name in found.params if name.startswith("blocks.0.") and
                                           found.params[name].ndim == 2}  # fmt: skip
    assert len(hidden) == 4
    assert found.moments["nu"].keys() == found.params.keys() - hidden
    assert found.moments["mu"].keys() == found.params.keys()
    for ours, theirs in (
        (found.moments["mu"]["blocks.0.attn.proj.weight"].T, velocity["blocks.0.attn.proj.kernel"]),
        (found.moments["mu"]["blocks.0.attn.proj.bias"], others.mu["blocks.0.attn.proj.bias"]),
        (found.moments["nu"]["head.weight"].T, others.nu["head.kernel"]),
    ):
        np.testing.assert_array_equal(ours, theirs)
    placement = make_placement(config, jax.devices()[:1])
    step = make_step(config, open_data(config), placement, None)
    portable = open_portable(tmp_path / "out", step)
    assert portable is not None
    assert_same_bits(portable.state(placement.abstract(abstract_state(step))), state)


def test_of_damaged_steps_the_one_before_is_taken_and_said(
    flax_run: Path, tmp_path: Path, refused: Fails, capsys: pytest.CaptureFixture[str]
):
    run = shutil.copytree(flax_run, tmp_path / "run")
    data = max((run / "steps" / "4").rglob("*"), key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[:-1])
    before = files(run)
    converts(run, tmp_path / "out")
    assert f"note: {run / 'steps' / '4'} is damaged (" in capsys.readouterr().err
    assert read_state(tmp_path / "out" / FOLDER).step == 2
    assert files(run) == before
    assert "is damaged (" in refused(run / "steps" / "4", tmp_path / "other")
    shutil.rmtree(run / "steps" / "2")
    assert re.search(r"holds no saved step to go on from: .*4 is damaged", refused(run, tmp_path / "other"))


def test_a_dry_run_says_what_would_be_written(flax_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    converts(flax_run, tmp_path / "out", "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{flax_run / 'steps' / '4'} (step 4, adamw) -> {tmp_path / 'out'}, dry run: nothing is written"
    assert re.fullmatch(r"  state/state.safetensors: \d+ tensors, [\d,]+ bytes", lines[1])
    assert lines[2:] == ["  state/state.json", "  config.json"]
    assert not (tmp_path / "out").exists()


def test_a_run_that_went_on_is_not_overwritten(flax_run: Path, tmp_path: Path, refused: Fails):
    converts(flax_run, tmp_path / "out")
    assert "out exists" in refused(flax_run, tmp_path / "out")
    converts(flax_run / "steps" / "2", tmp_path / "out", "--overwrite")
    assert read_state(tmp_path / "out" / FOLDER).step == 2
    (tmp_path / "out" / "metrics.jsonl").touch()
    assert "holds other files, so it is not overwritten: metrics.jsonl" in refused(
        flax_run, tmp_path / "out", "--overwrite"
    )


@pytest.mark.parametrize("kind", ["converted", "of the torch loop"])
def test_who_starts_from_a_run_that_has_a_state_and_no_weights_is_told_how_it_goes_on(
    flax_run: Path, torch_run: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str], kind: str
):
    run = torch_run
    if kind == "converted":
        run = tmp_path / "out"
        converts(flax_run, run)
        capsys.readouterr()
    said = fails("finetune", "--init", run, "--data.name", "digits", "--workdir", tmp_path / "new")
    goes_on = f"vit-train {run / 'config.json'} --workdir {run}"
    left = f"it left {run / 'state'}, which is no checkpoint, but what the run goes on from: {goes_on}"
    assert said == f"vit-train: error: --init {run} is the folder of a run that has not come to its end: {left}\n"


def test_options_of_weights_are_refused_by_name(flax_run: Path, tmp_path: Path, refused: Fails):
    said = refused(flax_run, tmp_path / "out", "--dtype", "float16", "--set", "act=silu", "--weights", "ema")
    assert "--set, --weights, --dtype can't be given with --to run-state" in said


@pytest.mark.parametrize(
    "rule", ["adafactor", "skipped updates", "another model", "another version", "version in words", "no average"]
)
def test_what_has_no_state_for_both_frameworks_is_refused(tmp_path: Path, refused: Fails, rule: str):
    config = parsed("--optimizer.name", "adafactor") if rule == "adafactor" else parsed()
    state = random_state(config, 4)
    if rule == "skipped updates":
        state = state._replace(step=state.step + 3)
    run = write_run(tmp_path / "run", config, state)
    said = json.loads((run / "config.json").read_text())
    if rule == "another model":
        said["train_config"]["model"]["depth"] = 2
    if rule == "another version":
        said["version"] = 2
    if rule == "version in words":
        said["version"] = "1"
    if rule == "no average":
        said["train_config"]["ema_decay"] = None
    (run / "config.json").write_text(json.dumps(said))
    expected = {
        "adafactor": "is a run of adafactor, whose moments have no portable form",
        "skipped updates": r"of 7 steps 3 updates were left out \(on_nonfinite skip\)",
        "another model": r"(?s)are not those of the run's model.*missing:.*params.blocks.1",
        "version in words": 'is of version "1", and this one reads version 1',
        "another version": "is of version 2, and this one reads version 1",
        "no average": "ema_decay in .* and the averages of the step don't fit",
    }
    assert re.search(expected[rule], refused(run, tmp_path / "out"))


def test_what_is_no_run_is_said(flax_run: Path, torch_run: Path, tmp_path: Path, refused: Fails):
    assert "no such directory; a run is the --workdir of vit-train" in refused(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "holds no saved step" in refused(tmp_path / "empty", tmp_path / "out")
    assert "both frameworks go on from that as it is" in refused(torch_run, tmp_path / "out")
    done = tmp_path / "done"
    (done / "checkpoint").mkdir(parents=True)
    shutil.copy(flax_run / "config.json", done)
    assert f"it came to its end, and left its weights in {done / 'checkpoint'}" in refused(done, tmp_path / "out")
    steps = shutil.copytree(flax_run / "steps", tmp_path / "apart" / "steps")
    assert "is no folder of a run" in refused(steps / "4", tmp_path / "out")


def test_converting_a_run_loads_no_framework(flax_run: Path, tmp_path: Path):
    code = "import sys; from vit_convert.__main__ import main; assert main(sys.argv[1:]) == 0"
    code += "; print([name for name in ('jax', 'flax', 'orbax', 'torch') if name in sys.modules])"
    command = [sys.executable, "-c", code, str(flax_run), str(tmp_path / "out"), "--to", "run-state"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
