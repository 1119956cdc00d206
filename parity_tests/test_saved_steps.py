"""A run's saved steps: bits that come back as they were, and nothing that is damaged or half-written taken for good."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from parity_tests.selection import quick
from train.__main__ import parse
from train.config import CheckpointConfig, ConfigError
from train.devices.placement import make_placement
from train.errors import SavingError, Stopped
from train.evaluation.counts import Evaluated
from train.evaluation.split import Evaluate
from train.input.data import open_data
from train.loop import Loop
from train.model import make_model
from train.optimizer import RULES
from train.run import keep_rows_of_damaged, make_step
from train.saving import due as due_module
from train.saving.best import Best, Evaluation
from train.saving.due import Due
from train.saving.folder import ASIDE, last_good
from train.saving.saver import NONE, Progress, Saver, Unsaved
from train.step import State
from vit_convert.sums import SUMS, damage

POSITION = {"data": "digits train 1437", "num_examples": 1437}
ROWS = ({"loss": 0.1, "grad_norm": 1 / 3},)


def write_nothing(params: Any, folder: Path) -> None:
    """In the place of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").touch()


def saver_in(folder: Path, config: CheckpointConfig | None = None, **given: Any) -> Saver:
    config = config or CheckpointConfig(minutes=None)
    due = Due(config, agree_steps=1)
    return Saver(
        folder,
        given.pop("keep", 2),
        given.pop("position", POSITION),
        due,
        Best(write_nothing, folder.parent / "best", folder.parent / "best.json"),
    )


@jax.jit
def random_state(seed: int) -> State:
    keys = iter(jax.random.split(jax.random.key(seed), 9))
    params = {
        f"blocks.{i}.attn.qkv.kernel": jax.random.normal(next(keys), (40, 36 + 6 * i), jnp.float32) for i in range(3)
    }
    moments = {name: jax.random.normal(next(keys), x.shape) for name, x in params.items()}
    ema = {name: x.astype(jnp.bfloat16) for name, x in moments.items()}
    return State(jnp.int32(seed), params, ({"mu": moments}, (), {"count": jnp.int32(seed)}), ema)


def abstract(state: State) -> State:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def assert_same_bits(found: State, expected: State) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, np.asarray(a).tobytes()) == (b.dtype, np.asarray(b).tobytes())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps 1 and 2."""
    folder = tmp_path_factory.mktemp("run") / "steps"
    with saver_in(folder) as saver:
        for step in (1, 2):
            saver.judged(step, step / 10, {})
            saver.save(step, random_state(step), ROWS, Progress(step + 0.25, unevaluated=step == 2))
    return folder


@pytest.fixture
def steps(written: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return shutil.copytree(written, tmp_path / "steps")


def test_what_is_restored_has_the_bits_that_were_saved(written: Path):
    with saver_in(written) as saver:
        assert (saver.good, saver.said) == (2, ())
        assert_same_bits(saver.restore(abstract(random_state(0))), random_state(2))
        assert saver.pending == ROWS
        assert saver.progress == Progress(2.25, unevaluated=True)
        assert saver.best.found == Evaluation(2, 0.2)


def test_a_step_that_an_older_version_saved_begins_to_count_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    json_save = ocp.args.JsonSave
    kept = ("position", "best", "pending")
    monkeypatch.setattr(ocp.args, "JsonSave", lambda found: json_save({name: found[name] for name in kept}))
    with saver_in(tmp_path / "steps") as saver:
        saver.save(1, random_state(1), ROWS, Progress(5.0))
    with saver_in(tmp_path / "steps") as saver:
        saver.restore(abstract(random_state(0)))
        assert (saver.pending, saver.progress) == (ROWS, Progress())


class Told(Unsaved):
    """Of a run that goes on from step 2, after 100 s."""

    def __init__(self) -> None:
        self.progress = Progress(100.0)
        self.kept: dict[int, Progress] = {}

    def due(self, step: int) -> bool:
        return step in (3, 4)

    def save(self, step: int, state: State, pending: Any, progress: Progress = NONE) -> None:
        self.kept[step] = progress


def test_a_run_that_goes_on_counts_its_seconds_on_and_saves_after_an_update(monkeypatch: pytest.MonkeyPatch):
    """Each step takes 10 s here; steps 3 and 4 are to be saved, their updates are left out, and 5 is saved for them."""
    now, rows, saver = [5000.0], [], Told()
    monkeypatch.setattr("train.loop.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def advance(state: Any, skipped: float) -> tuple[Any, dict[str, jax.Array]]:
        now[0] += 10
        row = {"loss": 1.0, "accuracy": 0.5, "grad_norm": 1.0, "learning_rate": 0.1, "skipped": skipped}
        return state, {name: jnp.asarray(value) for name, value in row.items()}

    monkeypatch.setattr("train.loop.compile_advance", lambda *given: advance)
    judged = Evaluated(4, 2, 3, 1.0, np.array([4]), np.array([2]), None)
    parts: dict[str, Any] = dict(
        step=SimpleNamespace(
            config=SimpleNamespace(eval_epochs=9, batch_size=4, log=SimpleNamespace(steps=1)),
            total_steps=7,
            learning_rate=lambda step: 0.1,
        ),
        feed=SimpleNamespace(items=lambda start: (skipped for skipped in (1.0, 1.0, 0.0, 0.0, 0.0)), fetch=None),
        evaluate=Evaluate(lambda *given: pytest.fail("nothing is judged"), lambda: pytest.fail("nor read"), judged),  # pyright: ignore[reportArgumentType]
        journal=SimpleNamespace(write=rows.append, say=lambda text: None, say_own=lambda text: None),
    )
    monkeypatch.setattr(Evaluate, "compile", lambda self, params: None)
    monkeypatch.setattr(Evaluate, "unless", lambda self, stopped, params: judged)
    begun: Any = SimpleNamespace(step=2, params={}, ema=None)
    trained = Loop(**parts, steps_per_epoch=100, unsaid=lambda: [], saver=saver).run(begun)
    assert [row["seconds"] for row in rows if "seconds" in row] == [110, 120, 130, 140, 150]
    assert trained.seconds == 150
    assert saver.kept == {5: Progress(130)}


# In a process of its own: JAX has its devices when it starts.
DEVICES = """
import sys
from pathlib import Path
import jax, numpy as np
from parity_tests.test_saved_steps import abstract, assert_same_bits, random_state, saver_in
from jax.sharding import Mesh
from train.devices.placement import Placement

