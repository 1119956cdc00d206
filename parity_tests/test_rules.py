"""The engine: a rule is a bijection of names and arrays, read in both directions, strictly, as a stream."""

import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_convert.contiguous import contiguous
from vit_convert.errors import CheckpointError
from vit_convert.rules import Rule, active, check, convert, flip, infer, plan, right_dtypes, right_shapes

RNG = np.random.default_rng(0)
SPLIT_QKV = Rule("layer.{block}.{part}.weight", "blocks.{block}.qkv.weight", "part o i -> (part o) i")
PARTS = ("query", "key", "value")


def run(steps, tensors):
    shapes = {name: array.shape for name, array in tensors.items()}
    return dict(convert(steps, tensors.items(), shapes))


def there_and_back(steps, tensors):
    there = run(steps, tensors)
    back = run(flip(steps), there)
    assert back.keys() == tensors.keys()
    for name, array in tensors.items():
        assert back[name].tobytes() == array.tobytes(), name
        assert back[name].dtype == array.dtype
    assert all(array.flags.c_contiguous for array in [*there.values(), *back.values()])
    assert right_shapes(steps, {n: a.shape for n, a in tensors.items()}) == {n: a.shape for n, a in there.items()}
    return there


def test_split_weights_are_packed_in_the_order_of_the_hole():
    parts = {f"layer.0.{part}.weight": RNG.standard_normal((4, 6)) for part in PARTS}
    packed = there_and_back(plan([SPLIT_QKV], {"block": range(1), "part": PARTS}), parts)["blocks.0.qkv.weight"]
    assert np.array_equal(packed, np.concatenate(list(parts.values())))


def test_a_transpose_is_numpys_transpose():
    kernel = RNG.standard_normal((300, 700)).astype(np.float32)
    steps = plan([Rule("proj.kernel", "proj.weight", "i o -> o i")], {})
    assert np.array_equal(there_and_back(steps, {"proj.kernel": kernel})["proj.weight"], kernel.T)


def test_blocks_stack_for_a_scan():
    rule = Rule("blocks.{block}.norm1.weight", "blocks.norm1.scale", "block d -> block d")
    norms = {f"blocks.{i}.norm1.weight": RNG.standard_normal(5) for i in range(12)}
    stacked = there_and_back(plan([rule], {"block": range(12)}), norms)
    assert np.array_equal(stacked["blocks.norm1.scale"], np.stack(list(norms.values())))


def test_a_name_may_have_several_one_sided_holes():
    rule = Rule("layer.{block}.{part}.weight", "qkv", "block part o i -> block i (part o)")
    parts = {f"layer.{i}.{part}.weight": RNG.standard_normal((4, 6)) for i in range(2) for part in PARTS}
    packed = there_and_back(plan([rule], {"block": range(2), "part": PARTS}), parts)["qkv"]
    assert np.array_equal(packed[1, :, 4:8], parts["layer.1.key.weight"].T)


def test_both_names_may_have_a_one_sided_hole():
    rule = Rule("{part}", "head.{head}", "part (head e) i -> head part e i")
    parts = {part: RNG.standard_normal((8, 6)) for part in PARTS}
    split = there_and_back(plan([rule], {"part": PARTS, "head": range(4)}), parts)
    assert np.array_equal(split["head.3"], np.stack([parts[part][6:8] for part in PARTS]))


def test_a_hole_may_be_spelled_differently_on_each_side():
    chunked = [("0.0", "0"), ("0.1", "1"), ("1.2", "2")]
    steps = plan([Rule("blocks.{block}.gamma", "blocks.{block}.ls1.gamma")], {"block": chunked})
    pairs = [(step.left.names, step.right.names) for step in steps]
    assert pairs[2] == (("blocks.1.2.gamma",), ("blocks.2.ls1.gamma",))
    there_and_back(steps, {step.left.names[0]: RNG.standard_normal(3) for step in steps})


def test_a_text_fills_a_hole_without_repeating_the_rule():
    steps = plan([Rule("{model}layernorm.weight", "norm.weight")], {"model": "vit."})
    assert [step.left.names for step in steps] == [("vit.layernorm.weight",)]


