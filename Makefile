# Two commands do everything on a machine with python3 (3.10 or newer), venv and make:
#   make quickstart   environment, then the whole pipeline on embedded data
#   make test         environment, then every check and test
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV ?= .venv
OUT ?= out/quickstart

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKED := netadapt_trt backends tests tools examples

.PHONY: quickstart test env lint typecheck unit clean

quickstart: env
	$(BIN)/netadapt-trt quickstart --out $(OUT)
	@echo "the program for the commands in README: . $(BIN)/activate"

test: lint typecheck unit

env: $(STAMP)

# --no-build-isolation: the pinned setuptools builds the project, not whatever is newest today.
$(STAMP): constraints.txt pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else "netadapt-trt needs Python 3.10 or newer, $(PYTHON) is %d.%d; run: make PYTHON=python3.11" % v[:2])'
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt setuptools
	@echo "installing the pinned packages (a few minutes the first time)"
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: env
	$(BIN)/mypy $(wildcard $(CHECKED))

# Whole test files are spread over the cores.
unit: env
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

clean:
	rm -rf $(VENV) build out .mypy_cache .ruff_cache .pytest_cache *.egg-info