def on(shape, fsdp):
    devices = np.array(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
    return Placement(Mesh(devices, ("data", "model")), fsdp=fsdp, small=1)

state, folder = random_state(3), Path(sys.argv[1])
made = on((4, 1), True).init(lambda s: s, state)
assert len(made.params["blocks.0.attn.qkv.kernel"].addressable_shards[0].data) == 10
with saver_in(folder) as saver:
    saver.save(3, made, ())
for shape, fsdp in (((1, 1), False), ((2, 2), True), ((2, 1), False), ((4, 1), True)):
    placement = on(shape, fsdp)
    with saver_in(folder) as saver:
        found = saver.restore(placement.abstract(jax.eval_shape(lambda: state)))
    assert_same_bits(found, state)
    places = placement.state(found)
    assert all(x.sharding == where for x, where in zip(jax.tree.leaves(found), jax.tree.leaves(places), strict=True))
"""


@pytest.mark.slow
def test_other_numbers_of_devices_restore_the_same_bits(tmp_path: Path):
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", DEVICES, str(tmp_path / "steps")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", quick(list(RULES), [name for name in RULES if name != "adafactor"]))
def test_every_optimizers_state_comes_back(tmp_path: Path, name: str):
    given = ["--optimizer.name", name, "--optimizer.frozen", "blocks.0.*", "--model.dim", "8", "--model.mlp-dim", "8"]
    config = parse(["digits", "--workdir", "x", *given]).config
    step, (_, values) = make_step(config, open_data(config), make_placement(config), None), make_model(config)
    shapes = jax.eval_shape(lambda key: step.init(values(key)), jax.random.key(0))
    draw = np.random.default_rng(0)
    state = jax.tree.map(lambda x: jnp.asarray(draw.integers(0, 100, x.shape), x.dtype), shapes)
    assert len(jax.tree.leaves(state.opt_state)) >= len(state.params) - 12
    with saver_in(tmp_path) as saver:
        saver.save(1, state, ())
        saver.wait()
        assert_same_bits(saver.restore(abstract(state)), state)


def test_the_next_steps_change_nothing_of_what_is_being_written(tmp_path: Path):
    """They are given the saved arrays' own memory (donation)."""
    state = State(jnp.int32(0), {"kernel": jnp.zeros((1500, 1000), jnp.float32)}, (), None)
    advance = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    saved = (1, 5, 9)
    with saver_in(tmp_path / "steps", keep=9) as saver:
        for step in range(1, 13):
            before, state = state, advance(state)
            assert before.params["kernel"].is_deleted() or step - 1 in saved
            if step in saved:
                saver.save(step, state, ())
        saver.wait()
        for step in saved:
            saver.good = step
            found = saver.restore(abstract(state))
            assert found.step == step
            assert (np.asarray(found.params["kernel"]) == step).all()


@pytest.mark.parametrize("keep", [1, 3])
def test_the_latest_steps_are_kept_and_no_more(tmp_path: Path, keep: int):
    with saver_in(tmp_path / "steps", keep=keep) as saver:
        for step in range(1, 6):
            saver.save(step * 10, random_state(0), ())
    assert {path.name for path in (tmp_path / "steps").iterdir()} == {str(10 * n) for n in range(6 - keep, 6)}


def cut(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_harm_to_any_file_of_a_step_is_found_and_the_one_before_is_taken(steps: Path, harm: Callable[[Path], Any]):
    whole = shutil.copytree(steps / "2", steps.parent / "whole")
    inner = [path.relative_to(whole) for path in sorted(whole.glob("*/**/*")) if path.is_file()]
    assert len(inner) > 8
    for name in (*inner, Path(SUMS)):
        harm(steps / "2" / name)
        found, said = last_good(steps)
        assert (found, len(said)) == (1, 1), name
        assert said[0].startswith(
            f"{steps / '2'} is damaged ({name}" if name in inner else f"{steps / '2'} is damaged ("
        )
        assert said[0].endswith(f"set aside as {steps / ASIDE / '2'}")
        shutil.rmtree(steps / ASIDE)
        shutil.copytree(whole, steps / "2")


@pytest.mark.parametrize("harm", [cut, Path.unlink])
def test_harm_to_what_orbax_says_of_a_whole_step_is_found_or_does_none(steps: Path, harm: Callable[[Path], Any]):
    whole = shutil.copytree(steps / "2", steps.parent / "whole")
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt"):
        harm(steps / "2" / name)
        with saver_in(steps) as saver:
            assert saver.good == (1 if name == "_CHECKPOINT_METADATA" else 2)
            assert_same_bits(saver.restore(abstract(random_state(0))), random_state(saver.good))
        shutil.copytree(whole, steps / "2", dirs_exist_ok=True)


def test_a_run_goes_on_from_the_step_before_a_damaged_one(steps: Path):
    next((steps / "2").glob("state/**/d/*")).unlink()
    with saver_in(steps) as saver:
        assert saver.good == 1
        assert_same_bits(saver.restore(abstract(random_state(0))), random_state(1))
        saver.save(2, random_state(2), ())  # anew, under the same name
    with saver_in(steps) as saver:
        assert (saver.good, saver.said) == (2, ())


def test_a_step_whose_weights_gave_no_finite_loss_is_set_aside_and_the_one_before_named(steps: Path):
    """Saved after a finite loss and gradient: what that update made of the weights shows in the next loss."""
    with saver_in(steps) as saver:
        assert saver.where(3) == f"the last good step is saved in {steps / '2'}"
        assert saver.where(None) == f"the last good step is saved in {steps / '2'}"
        said = saver.where(2)
        assert said.startswith(f"step 2 was saved with the weights that gave it, and is set aside in {steps / ASIDE}; ")
        assert said.endswith(f"; the last good step is saved in {steps / '1'}")
    assert (steps / ASIDE / "2").is_dir()
    with saver_in(steps) as saver:
        assert saver.good == 1
        assert_same_bits(saver.restore(abstract(random_state(0))), random_state(1))
        assert saver.where(1).endswith("; no step before it is left")
    assert last_good(steps)[0] is None


def test_with_no_whole_step_a_run_begins_anew_and_says_so(steps: Path):
    for step in (1, 2):
        cut(steps / str(step) / "progress" / "metadata")
    with saver_in(steps) as saver:
        assert saver.good is None
        assert len(saver.said) == 2


def test_a_run_that_begins_anew_for_its_steps_are_damaged_keeps_the_rows_until_then(steps: Path):
    rows = steps.parent / "metrics.jsonl"
    assert keep_rows_of_damaged(steps) is None
    rows.write_text("first")
    assert keep_rows_of_damaged(steps) is None  # nothing was set aside
    for step in (1, 2):
        cut(steps / str(step) / "progress" / "metadata")
    assert last_good(steps)[0] is None
    kept = keep_rows_of_damaged(steps)
    assert kept is not None
    assert kept == steps / "damaged" / "metrics.jsonl"
    assert (kept.read_text(), rows.exists()) == ("first", False)
    rows.write_text("second")
    assert keep_rows_of_damaged(steps) is None  # these come again, and those of before aren't replaced
    assert (kept.read_text(), rows.read_text()) == ("first", "second")


def test_a_step_cut_short_is_no_step(steps: Path):
    (steps / "2").rename(steps / "3.orbax-checkpoint-tmp")
    assert last_good(steps) == (1, (f"{steps / '3'} was cut short while it was saved: removed",))
    assert {path.name for path in steps.iterdir()} == {"1"}


def test_other_data_are_refused_by_name(written: Path):
    position = POSITION | {"num_examples": 1438}
    with saver_in(written, position=position) as saver, pytest.raises(ConfigError) as error:
        saver.restore(abstract(random_state(0)))
    assert str(error.value).startswith(
        f"{written / '2'} was saved with other data: num_examples was 1437 and is 1438: give the data"
    )


def test_other_held_out_images_are_refused_and_a_step_that_says_nothing_of_them_is_not(written: Path, tmp_path: Path):
    """The best weights so far are the best on those images; older versions kept no word of them."""
    with saver_in(written, position=POSITION | {"held_out": "digits test 360"}) as saver:
        saver.restore(abstract(random_state(0)))
    with saver_in(tmp_path / "steps", position=POSITION | {"held_out": "digits test 360"}) as saver:
        saver.save(1, random_state(1), ROWS)
    other, said = POSITION | {"held_out": "digits test 359"}, "held_out was 'digits test 360' and is 'digits test 359'"
    with saver_in(tmp_path / "steps", position=other) as saver, pytest.raises(ConfigError, match=said):
        saver.restore(abstract(random_state(0)))


QKV = "blocks.0.attn.qkv.kernel"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"opt_state": ({"nu": {}}, (), {"count": jnp.int32(0)})},
            f"opt_state.0.mu.{QKV} has shape (40, 36) there, and is",
        ),
        (
            {"opt_state": (random_state(0).opt_state[0] | {"all": jnp.zeros(3)}, (), {"count": jnp.int32(0)})},
            "opt_state.0.all is missing there, and has shape (3,) in this",
        ),
        (
            {"params": {QKV: jnp.zeros((36, 40))}},
            f"params.{QKV} has shape (40, 36) there, and has shape (36, 40) in this",
        ),
        ({"ema": None}, f"ema.{QKV} has shape (40, 36) there, and is missing in this run"),
    ],
    ids=["one part less", "one part more", "shape", "no average"],
)
def test_a_step_of_another_layout_is_refused_by_name(written: Path, change: dict[str, Any], said: str):
    with saver_in(written) as saver, pytest.raises(ConfigError) as error:
        saver.restore(abstract(random_state(0)._replace(**change)))
    assert str(error.value).startswith(f"{written / '2'} can't be gone on from: another version of vit-parity or optax")
    assert said in str(error.value)


