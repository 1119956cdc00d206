"""Weights & Biases itself, offline, where it is installed: its file holds every row, of a run that goes on too."""

import json
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from train.__main__ import main
from train.progress import Report

pytestmark = pytest.mark.slow
TINY = "--model.dim 16 --model.mlp-dim 32 --model.depth 2 --model.num-heads 2 --batch-size 100 --steps 6 --log.steps 2"
BLOCK, HEADER, LAST_PARTS = 32768, 7, {1, 4}  # of LevelDB's log format, in which W&B writes its records


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")


def records(file: Path) -> Iterator[Any]:
    """What W&B wrote, each as its protocol buffer."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]: may not be installed

    data, at, parts = file.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in LAST_PARTS:
            yield Record.FromString(parts)
            parts = b""


def kept(workdir: Path) -> tuple[set[str], list[dict[str, Any]], list[int]]:
    """The runs' identities, the rows in the order of time, and the codes with which the processes ended."""
    found = [r for file in sorted(workdir.glob("wandb/offline-*/*.wandb")) for r in records(file)]
    rows = [
        {item.nested_key[0] if item.nested_key else item.key: json.loads(item.value_json) for item in r.history.item}
        for r in found
        if r.WhichOneof("record_type") == "history"
    ]
    identities = {r.run.run_id for r in found if r.WhichOneof("record_type") == "run"}
    return identities, rows, [r.exit.exit_code for r in found if r.WhichOneof("record_type") == "exit"]


def test_a_run_that_stops_and_goes_on_is_one_run_of_wandb_with_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command = ["digits", "--workdir", str(tmp_path / "run"), "--log.wandb", "vits", *TINY.split()]
    once = iter([signal.SIGTERM])
    with monkeypatch.context() as patch:
        patch.setattr(Report, "row", lambda *_: [os.kill(os.getpid(), number) for number in once])
        with pytest.raises(SystemExit):
            main(command)
    main(command)
    (identity,), rows, codes = kept(tmp_path / "run")
    assert identity == json.loads((tmp_path / "run" / "config.json").read_text())["run_id"]
    assert codes == [1, 0]  # it was ended, and came to its end
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(written) >= 4
    for row in written:
        assert any(row.items() <= given.items() for given in rows), row
