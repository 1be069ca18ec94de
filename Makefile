# Every command sets up what it needs. `make demo` is the place to start.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	--constraint constraints.txt

.PHONY: demo ui test lint docs system-packages clean

demo: $(INSTALLED)  ## make the demo data, materialize every asset, compare with the known answer
	$(BIN)/saeborzoi demo

ui: $(INSTALLED)  ## Dagster's web interface and daemon on http://127.0.0.1:3000
	$(BIN)/saeborzoi ui

test: $(INSTALLED_DEV) system-packages lint  ## everything that CI runs
	$(BIN)/python -m pytest $(PYTEST)

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED_DEV)  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[platform]'
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) --editable '.[platform,celery,k8s,postgres,docs,dev]'
	touch $@

# SLURM, Redis, sshd and Chromium are real in the tests; a test skips, with words, what is not there
system-packages:
	@sh tests/install_system_packages.sh

clean:  ## remove the environment and the demo's results
	rm -rf .venv .dagster demo
