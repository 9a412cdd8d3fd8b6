# Two commands serve a bare clone with Python >= 3.11: `make demo` and `make test`. Each does its own set-up.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
OUT ?= demo
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help install demo test check wheel clean

help:
	@echo "make demo     generate, edit and reconstruct with the shipped models; writes a page to $(OUT)/index.html"
	@echo "make test     lint, types, import contracts and tests"
	@echo "make check    lint, types and import contracts alone"
	@echo "make wheel    build the package into dist/"
	@echo "make clean    remove the virtual environment and what was built"

$(VENV)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv found; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "== making a virtual environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml constraints.txt
	@echo "== installing cmmulti and its pinned dependencies (a few minutes the first time)"
	@$(PIP) install --quiet --constraint constraints.txt "setuptools>=77" torch
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

$(VENV)/developing: $(VENV)/installed
	@echo "== installing the tools for tests"
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	@touch $@

install: $(VENV)/installed

demo: $(VENV)/installed
	@echo "== running the demo into $(OUT)/ (under five minutes on two cores)"
	@$(BIN)/cmmulti demo --out $(OUT) --overwrite

check: $(VENV)/developing
	@echo "== lint, types, import contracts"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy benchmarks examples/*.py
	@$(BIN)/lint-imports --no-logo || $(BIN)/lint-imports

test: check
	@echo "== tests"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadgroup

wheel: $(VENV)/developing
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

clean:
	rm -rf $(VENV) dist build *.egg-info
