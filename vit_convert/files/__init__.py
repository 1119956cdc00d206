"""Tensor files: read lazily, written as a stream. Never executes a pickle."""

from vit_convert.files.directory import INDEX, WEIGHTS
from vit_convert.files.find import find_weights, open_tensors
from vit_convert.files.flax_msgpack import write_msgpack
from vit_convert.files.hub_source import local_path
from vit_convert.files.npz import write_npz
from vit_convert.files.safetensors import DTYPES, write_safetensors
from vit_convert.files.tensors import Spec, Tensors, read_json
from vit_convert.files.write import write_tensors

__all__ = [
    "DTYPES",
    "INDEX",
    "WEIGHTS",
    "Spec",
    "Tensors",
    "find_weights",
    "local_path",
    "open_tensors",
    "read_json",
    "write_msgpack",
    "write_npz",
    "write_safetensors",
    "write_tensors",
]
