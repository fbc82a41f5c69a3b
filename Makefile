# `make demo` and `make test` each set up what they need in a local .venv; nothing else has to be installed but Python.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export NO_MKDOCS_2_WARNING := 1
# Where it is set, every process of the tests would compile every file anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test lint format types imports tests docs rooms bench wheel-check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## the local .venv with Ranvier and its tools

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "error: '$(PYTHON)' was not found; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Ranvier needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: could not create a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## train small spiking nets on real digits, print the leaderboard, write the report
	$(BIN)/ranvier bench quick --out runs/quick

test: lint types imports tests docs rooms ## everything that has to hold before a change lands

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## pyright
	$(BIN)/pyright

imports: $(STAMP) ## no room imports from one above it
	$(BIN)/lint-imports

tests: $(STAMP) ## pytest on WORKERS processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 10

docs: $(STAMP) ## the documentation site, without warnings
	$(BIN)/mkdocs build --strict --quiet

rooms: $(STAMP) ## lines per room, and the difference to main
	$(BIN)/python scripts/rooms.py

bench: $(STAMP) ## the speed benchmarks (minutes)
	$(BIN)/python -m benchmarks

wheel-check: $(STAMP) ## build what is committed, install the wheel where nothing else is, use it (minutes; fetches PyTorch)
	$(BIN)/python scripts/wheel_check.py

clean: ## remove what make made, except runs/
	rm -rf $(VENV) site dist build .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
