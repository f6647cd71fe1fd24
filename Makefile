# What one can do here. Each target does its own set-up; needed are Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Some environments say that nothing compiled is kept: every process would compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test bench lint format runs histories reference lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/runs  ## watch the system at work; ARGS=--exit ends it by itself
	@$(BIN)/enforce demo $(ARGS)

test: $(VENV)/tests  ## all tests, on real servers; ARGS="tests/rulebook -k holiday" picks some; FULL=1 make test plays each random test at full length
	@$(BIN)/pytest $(ARGS)

bench: $(VENV)/tests $(VENV)/yardstick  ## what it costs, as ratios; ARGS=quick is short, ARGS="midnight workers" picks some
	@$(BIN)/python -m bench $(ARGS)

lint: $(VENV)/tests  ## types, style, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/tests  ## put the code in order
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

runs: $(VENV)/runs  ## only what `enforce` needs, in .venv

histories: $(VENV)/tests  ## record the workflows of the demo that tests/histories does not have yet
	@$(BIN)/python -m tests.histories.record

reference: $(VENV)/tests  ## write docs/reference.md from the commands' own help
	@$(BIN)/python -m tests.starter.reference

lock: $(VENV)/tests  ## renew the lock files from pyproject.toml
	@$(BIN)/uv pip compile $(LOCK) pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile $(LOCK) pyproject.toml -o requirements-dev.lock --extra dev -c requirements.lock
	@$(BIN)/uv pip compile $(LOCK) pyproject.toml -o requirements-yardstick.lock --extra yardstick -c requirements-dev.lock

clean:  ## remove what was made here, the data of `enforce up` excepted
	rm -rf $(VENV) .enforce-demo .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info

LOCK := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

$(VENV)/bin/python:
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/runs: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing what it needs ..."
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/tests: requirements-dev.lock $(VENV)/runs
	@echo "Installing what the tests need ..."
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/yardstick: requirements-yardstick.lock $(VENV)/tests
	@echo "Installing what is measured beside it ..."
	@$(INSTALL) --require-hashes -r requirements-yardstick.lock
	@touch $@
