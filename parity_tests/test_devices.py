"""Where a run's arrays lie changes where they lie, and nothing else: losses, batches, draws, evaluations stay.

The runs are those of placements.py, on eight CPU devices that XLA simulates, in float64.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P
from jax.tree_util import DictKey

from parity_tests.placements import CONFIG, MODEL, OTHERS
from parity_tests.selection import quick
from parity_tests.tolerances import LOSS
from train.__main__ import main
from train.config import ConfigError, DevicesConfig, OptimizerConfig, TrainConfig
from train.devices.mesh import check_mesh
from train.devices.placement import Placement
from train.optimizer.muon import muon
from train.step import State, split_model
from vit_convert.config import ViTConfig
from vit_convert.layouts.native import hub_name
from vit_convert.presets import PRESETS
from vit_flax import ViT

QUICK = ["fsdp and tensor 2"]
MORE = ["replicated", "fsdp", "tensor 2", "tensor 4"]  # of the same rules as both together
SHARED = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
WIDE = ViTConfig(
    image_size=32, patch_size=8, dim=64, depth=1, num_heads=4, mlp_dim=96, num_classes=10, mlp="swiglu",
    qkv_bias="qv", layer_scale=True, qk_norm=True, attn_norm=True, mlp_norm=True, num_registers=4, pool="map",
)  # fmt: skip
Runs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Runs:
    """The runs of all placements that are asked for, in one process: it takes its devices when JAX starts."""
    slow = any(item.get_closest_marker("slow") for item in request.session.items if item.path == request.path)
    more = [*MORE, *(f"{name}; {other}" for name in ("one device", *QUICK) for other in OTHERS)] if slow else []
    return run_placements(tmp_path_factory.mktemp("placements"), "one device", *QUICK, *more)


def run_placements(folder: Path, *names: str) -> Runs:
    out = folder / "runs.json"
    env = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "parity_tests.placements", str(out), *names, "--resident"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.slow
def test_a_hundred_losses_are_those_of_one_device(runs: Runs, name: str):
    ours, one = np.array(runs[name]["losses"]), np.array(runs["one device"]["losses"])
    assert len(one) == 100
    assert np.ptp(one) > 0.1
    assert float(np.abs(ours - one).max()) < LOSS


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("what", ["batches", "draws", "initial"])
@pytest.mark.slow
def test_batches_draws_and_initial_values_have_the_bits_of_one_device(runs: Runs, name: str, what: str):
    assert runs[name][what] == runs["one device"][what]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.slow
def test_other_rules_and_layers_are_those_of_one_device(runs: Runs, other: str):
    """The trust ratio is a norm of a parameter that lies in parts, and Muon has products of such."""
    ours, one = runs[f"{QUICK[0]}; {other}"], runs[f"one device; {other}"]
    for what in ("batches", "draws", "initial"):
        assert ours[what] == one[what]
    losses = np.array(one["losses"])
    assert len(losses) == 100
    assert np.ptp(losses) > 0.1
    assert float(np.abs(np.array(ours["losses"]) - losses).max()) < LOSS


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.slow
def test_an_evaluation_counts_what_one_device_counts(runs: Runs, name: str):
    ours, one = dict(runs[name]["evaluated"]), dict(runs["one device"]["evaluated"])
    assert 0 < one["test_correct"] < one["test_count"] == 21
    assert abs(ours.pop("test_loss") - one.pop("test_loss")) < LOSS
    assert ours == one
    assert runs[name]["confusion"] == runs["one device"]["confusion"]


@pytest.mark.parametrize(
    ("name", "most"),
    quick([("replicated", 1.0), ("fsdp", 0.2), ("fsdp and tensor 2", 0.2)], [("fsdp and tensor 2", 0.2)]),
)
@pytest.mark.slow
def test_a_device_holds_its_part_of_the_state_alone(runs: Runs, name: str, most: float):
    """Of what the run holds, and of what XLA says that the step is given: the state, and the 40 images."""
    whole = runs["one device"]
    (held,), (all_of_it,) = set(runs[name]["state_bytes"]), set(whole["state_bytes"])
    assert held <= most * all_of_it
    images = 40 * 8 * 12 * 3
    assert held < runs[name]["argument_bytes"] < held + images + 1000
    assert all_of_it < whole["argument_bytes"] < all_of_it + images + 1000


def shapes(config: ViTConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Flax path -> shape, of a model that is never made."""
    model = nnx.eval_shape(lambda key: ViT(config, rngs=nnx.Rngs(key)), jax.random.key(0))
    return {path: jax.ShapeDtypeStruct(x.shape, x.dtype) for path, x in split_model(model)[1].items()}


