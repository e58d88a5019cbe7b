# `make serve`, `make test` and `make demo` are all that a newcomer needs; each sets up .venv first.
# Needs Python 3.11 or newer and make; everything else comes from the locks, checked by hash.
PYTHON ?= $(shell for each in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
VENV   := .venv
BIN    := $(VENV)/bin

EXAMPLES := examples/counter.py examples/approval.py examples/chat.py

.DEFAULT_GOAL := help
.PHONY: help setup serve test check bench chaos demo docs lock clean

help:
	@echo "make serve   set up .venv and start the service on SQLite with the example machines"
	@echo "make demo    replay ten chess games over HTTP against a fresh service"
	@echo "make test    set up .venv, run ruff, mypy and every test"
	@echo "make check   ruff and mypy --strict only"
	@echo "make bench   print the benchmark tables"
	@echo "make chaos   kill replicas, connections and PostgreSQL a hundred times under load, and check the log"
	@echo "make docs    put what the documents' curl lines print now into the documents"
	@echo "make lock    refresh requirements*.lock from pyproject.toml"
	@echo "make clean   remove .venv and the caches"

# all of it or nothing: Debian's python3 without python3-venv would leave an environment without pip
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Stepwell needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.serve: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# the chess library of the demo is GPL-3.0-or-later: it is installed for the demo and the tests alone
$(VENV)/.demo: requirements-demo.lock $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-demo.lock
	@touch $@

setup: $(VENV)/.serve

serve: $(VENV)/.serve
	$(BIN)/stepwell serve $(EXAMPLES)

demo: $(VENV)/.demo
	$(BIN)/python -m examples.demo

test: check
	$(BIN)/python -m tests.programs
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos --rounds 100 --sessions 200

docs: $(VENV)/.dev
	$(BIN)/python -m tests.documents README.md docs/http.md

lock: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra build --extra demo pyproject.toml -c requirements.lock -o requirements-demo.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra dev pyproject.toml -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
