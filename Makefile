# The names of what people type. Each target is one command of its room.

# Found where it is not named: make PYTHON=/path/to/python3.13
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup page-tools setup-train setup-test-embedded setup-everything serve test test-embedded test-containers test-gpu bench-gpu gpu-bundle test-containers-gpu check format train bench bench-peers bench-ratios proto dashboards lock audit hostile sbom docs reference clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Of the packages as many as are needed: `embedded` for ENGINE=embedded, `serve`, `train` or `everything`.
PACKAGES = $(if $(filter embedded,$(ENGINE)),embedded,serve)

setup:  ## Create .venv with what serving needs (WHEELS=cpu or WHEELS=cuda overrides the choice)
	@python=$$(requirements/find-python $(PYTHON)) && VENV=$(VENV) exec $$python requirements/install.py $(PACKAGES)

setup-train setup-test-embedded setup-everything:
	@$(MAKE) setup PACKAGES=$(@:setup-%=%)

# What checks the page; serving it takes none of it. Tests that need what is missing say so.
page-tools:
	@if ! command -v npm >/dev/null; then echo "page: install nodejs, npm and chromium to check it"; \
	elif ! [ page/node_modules/.package-lock.json -nt page/package-lock.json ]; then cd page && npm ci --no-progress --loglevel=error; fi

serve: setup  ## Serve the released model on 127.0.0.1:8080, until Ctrl-C (ENGINE=embedded: without TorchServe)
	@exec $(BIN)/fashion-mnist serve $(if $(ENGINE),--engine $(ENGINE))

# Two files at a time, in their order: the longest come first.
test: setup-everything page-tools  ## Run every test, the real TorchServe's included
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

EMBEDDED_TESTS := $(addprefix tests/core/,decoding/test_bodies.py decoding/test_hostile_files.py decoding/test_json_bodies.py \
	$(addprefix test_,$(addsuffix .py,addresses atomic checksums client drift errors evaluation predictions settings))) \
	$(addprefix tests/gateway/,models/test_batching.py protocols/test_oip_rest.py protocols/test_v1.py)
# Without TorchServe, Java and PyTorch, on any Python: make test-embedded PYTHON=python3.13 VENV=.venv-3.13
test-embedded: setup-test-embedded  ## Run the core's and the gateway's tests with the embedded engine
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -k "not in_front" $(EMBEDDED_TESTS)

# Within 25 minutes; what was built before is not built again.
test-containers: setup-everything  ## Build the images, bring the services up, and test them
	timeout --kill-after=120 1380 $(BIN)/python -m pytest -m containers tests/containers

# On a machine with a GPU: with the interpreter's own PyTorch, or another's (PYTHON=...), and without `make setup`. DRY_RUN=1
# goes through every step on the CPU.
GPU_PYTHON = $(or $(PYTHON),$(BIN)/python)

test-gpu:  ## Check on a GPU what is computed there, step by step (DRY_RUN=1: on the CPU)
	$(GPU_PYTHON) -m benchmarks.gpu test $(if $(DRY_RUN),--dry-run)

bench-gpu:  ## Measure what a GPU brings, beside the same machine's CPU (DRY_RUN=1: on the CPU)
	$(GPU_PYTHON) -m benchmarks.gpu bench $(if $(DRY_RUN),--dry-run)

gpu-bundle: setup-everything  ## Pack what a machine with a GPU, PyTorch and no network lacks into gpu-bundle/
	$(BIN)/python -m deploy.gpu_bundle

test-containers-gpu: setup-everything  ## Build the image for a GPU, bring it up on one and test it, where Docker and a GPU are
	timeout --kill-after=120 1380 $(BIN)/python -m pytest -m containers tests/containers/test_gpu.py

check: setup-everything page-tools  ## Lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if [ -x page/node_modules/.bin/tsc ]; then cd page && node_modules/.bin/tsc; fi

format: setup-everything  ## Put the code into the form that `make check` wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: setup-train  ## Train with the release recipe
	$(BIN)/fashion-mnist train --recipe release

bench: setup-everything  ## Measure this service beside TorchServe as shipped and FastAPI
	$(BIN)/fashion-mnist bench

bench-peers: setup-everything  ## Measure it beside other model servers, each tuned too
	$(BIN)/fashion-mnist bench peers

bench-ratios: setup-everything  ## Fail where it is no longer as many times faster than others as it must be
	$(BIN)/fashion-mnist bench ratios

dashboards: setup-everything  ## Write the JSON of Grafana's dashboards anew
	$(BIN)/python -m deploy.monitoring.dashboards

proto: setup-everything  ## Make the Python of gateway/protocols/inference.proto anew
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. gateway/protocols/inference.proto

lock: setup-everything  ## Pin today's newest versions anew (KEEP=1: move none that is pinned)
	$(BIN)/python requirements/lock.py $(if $(KEEP),--keep)

audit:  ## Fail where a pinned package has a known vulnerability that a newer version has not (REQUIRED=1: or nobody can say)
	@python=$$(requirements/find-python $(PYTHON)) && exec $$python -m requirements.audit $(if $(REQUIRED),--required)

hostile: setup-everything  ## Send what clients should not and break what machines break, and fail where something gives way (SHORT=1)
	$(BIN)/python -m tests.hostile $(if $(SHORT),--short)

sbom:  ## Write a bill of materials of each image that the container engine has into sbom/
	@python=$$(requirements/find-python $(PYTHON)) && tools=$$($$python -m requirements.environments tools) && $$tools/python -m deploy.sbom $(IMAGES)

docs:  ## Build the documentation into site/: fails on dead links, orphans, foreign hosts and the glossary's words
	@python=$$(requirements/find-python $(PYTHON)) && programs=$$($$python -m requirements.environments docs) && \
		$$programs/python -m deploy.documentation.prose && $$programs/python -m deploy.documentation.site

reference: setup-everything  ## Write the generated pages of docs/reference/ anew
	$(BIN)/python -m deploy.documentation.reference

clean:  ## Remove what was installed and built; runs/ stays
	rm -rf $(VENV) .venv.lock build .venv-benchmarks .environments *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis model_store/fashion_mnist.mar sbom site gpu-bundle page/node_modules
