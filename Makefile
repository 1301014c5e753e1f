# Two commands matter: `make run` and `make test`. Both set everything up first; that needs Python 3.11+ and a package index.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup run test prove check bench format lock clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready  ## set up .venv from the hash-locked requirements (does nothing if it is up to date)

$(VENV)/.ready: requirements.lock requirements-setup.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --build-constraints requirements.lock -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: setup  ## the hub with a sandbox of all five vendors and a stream of business, on this machine
	$(BIN)/hub up --sandbox

test: setup  ## the whole test suite
	$(BIN)/pytest -n 2 -q

prove: setup  ## the long proofs: generated disorder, processes killed some 300 times, and more; under an hour
	$(BIN)/pytest -m prove -s tests/prove tests/connectors/test_lost_replies.py tests/bench tests/flow/test_processes.py tests/flow/test_end_to_end.py

check: setup  ## format, lint, types, mappings and their examples
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup  ## measure this machine
	$(BIN)/hub bench

format: setup  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup  ## write the lock files anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --all-extras pyproject.toml -o requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header - -o requirements-setup.lock

clean:  ## remove the set-up and all local data
	rm -rf $(VENV) .hub build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
