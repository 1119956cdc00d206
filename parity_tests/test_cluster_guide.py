"""The commands of docs/hosts.md run as they stand, on two processes: srun, gcloud and Kubernetes are stand-ins.

A stand-in checks what it is told, and starts two tasks with the variables that srun gives, whatever number is asked
for. vit-train is the real one; the guide's paths are moved below the test's folder, and its recipe is cut small.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
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
        --nodes|--ntasks-per-node|--gpus-per-node|--cpus-per-task)
            [ "$2" -gt 0 ] || {{ echo "srun: $1 $2 is none" >&2; exit 2; }}
            shift 2 ;;
        *) echo "srun: no option $1" >&2; exit 2 ;;
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


def ran(script: str, machine: dict[str, str], seconds: float = 900) -> subprocess.CompletedProcess[str]:
    """Runs each of its commands to the end, those in the background too: the first that fails gives the exit code.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was ended with all that it had started.
    """
    noted = re.sub(r" &$", " & started+=($!)", script, flags=re.MULTILINE)  # a bare `wait` forgets what they came to
    lines = ["set -e", noted, 'for each in "${started[@]}"; do wait "$each"; done']
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        ["bash", "-c", "\n".join(lines)], cwd=machine["ROOM"], env=machine, stdout=pipe, stderr=pipe, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=seconds)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(script, process.returncode, out, err)


def trained(script: str, machine: dict[str, str], workdir: str) -> None:
    """Runs it; there is one run, of two steps, and its checkpoint opens."""
    done = ran(script, machine)
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


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("(exit 3) &\nsleep 0.2", 3),
        ("(sleep 0.2; exit 3) &\ntrue", 3),
        ("(exit 3) &\nsleep 0.2 &\ntrue", 3),
        ("(exit 4)\ntrue", 4),
        ("sleep 0.2 &\ntrue", 0),
    ],
)
def test_a_command_that_fails_is_seen_wherever_it_stands(machine: dict[str, str], script: str, code: int):
    assert ran(script, machine).returncode == code


def test_a_command_that_never_ends_is_ended(machine: dict[str, str]):
    """With what it has in the background, which holds its output open."""
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        ran("sleep 600 &\nsleep 600", machine, seconds=0.5)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("given", ["--nodes 0", "--nodes -1", "--nodes two", "--nodes", "--tasks 2"])
def test_the_stand_in_of_srun_refuses_what_srun_does(machine: dict[str, str], given: str):
    done = ran(f"srun {given} vit-train digits", machine, seconds=60)
    assert done.returncode == 2
    assert "srun: " in done.stderr


def test_every_command_of_the_guide_is_run_by_a_test():
    starts = ("vit-train deit_s", "srun", "gcloud", "vit-train digits")
    assert [next(s for s in starts if block.startswith(s)) for block in blocks("sh")] == list(starts)
    assert len(blocks("yaml")) == 1
