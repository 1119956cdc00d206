"""An Orbax step of a run opens like any checkpoint, without JAX: bits equal, one array at a time."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from parity_tests.strategies import random_tensors
from parity_tests.test_files import assert_same, read_all
from train.step import State
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.files import open_tensors

CONFIG = ViTConfig(image_size=8, patch_size=4, dim=16, depth=2, num_heads=4, mlp_dim=24, num_classes=3)


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """A model's parameters by Flax path, as a run holds them, one of them in bfloat16."""
    folder = tmp_path_factory.mktemp("flax") / "model"
    save_checkpoint(folder, CONFIG, random_tensors(CONFIG).items(), layout="flax")
    params = {name: jnp.asarray(array, jnp.float32) for name, array in read_all(folder).items()}
    params["norm.scale"] = params["norm.scale"].astype(jnp.bfloat16)
    return params


def state_of(params, *, ema):
    averaged = {name: value * 2 for name, value in params.items()} if ema else None
    return State(jnp.int32(5), params, ({"mu": params}, {"count": jnp.int32(5)}), averaged)


@pytest.fixture(scope="module", params=["standard", "manager", "manager with items"])
def step(request, tmp_path_factory, params):
    """A step with averaged weights, written in each of the ways that Orbax has."""
    folder, state = tmp_path_factory.mktemp("orbax"), state_of(params, ema=True)
    if request.param == "standard":
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "5", state)
        return folder / "5"
    saved = ocp.args.StandardSave(state)
    if request.param == "manager with items":
        saved = ocp.args.Composite(state=saved, data=ocp.args.JsonSave({"position": 7}))
    with ocp.CheckpointManager(folder) as manager:
        manager.save(4, args=saved)
        manager.save(5, args=saved)
        manager.wait_until_finished()
    return folder / "5"


def as_numpy(params):
    return jax.tree.map(np.asarray, params)


def test_averaged_weights_are_taken_and_the_others_can_be_asked_for(step, params):
    found = open_tensors(step)
    assert_same({name: found.read(name) for name in found.specs}, as_numpy({n: v * 2 for n, v in params.items()}))
    assert found.said[0] == "holds params and ema: ema is taken; --weights params takes the other"
    assert found.said[1] == "left out of the file: step, opt_state"
    assert found.path == step
    plain = open_tensors(step, "params")
    assert_same({name: plain.read(name) for name in plain.specs}, as_numpy(params))


def test_weights_that_are_not_there_are_refused_with_those_that_are(step):
    with pytest.raises(CheckpointError, match=r"holds no weights 'teacher'; --weights takes .*params.*ema"):
        open_tensors(step, "teacher")


def test_a_run_without_averages_gives_its_parameters(tmp_path, params):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "5", state_of(params, ema=False))
    found = open_tensors(tmp_path / "5")
    assert_same({name: found.read(name) for name in found.specs}, as_numpy(params))
    assert found.said == ("left out of the file: step, opt_state",)


@pytest.mark.parametrize(
    "options", [dict(use_ocdbt=False), dict(use_zarr3=True), dict(use_ocdbt=False, use_zarr3=True)]
)
def test_every_store_of_orbax_is_read(tmp_path, params, options):
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options))
    checkpointer.save(tmp_path / "5", {"params": {**params, "zeros": jnp.zeros((3, 2))}})
    checkpointer.close()
    assert_same(read_all(tmp_path / "5"), as_numpy({**params, "zeros": np.zeros((3, 2))}))


def test_a_tree_of_weights_alone_is_read_by_its_keys(tmp_path, params):
    nested = {"blocks": {"0": {"kernel": jnp.arange(6.0)}}, "encoder": {"scale": jnp.ones(2), "none": None}}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "flat", params)
        checkpointer.save(tmp_path / "nested", nested)
    assert_same(read_all(tmp_path / "flat"), as_numpy(params))
    expected = {"blocks.0.kernel": nested["blocks"]["0"]["kernel"], "encoder.scale": nested["encoder"]["scale"]}
    assert_same(read_all(tmp_path / "nested"), as_numpy(expected))


