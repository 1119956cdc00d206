"""vit-convert inspect SRC: what a checkpoint is, and how each value is known."""

import json
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from vit_convert.commands.arguments import add_source, make_parser, open_source

if TYPE_CHECKING:
    from vit_convert.checkpoint import Checkpoint


def run(arguments: Sequence[str]) -> int:
    """inspect SRC"""
    parser = make_parser("vit-convert inspect SRC [options]", "Says what a checkpoint is, and how each value is known.")
    add_source(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    found = open_source(args)
    facts = _facts(found)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    print(f"{'layout':<19} {facts['layout']}: {facts['family']}")
    print(f"{'parameters':<19} {facts['parameters']:,}")
    print(f"{'dtype':<19} {facts['dtype']}")
    for name, entry in facts["config"].items():
        print(f"{name:<19} {_text(entry['value']):<17} {entry['source']}")
    for name in ("preprocess", "labels"):
        print(f"{name:<19} {_text(facts[name])}")
    print(f"{'not finite':<19} {_not_finite(facts['not_finite'])}")
    return 0


def _facts(found: "Checkpoint") -> dict[str, Any]:
    from vit_convert.hub import num_parameters
    from vit_convert.layouts import LAYOUTS

    values = found.config.to_dict()
    return {
        "layout": found.layout,
        "family": LAYOUTS[found.layout].summary,
        "parameters": num_parameters(found.config),
        "dtype": ", ".join(sorted({str(dtype) for dtype in found.dtypes.values()})),
        "config": {name: {"value": values[name], "source": found.sources[name]} for name in values},
        "preprocess": found.preprocess.to_dict() if found.preprocess else None,
        "labels": list(found.labels) if found.labels else None,
        "not_finite": _count_not_finite(found),
        "notes": list(found.said),
    }


def _count_not_finite(found: "Checkpoint") -> dict[str, int]:
    """Hub name -> how many of its values are NaN or infinite, where there are any. Reads the whole file."""
    import numpy as np

    from vit_convert.hub import hub_shapes
    from vit_convert.progress import shown
    from vit_convert.steps import is_floating

    total = sum(prod(shape) * found.dtypes[name].itemsize for name, shape in hub_shapes(found.config).items())
    counts = {}
    for name, array in shown(found.tensors(), total, "inspecting"):
        if is_floating(array.dtype) and (count := array.size - int(np.count_nonzero(np.isfinite(array)))):
            counts[name] = count
    return counts


def _not_finite(counts: dict[str, int]) -> str:
    from vit_convert.errors import some

    if not counts:
        return "none"
    names = some([f"{name} ({n})" for name, n in counts.items()], ", ")
    return f"{sum(counts.values()):,} values, NaN or infinite: {names}"


def _text(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in value.items())
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)}: {', '.join(map(str, value[:3]))}, ..."
    if isinstance(value, tuple | list):
        return ("x" if all(isinstance(n, int) for n in value) else " ").join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
