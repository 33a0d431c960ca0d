# Two commands do everything from a clean clone: `make train-local` and `make test`.
# Variables: PYTHON (default python3.11), VENV (default .venv), ARGS (appended to the command, e.g. ARGS="num_steps=10").

PYTHON ?= python3.11
VENV   ?= .venv
ARGS   ?=

ACCELERATOR := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
BIN         := $(VENV)/bin
MARK        := $(VENV)/.medvie-$(ACCELERATOR)
READY       := $(MARK)-ready
READY_DEV   := $(MARK)-ready-dev
READY_BENCH := $(MARK)-ready-bench
POOL_TESTS  := tests/integration/test_reward_pool.py
INSTALL_DEPENDS := pyproject.toml constraints.txt $(wildcard medvie_rl/install/*.py)

# An environment is stale, and made again, if it was made for the other accelerator or if its interpreter no longer runs
# (moved folder, removed Python). Only one that this Makefile made, which bears its mark, is ever removed.
MADE_HERE := $(wildcard $(VENV)/.medvie-cpu $(VENV)/.medvie-gpu)
ifneq ($(wildcard $(VENV)/bin/python),)
ifneq ($(shell $(BIN)/python -c "import sys; print(sys.version_info[:2] == (3, 11) and sys.prefix == '$(abspath $(VENV))')" 2>/dev/null)$(wildcard $(MARK)),True$(MARK))
STALE := stale
endif
endif

.PHONY: help setup setup-dev train-local bench coverage test test-unit test-integration test-full test-gpu lint submit clean $(STALE)

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): $(INSTALL_DEPENDS) $(STALE)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: '$(PYTHON)' was not found. Install it, or say PYTHON=/path/to/python3.11"; exit 1; }
	@[ -z "$(STALE)" ] || [ -n "$(MADE_HERE)" ] || { echo "$(VENV) is another program's environment, or a broken one: remove it, or say VENV=another/folder"; exit 1; }
	@[ -z "$(STALE)" ] || rm -rf $(VENV)
	@echo "Installing into $(VENV) for $(ACCELERATOR) (about 3 minutes and 4 GB the first time) ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@touch $(MARK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(ACCELERATOR)]"
	$(BIN)/python -m medvie_rl.install
	@$(BIN)/medvie doctor --quick || echo "The environment is complete; what failed above is to be mended on this machine before a run."
	@touch $@

$(READY_DEV): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(ACCELERATOR),dev]"
	$(BIN)/python -m medvie_rl.install
	@touch $@

$(READY_BENCH): $(READY_DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(ACCELERATOR),dev,bench]"
	$(BIN)/python -m medvie_rl.install
	@touch $@

stale:

setup: $(READY)  ## create the environment and verify it

setup-dev: $(READY_DEV)  ## the same with what the tests need

train-local: $(READY)  ## the main job on this machine: RL on the embedded nano policy
	$(BIN)/medvie train --config conf/local.yaml $(ARGS)

bench: $(READY_BENCH)  ## benchmarks: a table and bench.json; ONLY="reward_*" runs some
	$(BIN)/python -m medvie_rl.bench --only "$(or $(ONLY),*)" $(ARGS)

lint: $(READY_DEV)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-unit: $(READY_DEV)  ## unit tests, under a minute
	$(BIN)/python -m pytest tests/unit -n auto $(ARGS)

test-integration: $(READY_DEV)  ## real Ray, vLLM and DeepSpeed on the nano policy
	$(BIN)/python -m pytest tests/integration -m "not full" $(ARGS)

coverage: $(READY_DEV)  ## unit and scoring pool tests, with the branch coverage of rewards/
	$(BIN)/python -m pytest tests/unit $(POOL_TESTS) -n auto --cov=rewards --cov-branch --cov-report=term --cov-fail-under=95

test: lint coverage  ## what gates every change: lint, types, unit, integration
	$(BIN)/python -m pytest tests/integration --ignore=$(POOL_TESTS) -m "not full" $(ARGS)

test-full: test  ## and the long ones
	$(BIN)/python -m pytest tests/integration -m full $(ARGS)

test-gpu: $(READY_DEV)  ## on a machine with a GPU; prints what was measured and writes build/test_gpu.json
	$(BIN)/python -m pytest tests/gpu -m gpu -s $(ARGS)

submit: $(READY)  ## submit a job to the Ray cluster at ADDRESS: make submit ADDRESS=http://head:8265 CONFIG=conf/qwen2_5_vl_7b.yaml
	RAY_AUTH_MODE=token $(BIN)/ray job submit --address $(or $(ADDRESS),http://127.0.0.1:8265) --working-dir . -- exec python -m medvie_rl train --config $(or $(CONFIG),conf/local.yaml) $(ARGS)

clean:  ## remove the environment and caches (runs/ stays)
	@[ -z "$(MADE_HERE)" ] || rm -rf $(VENV)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
