"""Every layout: its table is a bijection, and what is saved in it comes back bit for bit, with its config."""

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from parity_tests import held, held_timm
from parity_tests.families import open_clip, originals, torchvision, transformers_4
from parity_tests.families import transformers as peers
from parity_tests.layout_files import HF, assert_equal_bits, save, temporary_folders_in
from parity_tests.strategies import DTYPES, configs, preprocesses, random_tensors
from vit_convert.checkpoint import layout_shapes, open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.files import open_tensors
from vit_convert.hub import hub_shapes
from vit_convert.layouts import LAYOUTS
from vit_convert.preprocess import Preprocess
from vit_convert.rules import flip, right_shapes
from vit_convert.table import made, moves_of

# Configs that each layout can hold.
HELD: dict[str, st.SearchStrategy[ViTConfig]] = {
    "native": configs(),
    "flax": configs(),
}
HELD |= {**held_timm.HELD, **originals.HELD, **torchvision.HELD, **peers.HELD}
HELD |= {**open_clip.HELD, **transformers_4.HELD, **held.HELD}
# The one rule by which a library resizes positions, whatever a config says.
RESIZE = {"timm:vit": "bicubic_antialias", "timm:eva": "bicubic_antialias", **peers.RESIZE, **transformers_4.RESIZE}
RESIZE |= dict.fromkeys(open_clip.HELD, "bicubic_antialias")
layouts = pytest.mark.parametrize("layout", sorted(LAYOUTS))


@pytest.fixture(autouse=True, scope="module")
def _temporary_folders_go_away(tmp_path_factory):
    with temporary_folders_in(tmp_path_factory.mktemp("layouts")):
        yield


def test_every_layout_is_tested():
    assert set(HELD) == set(LAYOUTS)


@layouts
@settings(max_examples=10)
@given(data=st.data())
def test_a_table_is_a_bijection_between_its_names_and_the_hub_s(layout, data):
    config = data.draw(HELD[layout])
    table = LAYOUTS[layout]
    table.check(config)
    spares = {name: array.shape for name, array in made(table, config).items()}
    hub, moves = hub_shapes(config) | spares, moves_of(table, config, spares=spares)
    left, right = [n for m in moves for n in m.left.names], [n for m in moves for n in m.right.names]
    assert sorted(right) == sorted(hub)
    assert len(set(left)) == len(left)
    there = right_shapes(flip(moves), hub)
    assert right_shapes(moves, there) == hub
    assert sum(map(np.prod, there.values())) == sum(map(np.prod, hub.values()))


@layouts
@settings(max_examples=4)
@given(data=st.data())
def test_a_checkpoint_comes_back_bit_for_bit_with_its_config(layout, data):
    config, dtype = data.draw(HELD[layout]), data.draw(st.sampled_from(DTYPES))
    tensors = random_tensors(config, dtype=dtype)
    preprocess = data.draw(st.none() | preprocesses(config.in_channels, crop=config.image_hw))
    labels = tuple(f"name {i}" for i in range(config.num_classes)) or None
    path = save(config, tensors, layout=layout, labels=labels, preprocess=preprocess)
    found = open_checkpoint(path)
    assert found.config == config.replace(pos_resize=RESIZE.get(layout, config.pos_resize))
    assert found.layout == layout
    assert found.labels == labels
    assert found.preprocess == preprocess or layout.startswith(("timm:", "transformers", "open_clip:"))
    assert set(found.dtypes.values()) == {dtype}
    assert_equal_bits(found.tensors(), tensors)
    file = open_tensors(path / LAYOUTS[layout].weights_file)
    assert file.shapes == layout_shapes(LAYOUTS[layout], config)
    assert_equal_bits(found.tensors(layout), dict(file.stream(file.specs)))


@layouts
@settings(max_examples=3)
@given(data=st.data())
def test_what_a_layout_writes_it_may_replace(layout, data):
    config = data.draw(HELD[layout])
    crop = {"resize": config.image_hw, "crop": config.image_hw, "mode": "squash"}
    preprocess = Preprocess(**crop, mean=(0.5,) * config.in_channels, std=(0.5,) * config.in_channels)
    path = save(config, random_tensors(config), layout=layout, preprocess=preprocess)
    save_checkpoint(path, config, random_tensors(config).items(), layout=layout, preprocess=preprocess, overwrite=True)


@settings(max_examples=15)
@given(config=configs(), order=st.randoms(use_true_random=False))
def test_flax_tensors_are_saved_as_native_in_any_order(config, order):
    tensors = random_tensors(config)
    flax = list(open_checkpoint(save(config, tensors)).tensors("flax"))
    order.shuffle(flax)
    path = save(config, dict(flax), tensors_layout="flax")
    assert_equal_bits(open_checkpoint(path).tensors(), tensors)


@settings(max_examples=30)
@given(config=configs())
def test_flax_arrays_are_numpy_s_own_transposes(config):
    tensors = random_tensors(config)
    expected = {}
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        if module == "patch_embed.proj" and leaf == "weight":
            expected["patch_embed.proj.kernel"] = array.transpose(2, 3, 1, 0)
        elif leaf == "weight" and array.ndim == 2:
            expected[f"{module}.kernel"] = array.T
        else:
            expected[f"{module}.scale" if leaf == "weight" else name] = array
    flax = open_checkpoint(save(config, tensors)).tensors("flax")
    assert_equal_bits(flax, {name: np.ascontiguousarray(array) for name, array in expected.items()})


def test_transformers_names_hold_the_rows_of_qkv():
    tensors = random_tensors(HF)
    theirs = safetensors.numpy.load_file(save(HF, tensors, layout="transformers") / "model.safetensors")
    for i in range(HF.depth):
        for leaf in ("weight", "bias"):
            rows = np.split(tensors[f"blocks.{i}.attn.qkv.{leaf}"], 3)
            for part, row in zip(("query", "key", "value"), rows, strict=True):
                assert np.array_equal(theirs[f"vit.encoder.layer.{i}.attention.attention.{part}.{leaf}"], row)


def test_a_rule_for_resizing_no_table_is_no_difference():
    for pos_embed in ("none", "sincos2d"):
        config = HF.replace(pos_embed=pos_embed)
        assert config == config.replace(pos_resize="bilinear")
    assert HF.replace(pos_resize="bilinear") != HF
