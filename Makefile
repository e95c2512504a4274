# The commands of mtlviz. On a fresh machine with Python 3.11, pip, git and make, each sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WORKERS ?= 2
NOTEBOOK := notebooks/01_watch_a_run.ipynb

.PHONY: demo lab test check format sample study soak bench chromium clean
.DELETE_ON_ERROR:

demo: .venv/ready  ## train the digits problem, write runs/demo and its report
	$(BIN)/python -m mtlviz demo

lab: .venv/ready  ## open JupyterLab on the first notebook
	$(BIN)/python -m mtlviz lab

test: check chromium  ## the whole suite: code checks, tests, notebooks, a real JupyterLab in Chromium
	$(BIN)/python -m pytest -m "not soak and not browser" --numprocesses $(WORKERS) --dist loadfile
	$(BIN)/python -m pytest tests -m "browser and not soak"  # one server and one browser for all

check: .venv/ready  ## formatting, lint, types, who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

sample: .venv/ready  ## make data_samples anew: the run and the listings
	$(BIN)/python data_samples/record.py
	$(BIN)/python data_samples/listings.py

study: .venv/ready  ## record the studies of data_samples anew, study_related*.csv and source_sweep.csv: up to half an hour
	$(BIN)/python data_samples/study.py
	$(BIN)/python data_samples/source_sweep.py

soak: .venv/ready chromium  ## the long tests
	$(BIN)/python -m pytest -m soak

bench: .venv/ready  ## every benchmark; each prints its ratios side by side
	@for file in tests/benchmarks/*.py; do \
	  name=$$(basename $$file .py); [ $$name = __init__ ] || $(BIN)/python -m tests.benchmarks.$$name || exit 1; done

# Set-up: done again only when what it installs has changed.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "mtlviz needs Python 3.11 or newer; $(PYTHON) is older. Run: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

# The browser tests drive Debian's Chromium.
chromium:
	@tests/browser/chromium.sh

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info
