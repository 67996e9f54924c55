# Everything starts here: `make repro` and `make test` set themselves up, and a second run does only what is new.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help git setup repro results test lint format docs bench size paper faults clean

help:  ## Show what can be made.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## Make the virtual environment with the pinned packages.

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python must be at least 3.11, got $$($(PYTHON) --version 2>&1); run make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

git:
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "error: DVC needs a Git repository, and this folder is none; \
	run git clone in place of unpacking an archive, or git init && git add -A && git commit -m start" >&2; exit 1; }

repro: git $(READY)  ## Run the pipeline, then print the accuracies and the report's path.
	dvc repro
	@python -m pipeline results

results: $(READY)  ## Print the accuracies of the last run.
	@python -m pipeline results

test: $(READY) lint  ## Lint, then run all tests.
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 python -m pytest -q -n 2

lint: $(READY)  ## Check style.
	ruff check --quiet .
	ruff format --check --quiet .

format: $(READY)  ## Mend style.
	ruff check --fix --quiet .
	ruff format --quiet .

docs: $(READY)  ## Build the pages as a site that works offline: build/docs/index.html.
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet

bench: $(READY)  ## Measure every figure that the project claims (about twelve minutes).
	python -m benchmarks

size: $(READY)  ## Print lines, modules and import floors beside the figures to reach.
	python -m benchmarks.size

paper: $(READY)  ## Run the paper's experiments that the data allow, or one: make paper ONLY=persona-5a.
	python -m experiments $(ONLY)

faults: $(READY)  ## Kill stages, damage files and hold the rest to its bytes: make faults SEEDS=100 at length.
	OMP_NUM_THREADS=1 SEEDS=$(or $(SEEDS),4) python -m pytest -q -m slow

clean:  ## Remove the virtual environment; data and results stay.
	rm -rf $(VENV)
