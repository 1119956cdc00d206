"""A run that goes on keeps the rows of metrics.jsonl up to its step, in both loops, and says which line is none."""

import json
from functools import partial
from pathlib import Path

import pytest

from train.config import ConfigError
from train.journal import keep_rows
from vit_torch.training.loop.errors import Refused
from vit_torch.training.loop.journal import keep_rows as keep_rows_in_torch

LOOPS = pytest.mark.parametrize(
    ("keep", "refusal"),
    [
        pytest.param(partial(keep_rows, unevaluated=False), ConfigError, id="flax"),
        pytest.param(keep_rows_in_torch, Refused, id="torch"),
    ],
)
ROWS = "".join(json.dumps({"step": step, "loss": 1.5}) + "\n" for step in (1, 5, 10, 15))


@LOOPS
@pytest.mark.parametrize("cut", ["", '{"step": 16, "lo', '{"step": 10, "loss": 2}', "\0\0\0", "\xff"])
def test_later_rows_and_half_a_row_at_the_end_go(keep: partial, refusal: type[Exception], cut: str, tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(ROWS.encode() + cut.encode("latin-1"))
    keep(path, 10)
    assert path.read_text() == "".join(ROWS.splitlines(keepends=True)[:3])


@LOOPS
@pytest.mark.parametrize(
    "damage", ['{"step": 5, "lo', "", "null", "[1]", '{"loss": 1}', '{"step": "5"}', "\0\0", "\xff"]
)
def test_a_line_that_is_no_row_is_named_and_nothing_is_lost(
    keep: partial, refusal: type[Exception], damage: str, tmp_path: Path
):
    path, lines = tmp_path / "metrics.jsonl", ROWS.encode().splitlines()
    lines[1] = damage.encode("latin-1")
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    with pytest.raises(refusal, match=r"metrics.jsonl, line 2: expected a JSON object with a step, got .*; mend"):
        keep(path, 10)
    assert path.read_bytes() == before
