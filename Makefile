# Everything a developer types. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BUF_VERSION := 1.75.0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch comes first and alone: with it in place, nothing below can pull in another build of it.
$(VENV)/.worker: pyproject.toml constraints.txt client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@echo "installing into $(VENV): a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -c constraints.txt torch
	@$(PIP) -c constraints.txt --editable '.[worker]' --editable ./client
	@touch $@

# The last five would bring builds of torch of their own: everything else they need is in the extra.
$(VENV)/.dev: $(VENV)/.worker
	@echo "installing the development tools"
	@$(PIP) -c constraints.txt --editable '.[worker,onnx,export,tracing,train,dev,docs,oracles]'
	@$(PIP) -c constraints.txt --no-deps torchvision timm grad-cam torchcam zennit
	@touch $@

# Stock clients of the Open Inference Protocol, for their tests: they want another protobuf, so they live apart.
STOCK := tests/service/inference/stock/requirements.txt
$(VENV)/.clients: $(VENV)/.worker $(STOCK)
	@echo "installing the stock clients"
	@$(PYTHON) -m venv $(VENV)/clients
	@$(VENV)/clients/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $(STOCK) \
		&& touch $@ || echo "the stock clients cannot be installed: their tests will be skipped"

.PHONY: setup
setup: $(VENV)/.worker ## Install what the service needs into .venv

.PHONY: demo
demo: $(VENV)/.worker ## Start the service, explain a photograph, write build/demo/*.png
	@$(BIN)/python scripts/demo.py

.PHONY: serve
serve: $(VENV)/.worker ## Run the service until Ctrl-C
	@$(BIN)/whylight serve

.PHONY: test
test: $(VENV)/.dev $(VENV)/.clients lint ## Check the code and pass all tests
	@$(BIN)/python -m pytest

.PHONY: lint
lint: $(VENV)/.dev ## ruff, mypy, import contracts, generated code up to date
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/generate_protos.py --check

.PHONY: docs
docs: $(VENV)/.dev ## Build the site of docs/ into build/site
	@$(BIN)/python -m mkdocs build --strict

.PHONY: protos
protos: $(VENV)/.dev ## Generate the Python code of protos/
	@$(BIN)/python scripts/generate_protos.py

.PHONY: lint-protos
lint-protos: $(VENV)/.dev ## buf's STANDARD rules on protos/ (needs npm)
	@npm install --silent --no-save --no-package-lock --prefix build/buf @bufbuild/buf@$(BUF_VERSION)
	@rm -rf build/buf/protos && $(BIN)/python scripts/generate_protos.py --lay-out build/buf/protos
	@cd build/buf/protos && ../node_modules/.bin/buf lint

.PHONY: archives
archives: $(VENV)/.worker ## Build the model archives of model_store/models.toml
	@$(BIN)/python -m model_store

.PHONY: train
train: $(VENV)/.dev ## Train both default models again (about 20 minutes each)
	@$(BIN)/python -m model_store.digits.train --model cnn
	@$(BIN)/python -m model_store.digits.train --model vit

.PHONY: bench
bench: $(VENV)/.dev ## Cost of Grad-CAM beside plain forward passes and the peers
	@$(BIN)/python -m benchmarks.grad_cam_cost

.PHONY: methods
methods: $(VENV)/.dev ## Agreement and cost of every method on seven networks (an hour)
	@$(BIN)/python -m benchmarks.methods

.PHONY: architectures
architectures: $(VENV)/.dev ## Check every architecture of the tables; write docs/architectures.md and docs/benchmarks/onnx_files.md
	@$(BIN)/python -m benchmarks.architectures --output docs/architectures.md
	@$(BIN)/python -m benchmarks.onnx_files --output docs/benchmarks/onnx_files.md

.PHONY: gallery
gallery: $(VENV)/.dev ## Draw every method by both default models into docs/
	@$(BIN)/python -m scripts.gallery

.PHONY: localisation
localisation: $(VENV)/.dev ## Do the maps lie where the object is? Asked of the running service
	@$(BIN)/python -m benchmarks.localisation --output docs/benchmarks/localisation.md

.PHONY: reliability
reliability: $(VENV)/.dev ## Kill, stall, overload and stop the service; write docs/reliability.md
	@$(BIN)/python -m benchmarks.reliability --output docs/reliability.md

.PHONY: whole-service
whole-service: $(VENV)/.dev ## The service beside TorchServe alone and a bare server (8 minutes)
	@$(BIN)/python -m benchmarks.service --output docs/performance.md

.PHONY: clean
clean: ## Remove everything that was built
	@rm -rf build dist client/build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache model_store/*.mar

.PHONY: distclean
distclean: clean ## ... and the virtual environment
	@rm -rf $(VENV)
