# Two commands: `make demo` labels real photos in an empty clone, `make test` runs every test.
# Each extra is installed once; a change of setup.cfg or constraints.txt installs anew.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The versions that were tested; setup.cfg admits others. All but torch's own are in constraints.txt.
TORCH ?= torch==2.14.1 torchvision==0.29.1
# An index with builds of torch for CPUs, where yours has one, saves 4 GB of CUDA: make install TORCH_INDEX=URL
TORCH_INDEX ?=
# What `make numbers` measures with: a folder of photos, and their classes as in benchmarks/accuracy.py.
PHOTOS ?= photos
PHOTOS_CSV ?= photos.csv
PIP_INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: install demo test store-servers check bench faults soak screenshot runner numbers clean

install: $(VENV)/installed
demo: $(VENV)/installed-demo
	$(BIN)/python -m jobs.demo demo-out
test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2
# Servers of object stores that some tests start; needs npm.
store-servers: $(VENV)/bin/python
	npm install --prefix $(VENV)/npm --no-audit --no-fund --loglevel error azurite@3.37.0 s3rver@3.7.1
check: $(VENV)/installed-check $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
# The whole fault suite, of which `make test` runs a part; about an hour.
faults: $(VENV)/installed-test
	$(BIN)/python -m pytest -m "faults or not faults" --timeout 1800 -s tests/faults
	$(BIN)/python -m pytest -m faults --timeout 900 tests/jobs
	TRIAL_SCALE=10 $(BIN)/python -m pytest --timeout 3600 tests/trial
bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/peers.py
# A daemon's scenarios at full size, then its memory, rate and lag.
soak: $(VENV)/installed-test
	WATCH_TEST_SCALE=15 $(BIN)/python -m pytest --timeout 3600 tests/jobs/watching/test_watch_faults.py tests/jobs/watching/test_watch_scenarios.py
	$(BIN)/python benchmarks/watch_soak.py
	$(BIN)/python benchmarks/watch_lag.py
# The pictures of a report, and of the page and the desk of label-serve; needs Chromium and its driver.
screenshot: $(VENV)/installed-test
	PYTHONPATH=. $(BIN)/python benchmarks/report_screenshot.py docs --readme
	PYTHONPATH=. $(BIN)/python benchmarks/serve_screenshot.py docs --manual
	PYTHONPATH=. $(BIN)/python benchmarks/desk_screenshot.py docs --manual

# A fresh environment without torch, measured beside this one: size, first labels, rate, tables.
runner: $(VENV)/installed-demo
	$(BIN)/python benchmarks/runner.py
# All marked figures of the manual, overnight; an interrupted night goes on where it was.
numbers: $(VENV)/installed-bench $(VENV)/installed-test
	$(BIN)/python benchmarks/all_numbers.py $(PHOTOS) $(PHOTOS_CSV)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt $(VENV)/bin/python
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(PIP_INSTALL) --editable .[$*]
	touch $@

clean:
	rm -rf $(VENV) demo-out build *.egg-info
