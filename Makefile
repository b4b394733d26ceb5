# `make demo` and `make test` do all the set-up on a fresh machine with Python 3.11+ and make.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := $(VENV)/bin
JOBS ?= 3
# bytecode of tests is kept, also where an image says otherwise: each process would compile them all
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
QUICK := $(addprefix tests/,tiling evaluation report gate storage/test_names.py storage/test_urls.py docs api/test_windows.py)

.DEFAULT_GOAL := help
.PHONY: niivue quick help site pins settings venv demo bench pictures test lint types contract unit soak dist clean

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.installed  ## Make the environment

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found on PATH; install one, or run make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: venv  ## Run the main job on phantoms: S3, Prefect and Dask, all local
	$(BIN)/unet-pipeline demo

bench: venv  ## Measure against MONAI and nnU-Net, for hours; BENCH=--quick for minutes (docs/speed.md)
	$(BIN)/python -m benchmarks.speed $(BENCH)

pictures: venv  ## Make the pictures of README and docs from real runs; needs chromium
	$(BIN)/python -m benchmarks.pictures

site: $(VENV)/.docs  ## Build the site of all pages into build/site; a broken link or picture is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

test: venv lint types contract unit  ## Run all checks and tests

pins: venv  ## Write the image's packages with their hashes (deploy/requirements*.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	PATH="$(BIN):$$PATH" $(BIN)/python deploy/pin

dist:  ## Build sdist and wheel, try them in an empty environment (docs/releasing.md)
	deploy/release $(PYTHON)

niivue:  ## Fetch the viewer's NiiVue anew; needs npm
	deploy/niivue

settings: venv  ## Write the tables of docs/settings.md
	$(BIN)/python -m unet_pipeline.cli.settings_page docs/settings.md

lint: venv  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv  ## Check types
	$(BIN)/mypy

contract: venv  ## Check that imports go one way
	$(BIN)/lint-imports

unit: venv  ## Run the tests, JOBS of them at a time
	$(PYTEST) -n $(JOBS) --dist loadfile

quick: venv lint contract  ## Check style, imports, and what needs no server and no process
	$(PYTEST) -q -n $(JOBS) --dist loadfile -m "not slow and not soak" $(QUICK)

soak: venv  ## Run the long forms of what goes wrong again and again, for many minutes
	$(PYTEST) -m soak
	$(PYTEST) -m "hypothesis and not soak" --hypothesis-profile soak
	$(PYTEST) tests/flows --prefect-database postgresql

clean:  ## Remove the environment and caches
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
