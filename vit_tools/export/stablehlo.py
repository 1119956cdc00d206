"""StableHLO by jax.export, for one or several platforms.

The file is what jax.export.deserialize reads, and a ZIP archive with the metadata behind it: a ZIP's directory stands
at its end, and the flatbuffer's root at its beginning, so each reader finds its own.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vit_tools.export.base import RUN_ON, Asked, Kind, Run
from vit_tools.export.metadata import NAME


def write(asked: Asked, path: Path, said: dict[str, Any]) -> None:
    """images (batch, H, W, C) float32, preprocessed -> logits (batch, K) float32."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from jax import export

    from vit_flax import ViT

    height, width = asked.size
    kind = jnp.dtype(asked.dtype)
    model = ViT.from_pretrained(asked.path, **asked.how, param_dtype=kind, dynamic_size=asked.resized)
    graph, state = nnx.split(model)

    def apply(images: Any) -> Any:
        with jax.default_matmul_precision("highest"):  # the same function: accelerators round to less by default
            return nnx.merge(graph, state)(images.astype(kind)).astype(jnp.float32)

    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, height, width, asked.channels), jnp.float32)
    exported = export.export(jax.jit(apply), platforms=asked.platforms)(images)
    path.write_bytes(exported.serialize() + archive(said))


def archive(said: dict[str, Any]) -> bytes:
    """A ZIP archive that holds the metadata."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr(NAME, json.dumps(said))
    return file.getvalue()


def load(path: Path) -> Run:
    import jax
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))
    where = jax.local_devices(backend=RUN_ON)[0]  # the one platform that every file is for

    def run(images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        with jax.default_device(where):
            return np.asarray(exported.call(images))

    return run


def read_metadata(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as zipped:
        return json.loads(zipped.read(NAME))


STABLEHLO = Kind(
    suffix=".stablehlo",
    what="StableHLO",
    dtypes=("float32", "bfloat16", "float16"),
    needs=("jax", "flax"),
    extra="flax",
    lowers=True,
    largest=2 * 10**9,  # of 2**31 bytes; the program needs some too
    limit="flatbuffers' limit, for the weights are constants of the program",
    write=write,
    load=load,
    read_metadata=read_metadata,
)
