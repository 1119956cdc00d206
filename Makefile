# Needs nothing on the machine but make and Python 3.11 or newer; everything else goes into .venv.

PYTHON ?= python3
PIP_ARGS ?=
ACCELERATOR ?= cpu
PYTEST_ARGS ?= -n auto --dist worksteal

BIN := .venv/bin
PIP := $(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifeq ($(ACCELERATOR),cpu)
export JAX_PLATFORMS ?= cpu
else ifeq ($(ACCELERATOR),cuda13)
JAX_EXTRA := ,cuda13
JAX_BACKEND := gpu
else ifeq ($(ACCELERATOR),tpu)
JAX_EXTRA := ,tpu
JAX_BACKEND := tpu
else
$(error ACCELERATOR is '$(ACCELERATOR)'; it has to be cpu, cuda13 or tpu, as in: make train ACCELERATOR=cuda13)
endif

# An installation is complete when its stamp exists; new requirements make it stale.
TRAIN_READY := .venv/.train-$(ACCELERATOR)
DEV_READY := .venv/.dev-$(ACCELERATOR)

# The modules that have pages of their own: what a user's code imports, and both models file by file.
MODEL := vit patch_embed pos_embed rope block attention mlp norm layer_scale pool init
API := vit_convert $(addprefix vit_convert.,config checkpoint errors intermediates preprocess labels) \
	vit_torch vit_torch.training $(addprefix vit_torch.,$(MODEL)) vit_flax $(addprefix vit_flax.,$(MODEL)) \
	train $(addprefix train.,config recipes step) vit_tools

.PHONY: help setup train test test-all test-published check bench api dist accelerator
.DEFAULT_GOAL := help

help:
	@echo "make setup     make .venv and install everything"
	@echo "make train     train a ViT on handwritten digits in Flax, load it in PyTorch, compare the answers"
	@echo "make test      the tests that take seconds"
	@echo "make test-all  every test that needs no network"
	@echo "make test-published  download published weights and compare their own classes with ours"
	@echo "make check     lint, formatting and types"
	@echo "make bench     one train step, timed beside its peers"
	@echo "make api       the API pages, from the docstrings, into build/api"
	@echo "make dist      the wheel, used in an empty environment; docs/releasing.md has the rest"
	@echo
	@echo "Each makes .venv first when it is missing. Variables:"
	@echo "  ACCELERATOR=cpu|cuda13|tpu  the JAX to install and run on ($(ACCELERATOR))"
	@echo "  PYTHON=...                  the Python to make .venv with, 3.11 or newer ($(PYTHON))"
	@echo "  PIP_ARGS=...                passed on to every pip install ($(PIP_ARGS))"
	@echo "  PYTEST_ARGS=...             passed on to pytest ($(PYTEST_ARGS))"

setup: $(DEV_READY)
	@echo "Ready: .venv has everything. Next: make train, make test"

train: $(TRAIN_READY) accelerator
	@echo "Training a ViT on handwritten digits in Flax (into runs/digits)"
	$(BIN)/vit-train digits --workdir runs/digits --overwrite
	@echo "Loading it in PyTorch and comparing every answer"
	$(BIN)/python -m parity_tests.same_answers runs/digits

test: $(DEV_READY) accelerator
	$(BIN)/python -m pytest -q -m "not slow and not published" $(PYTEST_ARGS)

test-all: $(DEV_READY) accelerator
	XLA_FLAGS="$$XLA_FLAGS" $(BIN)/python -m pytest -q -m "not published" --examples=24 $(PYTEST_ARGS)

test-published: $(DEV_READY) accelerator
	HF_HUB_OFFLINE=0 $(BIN)/python -m pytest -q -m published --verbose -rs parity_tests/test_published.py
	$(BIN)/python -m parity_tests.families_table

check: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(DEV_READY) accelerator
	$(BIN)/python -m benchmarks.train_step

api: $(DEV_READY)
	$(BIN)/pdoc --docformat google --no-show-source -o build/api $(API)
	@echo "Ready: build/api/index.html"

dist: $(DEV_READY)
	rm -rf dist
	$(BIN)/python -m build
	PYTHON=$(abspath $(BIN)/python) PIP_ARGS="$(PIP_ARGS)" .ci/check_wheel dist/*.whl constraints.txt

# JAX falls back to the CPU with a warning at most: asked for an accelerator, it has to find one.
accelerator: | $(TRAIN_READY)
ifdef JAX_BACKEND
	@found=$$($(BIN)/python -c 'import jax; print(jax.default_backend())') && [ "$$found" = $(JAX_BACKEND) ] || { \
		echo "ACCELERATOR=$(ACCELERATOR), but JAX finds no $(JAX_BACKEND) here, only: $${found:-nothing};" \
			"look at the driver, or run on the CPU with ACCELERATOR=cpu" >&2; exit 1; }
endif

# bin/pip is the last thing that venv makes: an attempt that failed half way is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		found=$$($(PYTHON) -c 'import sys; print(sys.version.split()[0])' 2>/dev/null || echo missing); \
		echo "vit-parity needs Python 3.11 or newer, but PYTHON=$(PYTHON) is $$found;" \
			"name another one, as in: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	$(PYTHON) -m venv .venv

# Just what `make train` needs: a newcomer waits for no peers and no linters.
$(TRAIN_READY): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing PyTorch, JAX for $(ACCELERATOR) and the trainer into .venv (minutes, once)"
	$(PIP) --editable '.[torch,train$(JAX_EXTRA)]'
	@touch $@

# torchvision alone and first: the wheel is linked against one CUDA build of torch, and its requirements
# would let pip exchange a CPU torch for that one, gigabytes larger. timm and open_clip only import its Python parts.
$(DEV_READY): $(TRAIN_READY)
	@echo "Installing the peers (timm, transformers, torchvision, open_clip) and the test tools into .venv"
	$(PIP) --no-deps torchvision
	$(PIP) --editable '.[torch,train,parity,export,dev$(JAX_EXTRA)]'
	@touch $@