def test_axes_that_a_shape_does_not_tell_come_from_the_sizes():
    rule = Rule("kernel", "weight", "i heads e -> (heads e) i")
    kernel = RNG.standard_normal((7, 3, 5))
    assert np.array_equal(
        there_and_back(plan([rule], {}, {"heads": 3}), {"kernel": kernel})["weight"],
        kernel.transpose(1, 2, 0).reshape(15, 7),
    )
    with pytest.raises(ValueError, match="doesn't fit shape"):
        right_shapes(flip(plan([rule], {})), {"weight": (15, 7)})


def test_flipping_twice_gives_the_same_rule():
    assert SPLIT_QKV.flip().flip() == SPLIT_QKV
    assert SPLIT_QKV.flip().axes == "(part o) i -> part o i"


@pytest.mark.parametrize(("left", "right", "side"), [("a", "{x}", "left"), ("{x}", "a", "right")])
def test_a_table_that_names_a_tensor_twice_is_refused(left, right, side):
    rules = [Rule(left.format(x="b"), right.format(x="b")), Rule(left.format(x="c"), right.format(x="c"))]
    with pytest.raises(ValueError, match=f"twice on its {side} side: a"):
        plan(rules, {})


def test_axes_must_begin_with_the_one_sided_holes():
    with pytest.raises(ValueError, match=r"one-sided holes \['part'\]"):
        plan([Rule("{part}", "qkv", "o part -> (part o)")], {"part": PARTS})


def test_a_hole_that_nothing_fills_is_refused():
    with pytest.raises(ValueError, match=r"nothing fills the holes \['block'\]"):
        plan([Rule("{block}", "{block}")], {})


def test_a_model_that_the_table_has_no_place_for_is_refused():
    steps = plan([Rule("kv", "{kv}", "(kv o) -> kv o")], {"kv": ("k", "v")})
    with pytest.raises(CheckpointError, match=r"nowhere to put: q[\s\S]*only together with: v"):
        active(steps, {"q", "k"})


def test_one_error_lists_everything_missing_unexpected_and_misshapen():
    steps = plan([Rule(name, name) for name in "abcd"], {})
    shapes = dict.fromkeys("abcd", (2, 3))
    tensors = {"a": np.zeros((2, 3)), "c": np.zeros((3, 2)), "x": np.zeros(1), "y": np.zeros(1)}
    with pytest.raises(CheckpointError) as error:
        dict(convert(steps, tensors.items(), shapes))
    text = str(error.value)
    assert text.startswith("the tensors that came are not those that were to be converted\n")
    assert "2 missing:\n    b (2, 3)\n    d (2, 3)" in text
    assert "2 unexpected:\n    x (1,)\n    y (1,)" in text
    assert "1 misshapen:\n    c: expected (2, 3), got (3, 2)" in text


def test_of_many_only_the_first_are_named():
    with pytest.raises(CheckpointError) as caught:
        check({f"t{i}": (1,) for i in range(150)}, {f"u{i}": (1,) for i in range(10)}, "here")
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[1:13] == ["150 missing:", *(f"t{i} (1,)" for i in range(10)), "and 140 more"]
    assert lines[13:] == ["10 unexpected:", *(f"u{i} (1,)" for i in range(10))]


def test_misshapen_parts_of_one_array_are_listed_and_never_stacked():
    steps = plan([SPLIT_QKV], {"block": range(1), "part": PARTS})
    shapes = {f"layer.0.{part}.weight": (4, 6) for part in PARTS}
    stream = [(name, np.zeros((6, 4) if "key" in name else (4, 6))) for name in shapes]
    with pytest.raises(CheckpointError, match=r"1 misshapen:\n    layer.0.key.weight: expected \(4, 6\), got \(6, 4\)"):
        list(convert(steps, stream, shapes))


def test_a_tensor_that_comes_twice_is_refused():
    steps = plan([Rule("a", "b")], {})
    with pytest.raises(CheckpointError, match="a comes twice"):
        list(convert(steps, [("a", np.zeros(1)), ("a", np.zeros(1))], {"a": (1,)}))


