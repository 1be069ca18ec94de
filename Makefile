# Every command sets up what it needs. `make demo` is the place to start.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	--constraint constraints.txt

# where it is set, each of the tests' processes compiles every module anew
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo ui test test-slow made-project code-versions test-newest-dagster lint dist docs system-packages clean

demo: $(INSTALLED)  ## make the demo data, materialize every asset, compare with the known answer
	$(BIN)/saeborzoi demo

ui: $(INSTALLED)  ## Dagster's web interface and daemon on http://127.0.0.1:3000
	$(BIN)/saeborzoi ui

# made first, which compiles what many tests run: side by side they would each compile it
MADE := $(CURDIR)/.venv/made-project
ALL := SAEBORZOI_MADE_PROJECT=$(MADE) $(BIN)/python -m pytest -n auto --no-loadscope-reorder
test: $(INSTALLED_DEV) system-packages  ## lint, and a case of every rule
	$(MAKE) -j2 lint made-project
	$(ALL) -m "not slow" $(PYTEST)

# more cases of rules of which `make test` tries one
test-slow: $(INSTALLED_DEV) system-packages made-project
	HYPOTHESIS_PROFILE=thorough $(ALL) -m "slow or hypothesis" $(PYTEST)

made-project: $(INSTALLED_DEV)
	$(BIN)/python -m tests.made_project $(MADE)

# after a code version was bumped; WHY="..." where changed source leaves every result as it is
code-versions: $(INSTALLED_DEV)
	$(BIN)/python -m tests.code_versions $(if $(WHY),--no-effect "$(WHY)")

# the newest Dagster that the index has, over everything else of .venv
NEWEST := .venv-newest-dagster
test-newest-dagster: $(INSTALLED_DEV)  ## does what Dagster promises nobody still hold there?
	$(BIN)/python -m venv --clear $(NEWEST)
	$(BIN)/python -c "import site; print('import site; site.addsitedir(%r)' % site.getsitepackages()[0])" \
		> $$($(NEWEST)/bin/python -c "import site; print(site.getsitepackages()[0])")/over.pth
	$(NEWEST)/bin/python -m pip install --disable-pip-version-check --progress-bar off --quiet \
		--prefer-binary --upgrade dagster dagster-pipes dagster-webserver
	$(NEWEST)/bin/python -m pip install --disable-pip-version-check --progress-bar off --quiet \
		--no-deps --upgrade dagster-postgres
	$(NEWEST)/bin/python -c "import dagster; print('Dagster', dagster.__version__, dagster.__file__)"
	$(NEWEST)/bin/python -m pytest tests/resources tests/assets/test_scale.py

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	sh tests/eslint/run.sh $(BIN)/python

dist: $(INSTALLED_DEV)  ## sdist, wheel and SBOM in dist/, tried in fresh environments elsewhere
	$(BIN)/python -m tests.distribution

docs: $(INSTALLED_DEV)  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[platform]'
	$(BIN)/saeborzoi compile
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) --editable '.[platform,celery,k8s,postgres,docs,dev]'
	touch $@

# SLURM, Redis, sshd and Chromium are real in the tests; a test skips, with words, what is not there
system-packages:
	@sh tests/install_system_packages.sh

clean:  ## remove the environment and the demo's results
	rm -rf .venv $(NEWEST) .dagster demo dist build