def placement(data: int, model: int, **of: Any) -> Placement:
    """On devices that needn't be there."""
    mesh: Any = AbstractMesh((data, model), ("data", "model"), (AxisType.Auto, AxisType.Auto))
    return Placement(mesh, **of)


def specs(placed: Placement, config: ViTConfig = WIDE) -> dict[str, P]:
    """Hub name -> axes, of the parameters that don't lie whole everywhere."""
    found = {hub_name(path): at.spec for path, at in placed.parameters(shapes(config)).items()}
    return {name: spec for name, spec in found.items() if any(spec)}


def test_data_parallel_parameters_are_whole_on_every_device():
    assert specs(placement(8, 1, small=0)) == {}


def test_tensor_parallel_columns_and_rows_are_megatrons():
    assert specs(placement(1, 2)) == {
        "blocks.0.attn.qkv.weight": P(None, "model"),
        "blocks.0.attn.q_bias": P("model"),
        "blocks.0.attn.v_bias": P("model"),
        "blocks.0.attn.proj.weight": P("model", None),
        "blocks.0.mlp.fc1.weight": P(None, "model"),
        "blocks.0.mlp.fc1.bias": P("model"),
        "blocks.0.mlp.fc2.weight": P("model", None),
        "attn_pool.q.weight": P(None, "model"),
        "attn_pool.q.bias": P("model"),
        "attn_pool.k.weight": P(None, "model"),
        "attn_pool.k.bias": P("model"),
        "attn_pool.v.weight": P(None, "model"),
        "attn_pool.v.bias": P("model"),
        "attn_pool.proj.weight": P("model", None),
        "attn_pool.mlp.fc1.weight": P(None, "model"),
        "attn_pool.mlp.fc1.bias": P("model"),
        "attn_pool.mlp.fc2.weight": P("model", None),
    }


def test_fsdp_splits_kernels_and_positions_along_their_longest_axis_that_divides():
    assert specs(placement(16, 1, fsdp=True, small=0)) == {
        "pos_embed": P(None, None, "data"),
        "patch_embed.proj.weight": P(None, None, None, "data"),
        "blocks.0.attn.qkv.weight": P(None, "data"),  # 64 x 192
        "blocks.0.attn.proj.weight": P("data", None),  # 64 x 64
        "blocks.0.mlp.fc1.weight": P(None, "data"),  # 64 x 192
        "blocks.0.mlp.fc2.weight": P("data", None),  # 96 x 64
        "attn_pool.q.weight": P("data", None),
        "attn_pool.k.weight": P("data", None),
        "attn_pool.v.weight": P("data", None),
        "attn_pool.proj.weight": P("data", None),
        "attn_pool.mlp.fc1.weight": P(None, "data"),
        "attn_pool.mlp.fc2.weight": P("data", None),
        "head.weight": P("data", None),  # 64 x 10: 16 doesn't divide 10
    }


def test_both_take_an_axis_each():
    found = specs(placement(4, 2, fsdp=True))
    assert found["blocks.0.attn.qkv.weight"] == P("data", "model")
    assert found["blocks.0.attn.proj.weight"] == P("model", "data")
    assert found["blocks.0.attn.q_bias"] == P("model")
    assert "head.weight" not in found  # small


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "vit_giant_patch14_dinov2"])
@pytest.mark.slow
def test_fsdp_leaves_a_device_hardly_more_than_its_share_of_a_real_model(name: str):
    params = shapes(PRESETS[name].config)
    placed = placement(8, 1, fsdp=True).parameters(params)
    held = sum(np.prod(placed[path].shard_shape(x.shape)) for path, x in params.items())
    assert held < 1.02 / 8 * sum(x.size for x in params.values())


