# Two commands: `make demo` labels real photos in an empty clone, `make test` runs every test.
# Each extra is installed once; a change of setup.cfg installs anew.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The versions that were tested; setup.cfg admits others.
TORCH ?= torch==2.14.1 torchvision==0.29.1

.PHONY: install demo test check bench faults clean

install: $(VENV)/installed
demo: $(VENV)/installed-demo
	$(BIN)/python -m jobs.demo demo-out
test: $(VENV)/installed-test
	$(BIN)/python -m pytest
check: $(VENV)/installed-check $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.cfg pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable .[$*]
	touch $@

clean:
	rm -rf $(VENV) demo-out build *.egg-info
