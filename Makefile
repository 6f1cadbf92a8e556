# Two commands on a fresh machine with Python 3.11+, pip, make and git:
#   make demo   the main job, on real data, with a report
#   make test   the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Where pip finds torch, for example: make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)

export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow check format docs bench clean

demo: $(VENV)/.lab
	$(BIN)/steppe compare sgd sam lpf_sgd

test: $(VENV)/.dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal

test-slow: $(VENV)/.dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m slow

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

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV)

$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "steppe needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch numpy
	touch $@

$(VENV)/.lab: $(VENV)/.torch pyproject.toml
	$(PIP) -e '.[lab]'
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml peers.txt
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps -r peers.txt
	touch $@ $(VENV)/.lab