@pytest.mark.parametrize("rule", [optax.adamw(1e-3), optax.lamb(1e-3), optax.sgd(1e-3, 0.9)])
def test_moments_and_averages_lie_where_their_parameters_do(rule: optax.GradientTransformation):
    params = shapes(WIDE)
    state = State(jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(rule.init, params), params)  # pyright: ignore[reportArgumentType]
    placed = placement(4, 2, fsdp=True)
    found, where = placed.state(state), placed.parameters(params)
    assert found.params == found.ema == where
    moments = [at for at in jax.tree.leaves(found.opt_state, is_leaf=lambda x: isinstance(x, dict)) if at != where]
    assert all(at.spec == P() for at in moments)  # what is left are counts
    assert len(moments) < len(jax.tree.leaves(found.opt_state))


def test_muons_momenta_lie_where_their_parameters_do():
    params, placed = shapes(WIDE), placement(4, 2, fsdp=True)
    opt_state = jax.eval_shape(muon(OptimizerConfig(name="muon"), 1.0).init, params)
    found = placed.state(State(jax.ShapeDtypeStruct((), jnp.int32), params, opt_state, None)).opt_state  # pyright: ignore[reportArgumentType]
    where = placed.parameters(params)
    seen = set()
    for keys, at in jax.tree.leaves_with_path(found):
        path = next((key.key for key in keys if isinstance(key, DictKey) and key.key in where), None)
        assert at == where[path] if path else at.spec == P()
        seen.add(path)
    assert seen == {None, *params}


def test_adafactors_factors_are_whole_and_its_whole_moments_follow():
    params = shapes(WIDE)
    rule = optax.scale_by_factored_rms(min_dim_size_to_factor=64)
    state = State(jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(rule.init, params), None)  # pyright: ignore[reportArgumentType]
    found: Any = placement(4, 2, fsdp=True).state(state).opt_state
    assert found.v_row["blocks.0.attn.qkv.kernel"].spec == P()
    assert found.v["blocks.0.attn.qkv.kernel"].spec == P()  # factored: nothing is there
    assert found.v["blocks.0.mlp.fc1.bias"].spec == P("model")  # not factored


def with_(**of: Any) -> TrainConfig:
    return replace(CONFIG, **of)


@pytest.mark.parametrize(
    ("config", "devices", "said"),
    [
        (with_(devices=DevicesConfig(tensor=3)), 8, "devices.tensor is 3, but the 8 devices that there are"),
        (with_(devices=DevicesConfig(tensor=8)), 8, "devices.tensor is 8, but model.num_heads 4 can't be shared by it"),
        (
            with_(model=MODEL.replace(mlp_dim=66), devices=DevicesConfig(tensor=4)),
            8,
            "devices.tensor is 4, but model.mlp_dim 66 can't be shared by it",
        ),
        (with_(batch_size=20), 8, "batch_size 20 can't be shared by 8 devices: use --batch-size 16"),
        (
            with_(batch_size=20, devices=DevicesConfig(tensor=2)),
            16,
            "batch_size 20 can't be shared by 16 devices / devices.tensor 2 = 8 parts: use --batch-size 16",
        ),
        (
            with_(batch_size=24, optimizer=OptimizerConfig(accumulate=2)),
            8,
            "batch_size 24 can't be shared by 8 devices in each of optimizer.accumulate 2 parts: use --batch-size 32",
        ),
    ],
)
def test_what_cannot_be_shared_is_said_with_every_number(config: TrainConfig, devices: int, said: str):
    with pytest.raises(ConfigError) as error:
        check_mesh(config, devices)
    assert said in str(error.value)


def test_what_can_be_shared_is_not_refused():
    check_mesh(with_(devices=DevicesConfig(tensor=4)), 8)


def test_the_command_says_so_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["digits", "--workdir", str(tmp_path / "run"), "--devices.tensor", "3"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "devices.tensor is 3, but the 1 devices that there are" in error
    assert "model.num_heads 4" in error
    assert not (tmp_path / "run").exists()
