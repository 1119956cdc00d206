"""ONNX, by torch.onnx through torch.export; int8 by onnxruntime's dynamic quantization, bfloat16 for what is stored."""

import json
import tempfile
import warnings
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_convert.errors import CheckpointError
from vit_tools.export.base import Asked, Kind, Run
from vit_tools.export.metadata import NAME
from vit_tools.export.torch_model import torch_model

INPUT, OUTPUT = "images", "logits"
PRODUCTS = ("MatMul", "Gemm", "Conv")  # operators of two factors


def write(asked: Asked, path: Path, said: dict[str, Any]) -> None:
    """images (batch, C, H, W) float32, preprocessed -> logits (batch, K) float32. H and W are open if that is asked."""
    import onnx
    import torch

    change = FROM_FLOAT32.get(asked.dtype)
    model, example, axes = torch_model(replace(asked, dtype="float32") if change else asked)
    names: dict[str, Any] = dict(input_names=[INPUT], output_names=[OUTPUT])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter calls what torch deprecates
        program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=(axes,), verbose=False, **names)
    assert program is not None
    found = program.model_proto
    if change:
        found = change(found)
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


def in_bfloat16(model: Any) -> Any:
    """The weights of matrix products are stored in bfloat16 and cast to float32, which everything is computed in: what
    ONNX Runtime's CPU can run, for it has no product of bfloat16. Changes `model`.

    Raises:
        CheckpointError: most weights are in float32 still.
    """
    import ml_dtypes
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    takers = [node for node in graph.node if node.op_type in PRODUCTS]
    taken = {name for node in takers for name in node.input[:2]}  # a third is a bias
    for weight in graph.initializer:
        if weight.name not in taken or weight.data_type != TensorProto.FLOAT:
            continue
        stored, name = f"{weight.name}.bfloat16", weight.name
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(ml_dtypes.bfloat16), stored))
        graph.node.insert(0, helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    onnx.checker.check_model(model)
    check_stored(model)
    return model


def check_stored(model: Any) -> None:
    """A weight that reaches its product through a transpose, as an exporter may leave it, is none that `in_bfloat16`
    finds; the program would be right, and as large as before.

    Raises:
        CheckpointError: more than half of the numbers are float32.
    """
    from onnx import TensorProto

    kept, stored = (
        sum(prod(weight.dims) for weight in model.graph.initializer if weight.data_type == kind)
        for kind in (TensorProto.FLOAT, TensorProto.BFLOAT16)
    )
    if kept > stored:
        raise CheckpointError(
            f"--dtype bfloat16: {kept:,} numbers of the weights stayed float32, {stored:,} became bfloat16: this "
            "torch.onnx writes products in a way that isn't known; write float16, or use the torch of constraints.txt"
        )


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


FROM_FLOAT32 = {"int8": quantized, "bfloat16": in_bfloat16}

ONNX = Kind(
    suffix=".onnx",
    what="ONNX",
    dtypes=("float32", "float16", "bfloat16", "int8"),
    needs=("torch", "onnx", "onnxscript", "onnxruntime"),
    extra="export",
    from_float32=tuple(FROM_FLOAT32),
    any_size=True,
    largest=2 * 10**9,
    limit="protobuf's limit",
    write=write,
    load=load,
    read_metadata=read_metadata,
)
