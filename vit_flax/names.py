"""Paths of Flax parameters as dotted names. mirror: torch's named_parameters() does this there."""

from flax import nnx

from vit_convert.layouts.native import hub_name


def parameters_by_path(model: nnx.Module) -> dict[str, nnx.Param]:
    """Flax name -> parameter: `blocks.0.attn.qkv.kernel`, as in a file of the flax layout."""
    return {".".join(map(str, path)): p for path, p in nnx.to_flat_state(nnx.state(model, nnx.Param))}


def parameters_by_name(model: nnx.Module) -> dict[str, nnx.Param]:
    """Hub name -> parameter (in Flax's own shape): `blocks.0.attn.qkv.weight`."""
    return {hub_name(path): p for path, p in parameters_by_path(model).items()}
