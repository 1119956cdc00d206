"""hf-hub:owner/name: from the cache when offline, downloaded otherwise, one kind of weights; clear when it can't be."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

import vit_flax
import vit_torch
from parity_tests.strategies import random_tensors
from parity_tests.test_files import assert_same, specs_of
from vit_convert.__main__ import main
from vit_convert.checkpoint import open_checkpoint, save_checkpoint
from vit_convert.config import ViTConfig
from vit_convert.errors import CheckpointError
from vit_convert.files import find_weights, local_path, open_tensors, write_safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "owner/vit-name_1.5"
SOURCE = f"hf-hub:{NAME}"
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def put(cache: Path, revision: str = "main") -> Path:
    """A snapshot as huggingface_hub lays it out: links to blobs, and a reference to the commit."""
    folder = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for made in (folder / "blobs", snapshot, folder / "refs"):
        made.mkdir(parents=True)
    write_safetensors(folder / "blobs" / "b0", specs_of(TENSORS), TENSORS.items())
    (folder / "blobs" / "b1").write_text("{}")
    (snapshot / "model.safetensors").symlink_to(folder / "blobs" / "b0")
    (snapshot / "config.json").symlink_to(folder / "blobs" / "b1")
    (folder / "refs" / revision).write_text(COMMIT)
    return snapshot


def test_a_cached_model_opens_offline(cache):
    snapshot = put(cache)
    assert local_path(SOURCE) == snapshot
    found = open_tensors(SOURCE)
    assert (found.read("a") == TENSORS["a"]).all()
    assert found.path == snapshot / "model.safetensors"
    assert (found.path.parent / "config.json").is_file()
    assert find_weights(Path(SOURCE)) == found.path


@pytest.mark.parametrize("revision", ["v1.0", COMMIT])
def test_a_cached_revision_opens_offline(cache, revision):
    snapshot = put(cache, "v1.0")
    assert local_path(f"{SOURCE}@{revision}") == snapshot
    with pytest.raises(CheckpointError, match=f"{SOURCE}: is not in the cache"):
        local_path(SOURCE)


def test_a_cached_file_of_another_name_opens_offline(cache):
    snapshot = put(cache)
    (snapshot / "model.safetensors").rename(snapshot / "vit_b.safetensors")
    assert find_weights(SOURCE) == snapshot / "vit_b.safetensors"
    (snapshot / "vit_b.safetensors").unlink()
    with pytest.raises(CheckpointError, match="what is cached of it has no weights that are read, only config"):
        find_weights(SOURCE)


def test_what_is_not_cached_is_told_when_offline(cache):
    with pytest.raises(CheckpointError, match=f"{SOURCE}: is not in the cache, .* can't be reached; HF_HUB_OFFLINE is"):
        open_tensors(SOURCE)


def test_a_path_that_exists_wins(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "hf-hub:owner" / "name"
    folder.mkdir(parents=True)
    write_safetensors(folder / "model.safetensors", specs_of(TENSORS), TENSORS.items())
    assert find_weights("hf-hub:owner/name").resolve() == folder / "model.safetensors"


@pytest.mark.parametrize("source", ["hf-hub:name", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:", "hf-hub:../b c"])
def test_a_name_that_is_none_is_refused(cache, source):
    with pytest.raises(CheckpointError, match=f"{source}: expected hf-hub:owner/name or hf-hub:owner/name@revision"):
        open_tensors(source)


def test_a_missing_library_is_named(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"needs huggingface_hub: pip install 'vit-parity\[hub\]'"):
        open_tensors(SOURCE)


def test_a_bug_of_ours_is_not_said_to_be_the_hub_s(cache, monkeypatch):
    snapshot = put(cache)
    (snapshot / "model.safetensors").rename(snapshot / "vit_b.safetensors")
    monkeypatch.setattr("vit_convert.files.hub_source.weights_among", lambda names: int("a bug"))
    with pytest.raises(ValueError, match="a bug") as caught:
        find_weights(SOURCE)
    assert not isinstance(caught.value, CheckpointError)


@dataclass
class Hub:
    """A hub on this machine: the files of one repository, how it refuses, and what it was asked for."""

    files: dict[str, bytes]
    refusal: tuple[int, str] | None = None
    asked: list[str] = field(default_factory=list)
    revisions: tuple[str, ...] = ("main", COMMIT)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.refusal:
            return self.refusal[0], {"X-Error-Code": self.refusal[1]}, b""
        if found := re.fullmatch(rf"/api/models/{NAME}(?:/revision/([^/?]+))?(\?.*)?", path):
            if found[1] and found[1] not in self.revisions:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            siblings = [{"rfilename": name} for name in self.files]
            return 200, {}, json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode()
        if re.match(rf"/api/models/{NAME}/tree/({'|'.join((COMMIT, *self.revisions))})\b", path):
            entries = [{"type": "file", "path": n, "size": len(d), "oid": f"{n}-0"} for n, d in self.files.items()]
            return 200, {}, json.dumps(entries).encode()
        name = path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")
        if name not in self.files:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        return 200, {"ETag": f'"{name}-0"', "X-Repo-Commit": COMMIT}, self.files[name]


@pytest.fixture
def hub(cache, monkeypatch) -> Iterator[Hub]:
    hub = Hub({})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path)
            if self.command == "GET":  # before who asks can go on
                hub.asked.append(self.path.rpartition("/")[2])
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    disable_progress_bars()
    yield hub
    enable_progress_bars()
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def content(tmp_path) -> bytes:
    write_safetensors(tmp_path / "made.safetensors", specs_of(TENSORS), TENSORS.items())
    return (tmp_path / "made.safetensors").read_bytes()


KINDS = {
    "safetensors": (["model.safetensors"], ["pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"]),
    "shards": (
        ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ["pytorch_model.bin"],
    ),
    "open_clip": (["open_clip_model.safetensors"], ["open_clip_pytorch_model.bin", "onnx/model.onnx"]),
    "torch": (["pytorch_model.bin"], ["flax_model.msgpack", "training_args.bin"]),
    "flax": (["flax_model.msgpack"], ["tf_model.h5"]),
    "any": (["dino_vit.pth"], ["README.md", "onnx/model.onnx"]),
    "npz": (["B_16.npz"], []),
}


@pytest.mark.parametrize(("wanted", "unwanted"), KINDS.values(), ids=KINDS)
def test_one_kind_of_weights_is_downloaded_with_the_configs(hub, wanted, unwanted):
    configs = ["config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json"]
    hub.files = {name: name.encode() for name in (*unwanted, *wanted, *configs, "tokenizer.json")}
    found = find_weights(SOURCE)
    assert found.name == wanted[0]
    assert sorted(path.name for path in found.parent.iterdir()) == sorted(wanted + configs)
    assert not set(hub.asked) & {*unwanted, "tokenizer.json"}


def test_how_images_are_prepared_is_read_from_the_hub_as_from_a_directory(hub, tmp_path):
    """A model with text too has its image processor in processor_config.json, which goes before the other file."""
    config = ViTConfig(
        image_size=8, patch_size=4, dim=16, depth=1, num_heads=2, mlp_dim=24, class_token=False, pool="map",
        act="gelu_tanh", pos_resize="bicubic",
    )  # fmt: skip
    folder = tmp_path / "local"
    save_checkpoint(folder, config, random_tensors(config).items(), layout="transformers:siglip_vision_model")
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 8, "width": 8}}
    other = processor | {"image_mean": [0.1, 0.2, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": other}))
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = open_checkpoint(SOURCE).preprocess
    assert found == open_checkpoint(folder).preprocess
    assert found is not None
    assert found.mean == (0.1, 0.2, 0.3)


def test_a_download_opens_again_offline_and_is_not_fetched_twice(hub, tmp_path, monkeypatch):
    hub.files = {"model.safetensors": content(tmp_path), "config.json": b"{}"}
    assert (open_tensors(SOURCE).read("a") == TENSORS["a"]).all()
    assert hub.asked.count("model.safetensors") == 1
    assert (open_tensors(SOURCE).read("a") == TENSORS["a"]).all()
    assert hub.asked.count("model.safetensors") == 1
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (open_tensors(SOURCE).read("a") == TENSORS["a"]).all()


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "is gated: accept its terms"),
        ((404, "RepoNotFound"), "no such repository; if it is private"),
        ((401, "RepoNotFound"), "no such repository; if it is private"),
        ((500, "Down"), "can't be reached$"),
    ],
)
def test_a_hub_that_refuses_is_one_clear_error(hub, refusal, message):
    hub.refusal = refusal
    with pytest.raises(CheckpointError, match=f"^{SOURCE}: .*{message}"):
        open_tensors(SOURCE)


def test_a_revision_that_is_not_there_is_one_clear_error(hub):
    with pytest.raises(CheckpointError, match="the repository has no revision 'v9'"):
        open_tensors(f"{SOURCE}@v9")


def test_a_repository_without_one_file_of_weights_is_one_clear_error(hub):
    hub.files = {"config.json": b"{}", "adapter.gguf": b""}
    with pytest.raises(CheckpointError, match=r"the repository has no weights that are read, only .*gguf"):
        open_tensors(SOURCE)
    hub.files |= {"a.pth": b"", "b.pth": b""}
    hub.revisions = ("v2",)
    with pytest.raises(CheckpointError, match=r"has several: download one, and pass its path: a\.pth, b\.pth$"):
        open_tensors(f"{SOURCE}@v2")
    assert not {"a.pth", "b.pth"} & set(hub.asked)


def test_both_models_and_the_command_open_a_cached_model_offline(cache, tmp_path, monkeypatch, capsys):
    snapshot = put(cache)
    for link in list(snapshot.iterdir()):
        link.unlink()
    config = ViTConfig(image_size=8, patch_size=4, dim=16, depth=1, num_heads=4, mlp_dim=24, num_classes=2)
    tensors = random_tensors(config)
    save_checkpoint(tmp_path / "first", config, tensors.items(), layout="timm", labels=("cat", "dog"))
    for file in (tmp_path / "first").iterdir():
        file.rename(snapshot / file.name)
    for model in (vit_torch.ViT, vit_flax.ViT):
        loaded = model.from_pretrained(SOURCE)
        assert (loaded.config, loaded.labels) == (config, ("cat", "dog"))
    monkeypatch.chdir(tmp_path)
    assert main([SOURCE, "out", "--to", "native"]) == 0
    assert f"{SOURCE} (timm:vit) -> out (native)" in capsys.readouterr().out
    assert_same({name: open_tensors("out").read(name) for name in tensors}, tensors)
