# Every target sets up what it needs; see tools/set-up.sh.
.DEFAULT_GOAL := help
.PHONY: help demo run test check format proto docs bench bench-protocol bench-engine demo-model-check fuzz clean

PYTHON ?= python3
export PYTHON
# Before torch is loaded: OpenMP threads that spin beside another busy process make a small forward a hundred times slower.
export OMP_WAIT_POLICY ?= passive
BIN := .venv/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: .runtime ## paint ten prompts at once and leave a contact sheet in outputs/
	@$(BIN)/python -m atelier demo

run: .runtime ## serve until Ctrl-C
	@$(BIN)/python -m atelier serve

test: check ## lint, types and all tests
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

check: .dev ## lint and types alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .dev ## put the code into its usual form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

proto: .dev ## make proto/atelier_pb2.py anew from proto/atelier.proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. proto/atelier.proto

docs: .dev ## make .env.example and docs/configuration.md anew from config/settings.py
	@$(BIN)/python -m config.pages

bench: bench-protocol bench-engine ## every benchmark, one after the other

bench-protocol: .dev ## round trips and idle connections, beside grpc.aio and FastAPI
	@$(BIN)/python -m bench.protocol

bench-engine: .dev ## the whole path, beside a diffusers pipeline behind a lock
	@$(BIN)/python -m bench.engine

demo-model-check: .dev ## judge the embedded model on 500 prompts it was not trained on
	@$(BIN)/python -m models.check

fuzz: .dev ## a million frames at the wire core
	@ATELIER_FUZZ_FRAMES=1000000 $(BIN)/pytest -q tests/wire/test_fuzz.py

clean: ## remove what was made, the .venv too
	rm -rf .venv build data outputs htmlcov .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf tests/wire/node_client/node_modules

.PHONY: .runtime .dev
.runtime:
	@tools/set-up.sh runtime
.dev:
	@tools/set-up.sh dev