def test_check_says_nothing_where_all_is_right():
    check({"a": (1,)}, {"a": (1,)}, "here")


def test_arrays_that_become_one_must_have_one_dtype():
    steps = plan([SPLIT_QKV], {"block": range(1), "part": PARTS})
    dtypes = {f"layer.0.{part}.weight": np.dtype("f4") for part in PARTS}
    assert right_dtypes(steps, dtypes) == {"blocks.0.qkv.weight": np.dtype("f4")}
    with pytest.raises(CheckpointError, match=r"layer\.0\.key\.weight float16"):
        right_dtypes(steps, dtypes | {"layer.0.key.weight": np.dtype("f2")})


def test_names_and_shapes_alone_tell_the_hub_s_names_and_shapes():
    found = {f"layer.{i}.{part}.weight": (4, 6) for i in (0, 1) for part in PARTS} | {"norm.weight": (6,), "odd": (1,)}
    hub, unplaced = infer([SPLIT_QKV, Rule("norm.weight", "norm.weight"), Rule("bias", "bias")], {"part": PARTS}, found)
    assert hub == {"blocks.0.qkv.weight": (12, 6), "blocks.1.qkv.weight": (12, 6), "norm.weight": (6,)}
    assert unplaced == ("odd",)


def test_only_a_step_s_own_arrays_wait():
    """Thirty blocks of 1 MiB through a split and a transpose: three arrays in, their stack and one out at a time."""
    steps = plan([Rule("{block}.{part}", "{block}", "part o i -> i (part o)")], {"block": range(30), "part": PARTS})
    names = [name for step in steps for name in step.left.names]
    array = np.ones((512, 512), np.float32)
    tracemalloc.start()
    for _ in convert(steps, ((name, array.copy()) for name in names), dict.fromkeys(names, array.shape)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * array.nbytes


def test_stacked_blocks_come_out_one_by_one():
    """Forty blocks of 1 MiB in one stacked array, split and transposed: one block at a time, not all of them."""
    rule = Rule("stacked.{part}", "blocks.{block}", "part block i heads d -> block (part heads d) i")
    (step,) = plan([rule], {"block": range(40), "part": PARTS}, {"heads": 4})
    stacked = {f"stacked.{part}": RNG.standard_normal((40, 512, 4, 128), np.float32) for part in PARTS}
    shapes = {name: array.shape for name, array in stacked.items()}
    tracemalloc.start()
    for name, array in convert([step], stacked.items(), shapes):
        block = int(name.partition(".")[2])
        assert np.array_equal(array[512:1024], stacked["stacked.key"][block].reshape(512, 512).T)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_a_hole_without_entries_leaves_its_rules_out():
    rules = [Rule("{packed}.fc1", "fc1"), Rule("mlp.{gate}", "fc1", "gate o i -> (gate o) i")]
    apart: dict[str, Any] = {"packed": (), "gate": ("w1", "w3")}
    packed: dict[str, Any] = {"packed": "mlp", "gate": ()}
    assert [step.left.names for step in plan(rules, apart)] == [("mlp.w1", "mlp.w3")]
    assert [step.left.names for step in plan(rules, packed)] == [("mlp.fc1",)]


DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.int8, np.uint8, np.bool_]


@settings(max_examples=40)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 5), min_size=0, max_size=4),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_contiguous_copies_are_equal_bit_for_bit(dtype, shape, large, random):
    shape = [*shape, 300, 400] if large else shape
    size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    raw = np.frombuffer(np.random.default_rng(1).bytes(size), np.uint8)
    array = (raw % 2 if dtype is np.bool_ else raw).view(dtype).reshape(shape)
    view = array.transpose(random.sample(range(array.ndim), array.ndim))
    copy = contiguous(view)
    assert copy.flags.c_contiguous
    assert copy.shape == view.shape
    assert copy.tobytes() == view.tobytes()


def test_what_is_contiguous_is_handed_through():
    array = np.zeros((3, 4))
    assert contiguous(array) is array
