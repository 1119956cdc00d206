"""Set up before anything imports JAX: float64 is where parity is decided."""

import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import cast

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for what tests start, too: pools that outnumber the cores fight
if not any(word.startswith("--checkpoint") for word in sys.argv):  # one of one's own may be on the hub
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
# LLVM's passes don't change what a program computes, and take a third of the suite's time: thousands of programs are
# compiled to run once. `make test-all` has them.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import pytest
import torch
from hypothesis import settings

from parity_tests.peers import import_torchvision
from parity_tests.record import Recorder

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; what the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # tests run side by side; two thread pools on two cores fight
settings.register_profile("parity", deadline=None, print_blob=True)
settings.load_profile("parity")
import_torchvision()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--examples", type=int, default=2, help="configurations drawn for each property of the models")
    parser.addoption("--margins", metavar="DIR", help="write there how near each test came to its tolerance")
    own = parser.getgroup("a checkpoint of one's own")
    own.addoption("--checkpoint", metavar="SRC", help="run the tests of test_checkpoint.py on it, and no others")
    own.addoption("--preset", metavar="NAME", help="its model's name, as vit-convert has it")
    own.addoption("--set", action="append", default=[], metavar="FIELD=VALUE", help="one config field, likewise")
    own.addoption("--weights", metavar="NAME", help="which of several in one file, likewise")


def pytest_configure(config: pytest.Config) -> None:
    if not (given := config.getoption("--margins")):
        return
    folder = Path(given)
    if not hasattr(config, "workerinput") and any(folder.glob("*.jsonl")):  # a worker isn't the first to look
        raise pytest.UsageError(f"--margins {folder} holds the figures of another run: name another folder")
    config.pluginmanager.register(Recorder(folder))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """test_checkpoint.py needs a checkpoint; with one, it is what was asked for."""
    if not fnmatch(collection_path.name, "test_*.py"):
        return None
    return (collection_path.name == "test_checkpoint.py") != bool(config.getoption("checkpoint")) or None


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> int:
    return cast(int, request.config.getoption("--examples"))
