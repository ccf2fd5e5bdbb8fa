# SPDX-License-Identifier: Apache-2.0
# `make` alone says what there is. Needed: make, Python 3.10 or newer with its venv module, and the package index.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check

# A Python that was asked for has to be the one in the environment.
ifneq ($(origin PYTHON),file)
ifneq ($(filter demo test lint docs bench,$(MAKECMDGOALS)),)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(shell $(BIN)/python --version 2>&1),$(shell $(PYTHON) --version 2>&1))
$(error $(VENV) was made with $(shell $(BIN)/python --version 2>&1), not $(PYTHON): make clean first, or name another VENV)
endif
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest lint docs bench clean
.DELETE_ON_ERROR:

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "With another Python: make test PYTHON=python3.12 VENV=/tmp/venv-3.12"

demo: $(VENV)/.has-demo ## Train under auto-instrumentation and show what arrives over OTLP.
	@$(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.has-test ## Run the tests, with coverage.
	$(BIN)/python -m pytest --cov $(ARGS)

test-oldest: $(VENV)-oldest/.has-oldest ## Run the tests of what others' versions touch, with the oldest that are allowed.
	$(VENV)-oldest/bin/python -m pytest -q $(OLDEST) -k "not declarative" $(ARGS)

lint: $(VENV)/.has-test ## Check style, types and walls.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.has-test ## Write docs/reference from the tables of the package.
	$(BIN)/python docs/reference/generate.py

bench: $(VENV)/.has-bench ## Measure what a sample costs.
	$(BIN)/python benchmarks/sample_cost.py $(ARGS)

clean: ## Remove the environment and everything that was built or measured.
	rm -rf $(VENV) $(VENV)-oldest dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of dependencies: made once, and again when pyproject.toml changes.
$(VENV)/.has-%: pyproject.toml | $(BIN)/python
	@$(BIN)/python -c '$(OLD_ENOUGH)' || { echo "$(VENV) holds too old a Python: make clean"; exit 1; }
	@echo "Installing otel-hwmetrics[$*] into $(VENV); the first time takes a minute ..."
	@$(PIP) install --quiet --quiet --editable '.[$*]'
	@touch $@

# Not editable and without the tools: what these versions are for is the package as it is installed.
$(VENV)-oldest/.has-oldest: pyproject.toml tests/oldest.txt $(shell find src -name '*.py')
	@$(PYTHON) -m venv $(VENV)-oldest
	@echo "Installing the oldest versions into $(VENV)-oldest ..."
	@$(VENV)-oldest/bin/python -m pip --disable-pip-version-check install --quiet --quiet \
	  --constraint tests/oldest.txt '.[otlp]' hypothesis pytest PyYAML rotel
	@$(VENV)-oldest/bin/python -m pip --disable-pip-version-check install --quiet --quiet \
	  --constraint tests/oldest.txt --no-deps --force-reinstall .
	@touch $@

OLDEST = tests/e2e tests/sources tests/alerts tests/sinks/test_spans.py tests/test_config.py tests/test_instruments.py \
  tests/test_sampler.py tests/testing tests/test_windows.py

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not found; say which one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c '$(OLD_ENOUGH)' || \
	  { echo "$$($(PYTHON) --version 2>&1) is too old: 3.10 or newer is needed; say which one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

OLD_ENOUGH = import sys; sys.exit(sys.version_info < (3, 10))
