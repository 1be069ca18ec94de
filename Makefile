# Every command sets up what it needs. `make demo` is the place to start.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo ui test lint system-packages clean

demo: $(INSTALLED)  ## make the demo data, materialize every asset, compare with the known answer
	$(BIN)/saeborzoi demo

ui: $(INSTALLED)  ## Dagster's web interface and daemon on http://127.0.0.1:3000
	$(BIN)/saeborzoi ui

test: $(INSTALLED) system-packages lint  ## everything that CI runs
	$(BIN)/python -m pytest $(PYTEST)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt \
		--progress-bar off --editable '.[platform,dev]'
	touch $(INSTALLED)

# SLURM, Redis, sshd and Chromium are real in the tests; a test skips, with words, what is not there
system-packages:
	@sh tests/install_system_packages.sh

clean:  ## remove the environment and the demo's results
	rm -rf .venv demo
