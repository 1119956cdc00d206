"""vit-convert inspect says what a checkpoint is, and where each field comes from; vit-convert formats, the layouts."""

import json

import numpy as np
import pytest

from parity_tests.converting import CONFIG, TENSORS, run, save_native
from vit_convert import __main__ as cli
from vit_convert.checkpoint import save_checkpoint
from vit_convert.layouts import LAYOUTS, LIBRARIES


@pytest.fixture
def native(tmp_path):
    return save_native(tmp_path)


def test_inspect_says_every_field_and_where_it_came_from(native, capsys):
    assert run("inspect", native, "--set", "act=gelu_tanh", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["layout"], facts["dtype"]) == ("native", "float32")
    assert facts["parameters"] == sum(array.size for array in TENSORS.values())
    assert {name: entry["value"] for name, entry in facts["config"].items()} == json.loads(
        json.dumps(CONFIG.replace(act="gelu_tanh").to_dict())
    )
    assert facts["config"]["act"]["source"] == "given"
    assert facts["config"]["norm_eps"] == {"value": 1e-6, "source": "config.json"}
    assert facts["labels"] == ["cat", "dog", "owl"]
    assert facts["preprocess"]["resize"] == [6, 9]
    assert run("inspect", native) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "image_size          6x9               config.json" in lines
    assert lines[-1] == "not finite          none"
    assert len(lines) == 3 + len(facts["config"]) + 3


def test_formats_lists_the_layouts(capsys):
    assert run("formats") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [*sorted(LAYOUTS), *LIBRARIES]
    said = dict.fromkeys(LAYOUTS, "")
    name = ""
    for line in lines[: lines.index(next(iter(LIBRARIES)))]:
        name, said[name] = (line, "") if line in LAYOUTS else (name, said[name] + line.strip() + " ")
    assert said["native"].endswith("holds every model ")
    assert "always class_token, " in said["transformers:dinov2"]
    assert "never dist_token, num_registers, " in said["transformers:dinov2"]
    assert "mlp mlp|swiglu, qkv_bias all|none, pool class|class_mean" in said["transformers:dinov2"]


def test_inspect_counts_what_is_not_finite(tmp_path, capsys):
    spoilt = {name: array.copy() for name, array in TENSORS.items()}
    spoilt["norm.bias"][:2] = np.nan
    spoilt["head.weight"][0, 0] = np.inf
    save_checkpoint(tmp_path / "spoilt", CONFIG, spoilt.items())
    assert run("inspect", tmp_path / "spoilt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["not_finite"] == {"norm.bias": 2, "head.weight": 1}
    assert run("inspect", tmp_path / "spoilt") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "not finite          3 values, NaN or infinite: norm.bias (2), head.weight (1)"


def test_the_command_words_are_reserved(capsys, monkeypatch, native):
    assert cli.RESERVED == ("inspect", "formats")
    for word in cli.RESERVED:
        with pytest.raises(SystemExit) as stop:
            run(word, "--help")
        assert stop.value.code == 0
        assert f"vit-convert {word}" in capsys.readouterr().out.splitlines()[0]
    native.rename(native.parent / "inspect")
    native.mkdir()
    monkeypatch.chdir(native.parent)
    with pytest.raises(SystemExit) as stop:
        run("inspect", "out", "--to", "flax")
    assert stop.value.code == 2
    assert "unrecognized arguments: --to flax" in capsys.readouterr().err
    assert run("./inspect", "out", "--to", "flax") == 0


def test_inspect_tells_what_is_on_disk_from_what_a_library_has_in_its_code(native, tmp_path, capsys):
    def sources(path):
        assert run("inspect", path, "--json") == 0
        return {name: entry["source"] for name, entry in json.loads(capsys.readouterr().out)["config"].items()}

    for layout in ("timm", "transformers"):
        assert run(native, tmp_path / layout, "--to", layout) == 0
    capsys.readouterr()
    found = sources(tmp_path / "timm")
    assert found["norm_eps"] == found["pos_resize"] == "timm's code for vit_base_patch16_224"
    assert found["dim"] == found["image_size"] == found["num_classes"] == found["final_norm"] == "config.json"
    found = sources(tmp_path / "transformers")
    assert found["norm_eps"] == found["act"] == "config.json"
    assert found["pos_resize"] == found["norm"] == "transformers' code"
    path = tmp_path / "transformers" / "config.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({n: v for n, v in entries.items() if n not in ("num_channels", "hidden_act")}))
    found = sources(tmp_path / "transformers")
    assert found["in_channels"] == found["act"] == "transformers' default"
    entries = json.loads((native / "config.json").read_text())
    del entries["config"]["act"]
    (native / "config.json").write_text(json.dumps(entries))
    assert sources(native)["act"] == "default"
