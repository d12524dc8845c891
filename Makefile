# The names of what people type. Each target is one command of its room.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup serve test test-containers test-gpu bench-gpu gpu-bundle test-containers-gpu check format train bench bench-peers bench-ratios proto dashboards lock audit sbom clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Create .venv and install the pinned packages (WHEELS=cpu or WHEELS=cuda overrides the choice)
	@$(PYTHON) requirements/install.py

serve: setup  ## Serve the released model on 127.0.0.1:8080, until Ctrl-C
	@exec $(BIN)/fashion-mnist serve

# Two files at a time, in their order: the longest come first.
test: setup  ## Run every test, the real TorchServe's included
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Within 25 minutes; what was built before is not built again.
test-containers: setup  ## Build the images, bring the services up, and test them
	timeout --kill-after=120 1380 $(BIN)/python -m pytest -m containers tests/containers

# On a machine with a GPU: with the interpreter's own PyTorch, or another's (PYTHON=...), and without `make setup`. DRY_RUN=1
# goes through every step on the CPU.
GPU_PYTHON = $(if $(findstring file,$(origin PYTHON)),$(BIN)/python,$(PYTHON))

test-gpu:  ## Check on a GPU what is computed there, step by step (DRY_RUN=1: on the CPU)
	$(GPU_PYTHON) -m benchmarks.gpu test $(if $(DRY_RUN),--dry-run)

bench-gpu:  ## Measure what a GPU brings, beside the same machine's CPU (DRY_RUN=1: on the CPU)
	$(GPU_PYTHON) -m benchmarks.gpu bench $(if $(DRY_RUN),--dry-run)

gpu-bundle: setup  ## Pack what a machine with a GPU, PyTorch and no network lacks into gpu-bundle/
	$(BIN)/python -m deploy.gpu_bundle

test-containers-gpu: setup  ## Build the image for a GPU, bring it up on one and test it, where Docker and a GPU are
	timeout --kill-after=120 1380 $(BIN)/python -m pytest -m containers tests/containers/test_gpu.py

check: setup  ## Lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Put the code into the form that `make check` wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: setup  ## Train with the release recipe
	$(BIN)/fashion-mnist train --recipe release

bench: setup  ## Measure this service beside TorchServe as shipped and FastAPI
	$(BIN)/fashion-mnist bench

bench-peers: setup  ## Measure it beside other model servers, each tuned too
	$(BIN)/fashion-mnist bench peers

bench-ratios: setup  ## Fail where it is no longer as many times faster than others as it must be
	$(BIN)/fashion-mnist bench ratios

dashboards: setup  ## Write the JSON of Grafana's dashboards anew
	$(BIN)/python -m deploy.monitoring.dashboards

proto: setup  ## Make the Python of gateway/protocols/inference.proto anew
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. gateway/protocols/inference.proto

lock: setup  ## Pin today's newest versions anew
	$(BIN)/python requirements/lock.py

audit:  ## Fail where a pinned package has a known vulnerability that a newer version has not
	@$(PYTHON) -m requirements.audit

sbom:  ## Write a bill of materials of each image that the container engine has into sbom/
	@tools=$$($(PYTHON) -m requirements.environments) && $$tools/python -m deploy.sbom $(IMAGES)

clean:  ## Remove what was installed and built; runs/ stays
	rm -rf $(VENV) .venv.lock .venv-benchmarks .environments *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis model_store/fashion_mnist.mar sbom gpu-bundle
