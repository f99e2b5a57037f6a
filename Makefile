# Every target sets up what it needs; see tools/set-up.sh.
.DEFAULT_GOAL := help
.PHONY: help demo demo-mixed run run-worker test check format proto docs bench bench-protocol bench-previews bench-wearing bench-parts bench-speedups bench-engine bench-durable bench-http bench-text bench-peers bench-crowd bench-realtime bench-workers bench-gpu test-gpu test-int8 demo-model-check fuzz chaos clean

PYTHON ?= python3
export PYTHON
# Before torch is loaded: OpenMP threads that spin beside another busy process make a small forward a hundred times slower.
export OMP_WAIT_POLICY ?= passive
BIN := .venv/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: .runtime ## paint ten prompts at once in ten styles and leave a contact sheet in outputs/
	@$(BIN)/python -m atelier demo

demo-mixed: .runtime ## thirty jobs of all kinds: see them join, be parked, be cancelled and leave
	@$(BIN)/python -m atelier demo --mixed --out outputs/mixed

run: .runtime ## serve until Ctrl-C
	@$(BIN)/python -m atelier serve

run-worker: .runtime ## take jobs from RabbitMQ until Ctrl-C; no door is open
	@ATELIER_ROLE=worker $(BIN)/python -m atelier serve

test: check ## lint, types and all tests
	@$(BIN)/pytest --numprocesses=2 --dist=loadfile --cov --cov-report=term-missing

check: .dev ## lint and types alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .dev ## put the code into its usual form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

proto: .dev ## make the modules in proto/ anew from the .proto files
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. proto/atelier.proto proto/atelier_udp.proto

docs: .dev ## make .env.example, docs/configuration.md and the table of docs/metrics.md anew
	@$(BIN)/python -m config.pages
	@$(BIN)/python -m factory.metrics_page

bench: bench-protocol bench-engine bench-previews bench-wearing bench-speedups bench-durable bench-http bench-text bench-peers bench-crowd bench-realtime bench-workers ## every benchmark, one after the other

bench-protocol: .dev ## round trips and idle connections, beside grpc.aio and FastAPI
	@$(BIN)/python -m bench.protocol

bench-previews: .dev ## what a preview costs, as a share of a step
	@$(BIN)/python -m bench.previews

bench-wearing: .dev ## what wearing adapters adds to a step, and what it must
	@$(BIN)/python -m bench.wearing

bench-parts: .dev ## steps made in parts side by side, beside threads that share each operation
	@$(BIN)/python -m bench.parts

bench-speedups: .dev ## what makes a pass quicker and what does not: layouts, threads, attention, warming up
	@$(BIN)/python -m bench.speedups

bench-engine: .dev ## the whole path, beside a diffusers pipeline behind a lock
	@$(BIN)/python -m bench.engine

bench-durable: .dev ## jobs a second beside Celery, and what durability adds to a job
	@$(BIN)/python -m bench.durable

bench-text: .dev ## texts of eight users in one batch, beside transformers behind a lock
	@$(BIN)/python -m bench.text

bench-http: .dev ## the HTTP door beside a bare FastAPI, under painting, and with a thousand listeners
	@$(BIN)/python -m bench.http

bench-peers: .dev ## ten users with ten styles beside LitServe, Ray Serve and FastAPI with a lock, each in an environment made for it
	@$(BIN)/python -m bench.beside

bench-crowd: .dev ## ten thousand connections, five hundred at work, a third of these slow: memory, and a good client's progress
	@$(BIN)/python -m bench.crowd

bench-realtime: .dev ## 200 live sessions at 30 Hz, frame in to datagram out; 1,000 UDP subscribers; a picture painted beside
	@$(BIN)/python -m bench.realtime

bench-workers: .dev ## two worker processes beside one, pictures a second
	@$(BIN)/python -m bench.workers

bench-gpu: .dev ## the engine at full size on a CUDA device, beside the pipeline and the device's own ceiling
	@$(BIN)/python -m bench.gpu

test-gpu: .dev ## the tests that need a CUDA device
	@$(BIN)/pytest -q -m gpu tests/gpu

test-int8: .dev ## the tests of int8 weights, with torchao, in the same .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-int8.txt
	@$(BIN)/pytest -q tests/ai/test_sparing.py

demo-model-check: .dev ## judge the embedded model, its styles and its scorer on prompts they were not trained on
	@$(BIN)/python -m models.check

fuzz: .dev ## a million frames at the wire core, a million datagrams at the UDP door
	@ATELIER_FUZZ_FRAMES=1000000 ATELIER_FUZZ_DATAGRAMS=1000000 $(BIN)/pytest -q tests/wire/test_fuzz.py tests/server/doors/udp/test_fuzz.py

chaos: .dev ## the kill test: 300 jobs while the server, the broker, the database and all else die again and again
	@$(BIN)/python -m tests.chaos

clean: ## remove what was made, the .venv too
	rm -rf .venv .bench build data outputs htmlcov .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf tests/wire/node_client/node_modules

.PHONY: .runtime .dev
.runtime:
	@tools/set-up.sh runtime
.dev:
	@tools/set-up.sh dev
