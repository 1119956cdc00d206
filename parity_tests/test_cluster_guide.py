"""The commands of docs/hosts.md run as they stand, on two processes: srun, gcloud and Kubernetes are stand-ins.

A stand-in checks what it is told, and starts two tasks with the variables that srun gives, whatever number is asked
for. vit-train is the real one; the guide's paths are moved below the test's folder, and its recipe is cut small.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from parity_tests.datasets import jpegs, write_folder
from parity_tests.test_hosts import free_port, slurm_port
from vit_flax import ViT

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "hosts.md").read_text(encoding="utf-8")
SMALL = (
    "--model.image-size 16 --model.patch-size 8 --model.dim 16 --model.mlp-dim 16 --model.depth 1 --model.num-heads 2"
)
CUT = f"{SMALL} --model.num-classes 2 --dtype float32 --attention fused --batch-size 4 --steps 2"

TRAIN = r"""#!/bin/bash
given=("${@//\/mnt\//\/}")
given=("${given[@]/#\/shared/$ROOM}")
given=("${given[@]/#\/data/$ROOM}")
given=("${given[@]/%:9999/:$PORT}")
[ "$1" = digits ] && more="--steps 2" || more="$CUT --data.name folder:$PHOTOS"
exec "$PYTHON" -m train "${given[@]}" $more
"""
TWO = """two() {  # the command as two tasks of one job; the exit code of the worse
    export SLURM_JOB_ID=$JOB SLURM_STEP_NODELIST=127.0.0.1 SLURM_NTASKS=2 SLURM_LOCALID=0
    SLURM_PROCID=1 "$@" & other=$!
    SLURM_PROCID=0 "$@"; code=$?
    wait $other && return $code
}
"""
SRUN = f"""#!/bin/bash
{TWO}
while [ "$1" != vit-train ]; do
    case "$1" in
        --nodes|--ntasks-per-node|--gpus-per-node|--cpus-per-task) [ "$2" -gt 0 ] && shift 2 ;;
        *) echo "srun: no option $1"; exit 2 ;;
    esac
done
two "$@"
"""
GCLOUD = f"""#!/bin/bash
{TWO}
[ "${{*:1:8}}" = "compute tpus tpu-vm ssh NAME --zone ZONE --worker=all" ] && [ "$9" = --command ] || exit 2
two bash -c "${{10}}"
"""
POD = f'#!/bin/bash\n{TWO}\ntwo "$@"\n'


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has the launchers, the shared storage and the images."""
    for split in ("train", "validation"):
        write_folder(tmp_path / "photos" / split, jpegs(8))
    places = dict(ROOM=tmp_path, PHOTOS=tmp_path / "photos", PYTHON=sys.executable, PORT=free_port(), JOB=slurm_port())
    (tmp_path / "bin").mkdir()
    for name, text in {"vit-train": TRAIN, "srun": SRUN, "gcloud": GCLOUD, "pod": POD}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    told = {"PATH": path, "PYTHONPATH": str(ROOT), "JAX_ENABLE_X64": "0", "CUT": CUT}
    return {**os.environ, **told, **{name: str(value) for name, value in places.items()}}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def trained(script: str, machine: dict[str, str], workdir: str) -> None:
    """Runs it; there is one run, of two steps, and its checkpoint opens."""
    done = subprocess.run(
        ["bash", "-c", f"{script}\nwait"], cwd=machine["ROOM"], env=machine, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = Path(machine["ROOM"], workdir)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2
    assert done.stdout.count("held-out accuracy") == 1  # the first process speaks alone
    ViT.from_pretrained(folder / "checkpoint")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "workdir"),
    [
        ("vit-train deit_s", "runs/deit_s"),
        ("srun", "runs/deit_s"),
        ("gcloud", "runs/deit_b"),
        ("vit-train digits", "runs/two"),
    ],
)
def test_the_commands_of_the_guide_start_its_run(machine: dict[str, str], start: str, workdir: str):
    (script,) = [block for block in blocks("sh") if block.startswith(start)]
    trained(script, machine, workdir)


@pytest.mark.slow
def test_the_containers_command_starts_its_run(machine: dict[str, str]):
    (job,) = map(yaml.safe_load, blocks("yaml"))
    assert (job["apiVersion"], job["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    pods = job["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert pods["completionMode"] == "Indexed"  # which gives each pod its number
    assert pods["parallelism"] == pods["completions"]
    (container,) = pods["template"]["spec"]["containers"]
    trained(" ".join(["pod", *container["command"]]), machine, "runs/deit_b")


def test_every_command_of_the_guide_is_run_by_a_test():
    starts = ("vit-train deit_s", "srun", "gcloud", "vit-train digits")
    assert [next(s for s in starts if block.startswith(s)) for block in blocks("sh")] == list(starts)
    assert len(blocks("yaml")) == 1
