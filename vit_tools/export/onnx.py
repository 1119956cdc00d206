"""ONNX, by torch.onnx through torch.export; int8 by onnxruntime's dynamic quantization."""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_tools.export.base import Asked, Kind, Run
from vit_tools.export.metadata import NAME
from vit_tools.export.torch_model import torch_model

INPUT, OUTPUT = "images", "logits"


def write(asked: Asked, path: Path, said: dict[str, Any]) -> None:
    """images (batch, C, H, W) float32, preprocessed -> logits (batch, K) float32. H and W are open if that is asked."""
    import onnx
    import torch

    model, example, axes = torch_model(asked)
    names: dict[str, Any] = dict(input_names=[INPUT], output_names=[OUTPUT])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter calls what torch deprecates
        program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=(axes,), verbose=False, **names)
    assert program is not None
    found = program.model_proto
    if asked.dtype == "int8":
        found = quantized(found)
    entry = found.metadata_props.add()
    entry.key, entry.value = NAME, json.dumps(said)
    onnx.save_model(found, str(path))


def quantized(model: Any) -> Any:
    """The weights of matrix products in int8, a scale a column; their inputs are quantized as they come (dynamic)."""

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save_model(model, str(before))
        quantize_dynamic(
            before, after, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
        )
        return onnx.load_model(str(after))


def load(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        return np.asarray(session.run([OUTPUT], {INPUT: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0])

    return run


def read_metadata(path: Path) -> dict[str, Any]:
    import onnx

    props = {entry.key: entry.value for entry in onnx.load_model(str(path), load_external_data=False).metadata_props}
    return json.loads(props[NAME])


ONNX = Kind(
    suffix=".onnx",
    what="ONNX",
    dtypes=("float32", "float16", "int8"),
    needs=("torch", "onnx", "onnxscript", "onnxruntime"),
    extra="export",
    any_size=True,
    largest=2 * 10**9,
    limit="protobuf's limit",
    without="onnxruntime's CPU, which it is checked on, computes in no bfloat16",
    write=write,
    load=load,
    read_metadata=read_metadata,
)