def test_a_step_opens_as_a_model_with_the_config_beside_the_steps(tmp_path, params):
    save_checkpoint(tmp_path / "native", CONFIG, random_tensors(CONFIG).items())
    plain = {name: value.astype(jnp.float32) for name, value in params.items()}
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        manager.save(5, args=ocp.args.StandardSave(state_of(plain, ema=False)))
        manager.wait_until_finished()
    config = json.loads((tmp_path / "native" / "config.json").read_text())
    (tmp_path / "steps" / "config.json").write_text(json.dumps({**config, "layout": "flax"}))
    for path in (tmp_path / "steps" / "5", tmp_path / "steps" / "5" / "default"):
        found = open_checkpoint(path)
        assert found.config == CONFIG
        assert_same(dict(found.tensors("flax")), as_numpy(plain))


def test_arrays_are_read_when_they_are_asked_for(tmp_path, params):
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False))
    checkpointer.save(tmp_path / "5", params)
    checkpointer.close()
    found = open_tensors(tmp_path / "5")
    for path in (tmp_path / "5").glob("*/*"):
        if path.name[0].isdigit():  # a chunk's data
            path.unlink()
    with pytest.raises(CheckpointError, match=r"norm\.scale is missing, truncated or corrupt"):
        found.read("norm.scale")


def test_reading_loads_no_jax(step):
    code = (
        "import sys; from vit_convert.files import open_tensors as o; f = o(sys.argv[1]); f.read(next(iter(f.specs)))"
    )
    code += "; print([name for name in ('jax', 'flax', 'orbax', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, step], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_tensorstore_is_named(step, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(CheckpointError, match=r"Orbax needs tensorstore: pip install 'vit-parity\[flax\]'"):
        open_tensors(step)


@pytest.mark.parametrize("keep", [0, 0.5, None])
def test_a_step_that_lost_data_is_one_clear_error(tmp_path, params, keep):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "5", params)
    needed = [tmp_path / "5" / "_METADATA", tmp_path / "5" / "manifest.ocdbt", *(tmp_path / "5" / "d").iterdir()]
    assert len(needed) > 2
    for path in needed:
        whole = path.read_bytes()
        path.unlink()
        if keep is not None:
            path.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(CheckpointError, match=f"{tmp_path}/5.*: .*(not readable as JSON|corrupt|holds no tree)"):
            read_all(tmp_path / "5")
        path.write_bytes(whole)
    read_all(tmp_path / "5")


NO_TEXT = {"key_metadata": [{"key": "\ud800"}], "value_metadata": {"skip_deserialize": False}}


@pytest.mark.parametrize(
    "content",
    ["{}", '{"tree_metadata": 1}', '{"tree_metadata": {"a": {}}}', json.dumps({"tree_metadata": {"a": NO_TEXT}})],
)
def test_metadata_that_are_not_orbax_s_are_one_clear_error(tmp_path, content):
    (tmp_path / "_METADATA").write_text(content)
    with pytest.raises(CheckpointError, match="_METADATA: not as Orbax writes it"):
        open_tensors(tmp_path)


def test_the_wrong_folder_is_told_which_is_meant(step, tmp_path):
    if step.parent.joinpath("4").exists():
        with pytest.raises(CheckpointError, match=f"did you mean {step}, its last step\\?$"):
            open_tensors(step.parent)
    unfinished = tmp_path / "6.orbax-checkpoint-tmp-0"
    unfinished.mkdir()
    (unfinished / "_CHECKPOINT_METADATA").touch()
    with pytest.raises(CheckpointError, match="this step was never completed"):
        open_tensors(unfinished)
    for name in ("a", "b"):
        (tmp_path / "7" / name).mkdir(parents=True)
        (tmp_path / "7" / name / "_METADATA").touch()
    (tmp_path / "7" / "_CHECKPOINT_METADATA").touch()
    with pytest.raises(CheckpointError, match="holds several trees; pass the path of one of them: a, b"):
        open_tensors(tmp_path / "7")
