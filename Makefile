# Development commands. `make` lists them.
#
# Each first creates .venv if it is missing or out of date, with the first Python >= 3.10 found. To choose:
#   make test PYTHON=python3.12
#   make demo MINUTES=10
#   make test PIP_FLAGS="--extra-index-url ADDRESS"    another package index

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?=
PIP_FLAGS ?=
VENV ?= .venv
MINUTES ?= 2
DEMO ?= demo.safetensors
WORKERS ?= 2

# OpenMP threads wait without spinning: matrices are small, and spinning slows other processes down.
export OMP_WAIT_POLICY ?= passive

CPP := src/canton/kernels/cpu/src src/canton/text/engine
SETUP := tools/setup.sh pyproject.toml constraints.txt hatch_build.py $(shell find $(CPP) -name "*.cpp" -o -name "*.h")
DEMO_EXTRAS := text,plot
setup_for = PYTHON='$(PYTHON)' PIP_FLAGS='$(PIP_FLAGS)' VENV='$(VENV)' tools/setup.sh $(1)

.PHONY: help setup demo test slow lint format types docs bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

$(VENV)/.ready-text: $(SETUP)
	@$(call setup_for,$(DEMO_EXTRAS))

$(VENV)/.ready-dev: $(SETUP)
	@$(call setup_for,dev)

setup: $(VENV)/.ready-dev ## create .venv with all development tools

demo: $(VENV)/.ready-text ## train a small byte model for MINUTES (default 2) and generate 600 bytes
	@$(VENV)/bin/canton text train --minutes $(MINUTES) --out $(DEMO)
	@echo
	@$(VENV)/bin/canton text generate $(DEMO) --bytes 600
	@echo
	@echo "The model is $(DEMO). Generate more with: $(VENV)/bin/canton text generate $(DEMO)"

test: $(VENV)/.ready-dev ## run the fast tests
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS)

slow: $(VENV)/.ready-dev ## run the slow tests, with the README's commands
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m slow

lint: $(VENV)/.ready-dev ## check rules and format with ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.ready-dev ## fix rules and format with ruff
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.ready-dev ## check types with mypy --strict
	$(VENV)/bin/mypy

docs: $(VENV)/.ready-dev ## build the documentation in site/
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

bench: $(VENV)/.ready-dev ## compare speed with other libraries (see benchmarks/)
	$(VENV)/bin/pip install -q $(PIP_FLAGS) -c constraints.txt -e '.[bench]'
	env -u OMP_WAIT_POLICY OMP_NUM_THREADS=1 PYTHONPATH=benchmarks $(VENV)/bin/python -m compare $(BENCH)

clean: ## remove build outputs and .venv
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
