# SPDX-License-Identifier: Apache-2.0
# `make` alone says what there is. Needed: make, Python 3.10 or newer with its venv module, and the package index.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check

# A Python that was asked for has to be the one in the environment.
ifneq ($(origin PYTHON),file)
ifneq ($(filter demo test lint audit docs soak soak-faults forks kills bench,$(MAKECMDGOALS)),)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(shell $(BIN)/python --version 2>&1),$(shell $(PYTHON) --version 2>&1))
$(error $(VENV) was made with $(shell $(BIN)/python --version 2>&1), not $(PYTHON): make clean first, or name another VENV)
endif
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest test-frameworks environments lint audit docs soak soak-faults forks kills bench clean
.DELETE_ON_ERROR:

help: ## Say what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "With another Python: make test PYTHON=python3.12 VENV=/tmp/venv-3.12"

demo: $(VENV)/.has-demo ## Train under auto-instrumentation and show what arrives over OTLP.
	@$(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.has-test ## Run the tests, with coverage.
	$(BIN)/python -m pytest --cov $(PARALLEL) $(ARGS)

test-oldest: $(VENV)-oldest/.has-oldest ## Run the tests of what others' versions touch, with the oldest that are allowed.
	$(VENV)-oldest/bin/python -m pytest -q $(PARALLEL) $(OLDEST) -k "not declarative and not hundreds_of_forks" $(ARGS)

test-frameworks: $(VENV)-frameworks/.has-frameworks ## Run the tests that need PyTorch; the first time takes three minutes.
	$(VENV)-frameworks/bin/python -m pytest -q $(PARALLEL) tests/frameworks $(ARGS)
	PYTHONPATH=$(abspath $(VENV)-frameworks/oldest) $(VENV)-frameworks/bin/python -m pytest -q $(PARALLEL) \
	  -m oldest -o filterwarnings=default tests/frameworks $(ARGS)

environments: $(VENV)-oldest/.has-oldest $(VENV)-frameworks/.has-frameworks # Of the two above; for .ci/run.

lint: $(VENV)/.has-test ## Check style, types and walls.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(VENV)/.has-test ## Look for known faults in what the package depends on.
	$(BIN)/python .ci/audit.py $(ARGS)

docs: $(VENV)/.has-test ## Write docs/reference from the tables of the package.
	$(BIN)/python docs/reference/generate.py

soak: $(VENV)/.has-test ## Simulate days of training, healthy and not, and write what alerts made of them; takes minutes.
	PYTHONPATH=tests $(BIN)/python -m alerts.simulation write
	$(BIN)/python docs/reference/generate.py

forks: $(VENV)/.has-test ## Fork 10,000 times under load, and see that no child hangs; takes minutes.
	$(BIN)/python benchmarks/forks.py $(ARGS)

kills: $(VENV)/.has-test ## Kill 50 recorded jobs at random moments, and see that each recording is whole; takes a minute.
	PYTHONPATH=tests $(BIN)/python -m recorded_kills $(ARGS)

soak-faults: $(VENV)/.has-test ## Look 200,000 times while everything fails, with all sources; takes half an hour.
	OTEL_PYTHON_HWMETRICS_LOUD=0 PYTHONPATH=tests $(BIN)/python -m faults.soak --everything $(ARGS)

bench: $(VENV)/.has-bench $(VENV)-frameworks/.has-frameworks ## Measure what a sample, a span, a step, a child process, a recording, a plot and a training cost.
	$(BIN)/python benchmarks/sample_cost.py $(ARGS)
	$(BIN)/python benchmarks/span_cost.py
	$(BIN)/python benchmarks/step_cost.py
	$(BIN)/python benchmarks/child_cost.py
	$(BIN)/python benchmarks/recording_cost.py
	$(BIN)/python benchmarks/plot_cost.py
	$(VENV)-frameworks/bin/python benchmarks/training_speed.py

clean: ## Remove the environment and everything that was built or measured.
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-frameworks dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
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
	  --constraint tests/oldest.txt '.[otlp]' hypothesis pytest pytest-rerunfailures pytest-xdist PyYAML rotel
	@$(VENV)-oldest/bin/python -m pip --disable-pip-version-check install --quiet --quiet \
	  --constraint tests/oldest.txt --no-deps --force-reinstall .
	@touch $@

# PyTorch by itself and first, and held fast: what else depends on it must not choose another build. Any that is given will
# do. Beside it the oldest versions of the frameworks, in a folder of their own that goes before the newest.
TORCH ?= torch==2.13.0
FRAMEWORKS_PIP = $(VENV)-frameworks/bin/python -m pip --disable-pip-version-check
$(VENV)-frameworks/.has-frameworks: pyproject.toml tests/frameworks/newest.txt tests/frameworks/oldest.txt
	@$(PYTHON) -m venv $(VENV)-frameworks
	@echo "Installing $(TORCH), what trains with it and otel-hwmetrics[test] into $(VENV)-frameworks ..."
	@$(FRAMEWORKS_PIP) install --quiet --quiet '$(TORCH)' numpy
	@$(FRAMEWORKS_PIP) list --format freeze | grep '^torch==' > $(VENV)-frameworks/torch.txt
	@$(FRAMEWORKS_PIP) install --quiet --quiet --constraint $(VENV)-frameworks/torch.txt \
	  --requirement tests/frameworks/newest.txt --editable '.[test]'
	@rm -rf $(VENV)-frameworks/oldest
	@$(FRAMEWORKS_PIP) install --quiet --quiet --no-deps --target $(VENV)-frameworks/oldest \
	  --requirement tests/frameworks/oldest.txt
	@touch $@

# A file's tests stay together, since they share what they have set up. Some wait for real time, so that there may be one
# process more than CPUs; and the longest ones are not in the largest files, which would be taken first.
PARALLEL = --numprocesses $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)') --dist loadfile --no-loadscope-reorder

# What others' versions touch: OpenTelemetry's, psutil's, NVML's bindings. Older SDKs call what keeps log records in tests by
# other names, so of logs tests/e2e has what arrives; and py-spy is not there.
NOT_OLDEST = %/test_logs.py %/test_stacks.py %/test_stall.py %/test_workers.py %/test_round_trip.py %/test_recorder_kills.py
OLDEST = tests/e2e tests/sources/gpu/nvidia tests/sources/system tests/sources/tree/test_tree.py tests/sources/test_process.py \
  $(filter-out $(NOT_OLDEST),$(wildcard tests/testing/test_*.py tests/testing/captures/test_*.py)) \
  tests/test_config.py tests/test_config_of_rules.py tests/test_instruments.py tests/test_histograms.py tests/test_forks.py \
  tests/test_sampler.py tests/test_windows.py $(filter-out $(NOT_OLDEST),$(wildcard tests/sinks/test_*.py))

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not found; say which one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c '$(OLD_ENOUGH)' || \
	  { echo "$$($(PYTHON) --version 2>&1) is too old: 3.10 or newer is needed; say which one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

OLD_ENOUGH = import sys; sys.exit(sys.version_info < (3, 10))
