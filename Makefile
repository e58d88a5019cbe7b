# `make serve` and `make test` are all that a newcomer needs; both set up .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup serve test check bench demo lock clean

help:
	@echo "make serve   set up .venv and start the service on SQLite with the example machines"
	@echo "make test    set up .venv and run every test"
	@echo "make check   ruff and mypy --strict"
	@echo "make bench   print the benchmark tables"
	@echo "make demo    replay ten chess games over HTTP against a fresh service"
	@echo "make lock    refresh requirements*.lock from pyproject.toml"

$(VENV)/.serve: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.serve

serve: $(VENV)/.serve
	$(BIN)/stepwell serve examples/counter.py examples/chess_game.py examples/chat.py

test: $(VENV)/.dev check
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

demo: $(VENV)/.serve
	$(BIN)/python -m examples.demo

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra build --extra examples pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra dev pyproject.toml -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
