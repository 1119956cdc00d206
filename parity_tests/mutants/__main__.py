"""python -m parity_tests.mutants: measures the suite's promises again, on copies of the code with mistakes."""

import os
import sys
import warnings

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # see parity_tests/conftest.py

# What every process needs, loaded once and forked; it is what is tested that must not be loaded here.
import einops
import flax.nnx
import grain
import hypothesis
import jax
import ml_dtypes
import numpy
import optax
import orbax.checkpoint
import PIL.Image
import pytest
import safetensors.numpy
import torch

from parity_tests.mutants.command import main

LIBRARIES = (einops, flax, grain, hypothesis, jax, ml_dtypes, numpy, optax, orbax, PIL, pytest, safetensors, torch)
TESTED = ("vit_convert", "vit_torch", "vit_flax", "train")

if __name__ == "__main__":
    early = [name for name in TESTED if name in sys.modules]
    if early:
        raise RuntimeError(f"loaded before any mistake was planted: {', '.join(early)}")
    warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
    torch.set_num_threads(1)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