def save_and_wait(saver: Saver, step: int, state: State) -> None:
    saver.save(step, state, ())
    saver.wait()


# tensorstore tells a coroutine of a write whose event loop another write's error has ended, sooner or later
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_message_and_the_step_before_stays(steps: Path):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    state = State(jnp.int32(0), {"kernel": jax.random.normal(jax.random.key(0), (500, 500))}, (), None)
    saver = saver_in(steps)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
        with saver, pytest.raises(SavingError, match=f"{steps / '3'} can't be saved: "):
            save_and_wait(saver, 3, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, handler)
    assert last_good(steps)[0] == 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(due_module.time, "monotonic", lambda: now[0])
    return now


def test_steps_are_saved_by_the_clock(clock: list[float]):
    due = Due(CheckpointConfig(minutes=2), agree_steps=1)
    clock[0] = 119
    assert not due(1)
    clock[0] = 120
    assert due(2)
    due.saved()
    assert not due(3)


def test_steps_are_saved_by_steps(clock: list[float]):
    due = Due(CheckpointConfig(minutes=None, steps=3), agree_steps=1)
    clock[0] = 1e9
    assert [step for step in range(1, 10) if due(step)] == [3, 6, 9]


def test_hosts_save_by_the_first_ones_clock_and_end_at_anyones_signal(monkeypatch: pytest.MonkeyPatch):
    """Each asks at the same steps only, where the answers are exchanged."""
    told = [(0, 0), (0, 1)]
    monkeypatch.setattr(due_module.hosts, "several", lambda: True)
    monkeypatch.setattr(due_module.hosts, "gather_numbers", lambda *numbers: told)
    due = Due(CheckpointConfig(minutes=1), agree_steps=5)
    assert not due(5)  # late on the second host alone
    told[0] = (0, 1)
    assert (due(9), due(10)) == (False, True)
    told[:] = [(0, 0), (signal.SIGTERM, 0)]
    assert (due(14), due.ending) == (False, 0)
    assert (due(15), due.ending) == (True, signal.SIGTERM)


