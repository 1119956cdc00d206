"""The kinds of files that vit-export writes, by suffix."""

from vit_tools.export.base import Kind
from vit_tools.export.onnx import ONNX
from vit_tools.export.pt2 import PT2
from vit_tools.export.stablehlo import STABLEHLO

KINDS: dict[str, Kind] = {kind.suffix: kind for kind in (ONNX, STABLEHLO, PT2)}
