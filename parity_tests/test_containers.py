"""Training files: the weights that are meant are found among what else is there, said aloud, nothing executed."""

import argparse
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from vit_convert.errors import CheckpointError
from vit_convert.files import Spec, open_tensors, write_safetensors

GOLDEN = Path(__file__).parent / "golden"


def state(value):
    return OrderedDict({"a": torch.full((2, 3), float(value)), "b.c": torch.full((4,), float(value))})


def opened(tmp_path, content, weights=None, zipped=True):
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    return open_tensors(tmp_path / "model.pth", weights)


def value(file):
    assert set(file.specs) == {"a", "b.c"}
    values = {float(v) for name in file.specs for v in file.read(name).flat}
    assert len(values) == 1
    return values.pop()


@pytest.mark.parametrize(
    ("averaged", "plain"),
    [
        ("model_ema", "model"),
        ("state_dict_ema", "state_dict"),
        ("ema", "model"),
        ("teacher", "student"),
        ("target_encoder", "encoder"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_averaged_weights_are_preferred_and_the_others_can_be_asked_for(tmp_path, averaged, plain, zipped):
    content = {plain: state(1), averaged: state(2)}
    found = opened(tmp_path, content, zipped=zipped)
    assert value(found) == 2
    assert found.said == (f"holds {plain} and {averaged}: {averaged} is taken; --weights {plain} takes the other",)
    assert value(opened(tmp_path, content, plain)) == 1
    assert value(opened(tmp_path, content, averaged)) == 2


@pytest.mark.parametrize("name", ["model", "state_dict", "student", "teacher", "module", "encoder", "ema"])
def test_the_only_weights_of_a_container_are_taken(tmp_path, name):
    found = opened(tmp_path, {name: state(1)})
    assert value(found) == 1
    assert found.said == ()


def test_what_timm_s_training_saves_is_read_and_its_averaged_weights_are_preferred(tmp_path):
    from timm.utils.checkpoint_saver import CheckpointSaver
    from timm.utils.model_ema import ModelEmaV3

    model, averaged = Small(1), ModelEmaV3(Small(2))
    optimizer, args = torch.optim.SGD(model.parameters(), lr=0.1), argparse.Namespace(model="small")
    saver = CheckpointSaver(model, optimizer, args, averaged, checkpoint_dir=tmp_path, recovery_dir=tmp_path)
    saver.save_checkpoint(0, metric=1.0)
    for name in ("last.pth.tar", "model_best.pth.tar"):
        assert value(open_tensors(tmp_path / name)) == 2
        assert value(open_tensors(tmp_path / name, "state_dict")) == 1
    with pytest.raises(
        CheckpointError, match=r"which of these\? Pass one of them: .*last\.pth\.tar, model_best\.pth\.tar"
    ):
        open_tensors(tmp_path)


def test_averaged_weights_that_a_run_did_not_keep_are_not_preferred(tmp_path):
    for empty in (None, {}):
        assert value(opened(tmp_path, {"model": state(1), "model_ema": empty})) == 1


def test_what_lies_beside_the_weights_is_named(tmp_path):
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters()).state_dict()
    found = opened(tmp_path, {"model": state(1), "optimizer": optimizer, "args": argparse.Namespace(lr=1), "epoch": 3})
    assert value(found) == 1
    assert found.said == ("left out of the file: optimizer, args, epoch",)


def test_what_trainers_keep_beside_their_weights_is_read_without_its_code(tmp_path, monkeypatch):
    """Arguments, NumPy scalars and arrays, paths, dicts with defaults: none of their constructors is called."""
    made = []
    monkeypatch.setattr(argparse.Namespace, "__setattr__", lambda self, name, v: made.append(name))
    space = argparse.Namespace()
    vars(space).update(lr=1e-3, path=Path("runs"))
    meters = defaultdict(list, loss=[np.float64(3)])
    beside = {"args": space, "best": np.float32(0.5), "rng": np.arange(5), "meters": meters, "dtype": np.dtype("f4")}
    for zipped in (True, False):
        found = opened(tmp_path, {"model": state(1), **beside}, zipped=zipped)
        assert value(found) == 1
        assert found.said == (f"left out of the file: {', '.join(beside)}",)
    assert made == []


def test_weights_that_are_not_there_are_refused_with_those_that_are(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no weights 'teacher'; --weights takes model, center$"):
        opened(tmp_path, {"model": state(1), "center": state(2), "epoch": 3}, "teacher")
    with pytest.raises(CheckpointError, match=r"holds one set of weights and no 'teacher': leave --weights out"):
        opened(tmp_path, state(1), "teacher")
    write_safetensors(tmp_path / "a.safetensors", {"a": Spec((), np.dtype("f4"))}, [("a", np.zeros((), "f4"))])
    with pytest.raises(CheckpointError, match=r"holds one set of weights and no 'teacher': leave --weights out"):
        open_tensors(tmp_path / "a.safetensors", "teacher")


def test_names_that_are_no_text_are_said_and_never_offered(tmp_path):
    content = {"model": state(1), 7: state(2), (1, "x"): 3}
    found = opened(tmp_path, content)
    assert value(found) == 1
    assert found.said == ("left out of the file: 7, (1, 'x')",)
    with pytest.raises(CheckpointError, match=r"holds no weights 'teacher'; --weights takes model$"):
        opened(tmp_path, content, "teacher")
    with pytest.raises(CheckpointError, match=r"got 7: OrderedDict, 8: int, 7: a name .*, 8: a name that is no text$"):
        opened(tmp_path, {7: state(2), 8: 3})


def test_a_container_with_names_of_its_own_is_asked_about(tmp_path):
    content = {"backbone": state(1), "head": state(2), "epoch": 3}
    with pytest.raises(CheckpointError, match=r"'epoch': int; --weights takes backbone, head$"):
        opened(tmp_path, content)
    assert value(opened(tmp_path, content, "backbone")) == 1


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ({"model": state(1) | {"epoch": 3, "args": argparse.Namespace()}}, "'epoch': int, 'args': Namespace$"),
        ({"a": torch.zeros(1), "epoch": 3, "best": None}, "'epoch': int, 'best': NoneType$"),
        ({"model": {"backbone": state(1)}}, "'model': dict$"),
        ({3: torch.zeros(1)}, "3: a name that is no text$"),
        ([torch.zeros(1)], "list$"),
        (torch.zeros(1), "Tensor$"),
    ],
)
def test_weights_that_are_no_tensors_are_refused_and_all_are_named(tmp_path, content, held):
    with pytest.raises(CheckpointError, match=rf"expected a dict of tensors, name -> tensor, got .*{held}"):
        opened(tmp_path, content)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_around_every_name_are_taken_off(tmp_path, wrapper):
    wrapped = {wrapper + name: tensor for name, tensor in state(1).items()}
    found = opened(tmp_path, {"model": wrapped})
    assert value(found) == 1
    assert found.said == (f"'{wrapper}' is taken off every name",)
    arrays = {name: tensor.numpy() for name, tensor in wrapped.items()}
    specs = {name: Spec(array.shape, array.dtype) for name, array in arrays.items()}
    write_safetensors(tmp_path / "a.safetensors", specs, arrays.items())
    assert value(open_tensors(tmp_path / "a.safetensors")) == 1


class Small(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.a = torch.nn.Parameter(torch.full((2, 3), float(value)))
        self.b = torch.nn.ParameterDict({"c": torch.full((4,), float(value))})


@pytest.mark.parametrize("before", ["", "_orig_mod."])  # which compiling it puts before every name
@pytest.mark.parametrize("wrap", [lambda model: model, torch.nn.DataParallel], ids=["bare", "parallel"])
def test_the_weights_of_an_averaged_model_are_read_without_their_count(tmp_path, before, wrap):
    averaged = torch.optim.swa_utils.AveragedModel(wrap(Small(2)))
    averaged.update_parameters(wrap(Small(2)))
    names = {before + name: tensor for name, tensor in averaged.state_dict().items()}
    around = "".join(name.removesuffix("a") for name in names if name.endswith(".a"))
    for content in (names, {"model": state(1), "ema": names}):
        found = opened(tmp_path, content)
        assert value(found) == 2
        assert found.said[-2:] == (
            f"left out {before}n_averaged: how many weights were averaged",
            f"'{around}' is taken off every name",
        )


def test_n_averaged_of_any_other_file_stays(tmp_path):
    count = torch.zeros((), dtype=torch.long)
    assert "n_averaged" in opened(tmp_path, state(1) | {"n_averaged": count}).specs
    wrapped = {f"module.{name}": tensor for name, tensor in state(1).items()}
    assert "n_averaged" in opened(tmp_path, wrapped | {"n_averaged": torch.zeros(3)}).specs
    assert "n_averaged" in opened(tmp_path, {"n_averaged": count}).specs


def test_a_prefix_that_not_every_name_has_stays(tmp_path):
    found = opened(tmp_path, {"module.a": torch.zeros(1), "b": torch.zeros(1)})
    assert set(found.specs) == {"module.a", "b"}
    assert set(opened(tmp_path, {"module.": torch.zeros(1)}).specs) == {"module."}


@pytest.mark.filterwarnings("ignore:torch.quantize")  # deprecated, but in files
@pytest.mark.filterwarnings("ignore:.*prototype", "ignore:Sparse")  # torch's, of nested tensors and of CSR
@pytest.mark.parametrize("odd", ["sparse", "compressed", "nested", "without numbers", "quantised", "complex"])
def test_tensors_that_are_not_plain_are_refused_by_name(tmp_path, odd):
    tensor = torch.eye(3)
    made = {
        "sparse": tensor.to_sparse,
        "compressed": tensor.to_sparse_csr,
        "nested": lambda: torch.nested.nested_tensor([tensor, tensor]),
        "without numbers": lambda: tensor.to("meta"),
        "quantised": lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "complex": lambda: tensor.to(torch.complex64),
    }
    with pytest.raises(CheckpointError, match=r"model\.pth: b is a .* which is not read"):
        opened(tmp_path, {"model": state(1) | {"b": made[odd]()}})


def test_a_tensor_that_is_a_view_of_others_numbers_is_read_as_what_it_shows(tmp_path):
    numbers, one = torch.arange(6, dtype=torch.float32).reshape(2, 3), torch.ones(1)
    negated = torch.complex(one, one).conj().imag  # a view of 1 that shows -1
    views = {"turned": numbers.T, "repeated": numbers[:1].expand(4, 3), "negated": negated}
    views["one of several"] = numbers[1:, 1:2].T[0]
    found = opened(tmp_path, views)
    for name, view in views.items():
        assert torch.equal(torch.from_numpy(found.read(name)), view)


def test_a_tensor_that_no_memory_holds_is_named(tmp_path):
    found = opened(tmp_path, {"a": torch.zeros(1).expand(2**46)})
    with pytest.raises(MemoryError, match=r"model\.pth: a can't be read \(.* bytes"):
        found.read("a")


def test_a_container_stays_on_disk_until_it_is_read(tmp_path):
    found = opened(tmp_path, {"model": {"a": torch.ones(1000)}})
    path = tmp_path / "model.pth"
    content = path.read_bytes()
    with open(path, "r+b") as file:  # the mapping shows what is now on disk: nothing was copied when it was opened
        file.seek(content.index(np.ones(1000, np.float32).tobytes()))
        file.write(np.full(1000, 7, np.float32).tobytes())
    assert (found.read("a") == 7).all()


@pytest.mark.parametrize(
    ("name", "weights", "others"),
    [("deit/training", "model_ema", "model"), ("dino/training", "teacher", "student")],
)
def test_files_that_the_families_own_trainers_wrote_are_read(name, weights, others):
    path = GOLDEN / f"{name}.pth"
    preferred, asked, other = (open_tensors(path, choice) for choice in (None, weights, others))
    assert preferred.said[0] == f"holds {others} and {weights}: {weights} is taken; --weights {others} takes the other"
    assert preferred.shapes == asked.shapes
    assert all(preferred.read(n).tobytes() == asked.read(n).tobytes() for n in asked.specs)
    assert any(asked.read(n).tobytes() != other.read(n).tobytes() for n in set(asked.specs) & set(other.specs))
