# Two commands on a fresh machine with Python 3.11+, pip, make and git:
#   make demo   the main job, on real data, with a report
#   make test   the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Where pip finds torch, for example: make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Files are what they were when the tests ran with them, or they are refused.
LOCKED := $(PIP) --require-hashes --no-deps
# What `make lock` runs, and what it leaves out: torch, and packages for CUDA alone.
UV ?= uv==0.13.9
LOCK := $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" -c requirements/torch.txt --group build $(LOCK_ARGS)
UNLOCKED := ^(torch|torchvision|triton)==|^(nvidia|cuda)-

export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check format docs examples bench gpu lock clean

demo: $(VENV)/.lab
	$(BIN)/steppe compare sgd sam lpf_sgd

test: $(VENV)/.dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal

test-slow: $(VENV)/.dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "slow and not gpu"

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The pages of docs/methods, from the docstrings and facts of the code.
docs: $(VENV)/.dev
	$(BIN)/python -m docs.generator

# The pages of docs/examples: each script is run, with STEPPE_DATA_DIR on real data.
examples: $(VENV)/.dev
	$(BIN)/python -m docs.generator.examples

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# Tests and benchmarks of a GPU, in 8 minutes; without one it says so.
gpu: $(VENV)/.dev
	$(BIN)/python -m benchmarks.gpu

# Newer versions: make lock LOCK_ARGS=--upgrade, or LOCK_ARGS="--upgrade-package numpy".
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(LOCK) pyproject.toml peers.txt --extra dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra lab -c requirements/dev.txt -o requirements/lab.txt
	for file in dev lab; do awk '/^[^ ]/ {left_out = /$(UNLOCKED)/} !left_out' requirements/$$file.txt > $(VENV)-lock/$$file.txt; done
	mv $(VENV)-lock/dev.txt $(VENV)-lock/lab.txt requirements/
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "steppe needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# Torch comes after what it needs, which is locked; steppe itself is built by the backend that is locked too.
define install
	$(LOCKED) $(PIP_ARGS) -r requirements/$(1).txt
	$(PIP) --no-warn-conflicts $(PIP_ARGS) -r requirements/torch.txt
	$(PIP) --no-deps --no-build-isolation -e .
endef

$(VENV)/.lab: requirements/lab.txt requirements/torch.txt pyproject.toml | $(BIN)/python
	$(call install,lab)
	touch $@

$(VENV)/.dev: requirements/dev.txt requirements/torch.txt pyproject.toml | $(BIN)/python
	$(call install,dev)
	touch $@ $(VENV)/.lab