def test_a_signal_ends_the_run_once_its_step_is_there(tmp_path: Path):
    with saver_in(tmp_path / "steps") as saver:
        saver.due.interrupts.received = signal.SIGTERM
        assert saver.due(7)
        with pytest.raises(Stopped, match=f"SIGTERM: the last good step is saved in {tmp_path / 'steps' / '7'}"):
            saver.save(7, random_state(7), ())
    assert damage(tmp_path / "steps" / "7") is None


def test_the_best_weights_are_written_when_they_are_better_than_all_before(tmp_path: Path):
    written: list[float] = []

    def write(params: Any, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        write_nothing(params, folder)
        written.append(float(params["x"]))

    best = Best(write, tmp_path / "best", tmp_path / "best.json")
    for step, accuracy in enumerate([0.2, 0.5, 0.5, 0.4, 0.6], start=1):
        best.judged(step, accuracy, {"x": jnp.float32(step)})
    assert written == [1, 2, 5]
    (tmp_path / "best.json").unlink()
    again = Best(write, tmp_path / "best", tmp_path / "best.json")
    again.restore(json.loads(json.dumps(best.to_dict())))
    assert again.found == Evaluation(5, 0.6)
    again.judged(6, 0.6, {"x": jnp.float32(6)})
    assert written == [1, 2, 5]


def test_what_is_said_of_the_best_weights_is_of_those_that_are_there(tmp_path: Path):
    """A run that was killed after better weights than its last saved step knew of, and finds worse ones now."""
    where = tmp_path / "best", tmp_path / "best.json"
    best = Best(write_nothing, *where)
    best.judged(50, 0.9, {})
    again = Best(lambda params, folder: pytest.fail("these are not better"), *where)
    again.restore({"step": 20, "accuracy": 0.1 + 0.2})
    assert again.found == Evaluation(50, 0.9)
    again.judged(60, 0.85, {})
    os.utime(tmp_path / "best" / "model.safetensors", ns=(5, 5))  # other weights than the record's
    again.restore({"step": 20, "accuracy": 0.1 + 0.2})
    assert again.found == Evaluation(20, 0.1 + 0.2)


def test_best_weights_that_are_gone_are_said_to_be_and_the_next_evaluation_is_the_best(tmp_path: Path):
    where = tmp_path / "best", tmp_path / "best.json"
    Best(write_nothing, *where).judged(20, 0.9, {})
    shutil.rmtree(tmp_path / "best")
    again = Best(write_nothing, *where)
    again.restore({"step": 20, "accuracy": 0.9})
    assert again.said == (f"{where[0]} isn't there any more: the next evaluation's weights are taken as the best",)
    again.judged(40, 0.5, {})
    assert (again.found, where[0].is_dir()) == (Evaluation(40, 0.5), True)
    again.restore({"step": 40, "accuracy": 0.5})
    assert again.found == Evaluation(40, 0.5)


def test_no_best_weights_are_missed_before_the_first_evaluation(tmp_path: Path):
    best = Best(write_nothing, tmp_path / "best", tmp_path / "best.json")
    best.restore(best.to_dict())
    assert best.said == ()
