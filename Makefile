# Everything below does its own set-up in a virtual environment; a fresh machine needs Python 3.11, 3.12 or 3.13
# with pip. PYTHON=python3.13 says which, each has an environment of its own; by default it is the first that is there.
ifndef PYTHON
PYTHON := $(or $(firstword $(foreach version,3.11 3.12 3.13,$(shell python$(version) -c "print('python$(version)')" 2>/dev/null))),python3.11)
endif
VENV ?= .venv-$(notdir $(PYTHON))
BIN := $(VENV)/bin
LIGHT := $(VENV)/.light
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
JOBS ?= 2

.PHONY: setup quickstart evidence test test-quick test-all test-slices bench lint dist clean
.DELETE_ON_ERROR:

setup: $(READY)

# What a run needs: the package's dependencies without seqio, whose TensorFlow is larger than all others together.
# Data are then read directly, to the same bytes.
$(LIGHT): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import tomllib; print(*(name for name in tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'] if not name.startswith(('seqio', 'tensorflow-'))), sep='\n')" > $(VENV)/requirements.txt
	$(PIP) --requirement $(VENV)/requirements.txt
	$(PIP) --no-deps --editable .
	touch $@

# All of it, for development, in the same environment.
$(READY): $(LIGHT)
	$(PIP) --editable '.[dev]'
	touch $@

quickstart: $(LIGHT)
	$(BIN)/humpback align --gin_file=experiments/quickstart.gin

# The paper's findings, one by one, on a small real model: hours on two cores, minutes on a GPU.
evidence: $(LIGHT)
	$(BIN)/humpback evaluate evidence --gin_file=sweeps/evidence_135m.gin --out=runs/evidence

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow"

# The tests that compile nothing large: a first look, not what a change has to pass.
test-quick: setup
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow" tests/corpus tests/data tests/prompts tests/quickstart tests/test_architecture.py tests/test_files.py tests/test_gin_utils.py tests/test_tokenizers.py

test-all: lint
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

# TPU slices without a TPU: device counts, tiny programs, and full-size ones against goldens; one compiler at a time.
test-slices: setup
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 0 tests/topology

# A wheel and a source archive in dist/, and the proof that the wheel is whole.
dist: setup
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m pytest tests/test_wheel.py

# BENCH_DATA holds web/pages.warc.gz and seed/seed_pairs.jsonl; the peer needs torch (the extra `parity`). LLAMA_CPP:
# llama.cpp's sources with build/bin/llama-server, the second peer of generation.
BENCH_DATA ?= ../shared/data
LLAMA_CPP ?=
bench: setup
	$(BIN)/python benchmarks/inference.py --warc $(BENCH_DATA)/web/pages.warc.gz --pairs $(BENCH_DATA)/seed/seed_pairs.jsonl $(if $(LLAMA_CPP),--llama_cpp $(LLAMA_CPP)) --json
	$(BIN)/python benchmarks/training.py --pairs $(BENCH_DATA)/seed/seed_pairs.jsonl --json

clean:
	rm -rf .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
