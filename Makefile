# Needs make and Python 3.11 to 3.13; everything else is installed into .venv.
# Steps are plain commands: `make -n test` shows them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV ?= .venv
BIN := $(VENV)/bin
STEP := sh tools/step.sh
WORKERS ?= 2
PYTEST_ARGS ?=
# On a shared machine a test of real processes can starve: where CI is set it gets a second try, and is named (RERUN).
RERUNS := $(if $(CI),--reruns 1 -raR)
DEMO_ARGS ?=
PROMETHEUS ?= http://127.0.0.1:9090
PICTURES_ARGS ?=
DRAW := $(VENV)/boards

# A bytecode cache makes every start faster; some environments switch it off.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test setup parts lint unit e2e fault-tests bench soak judge-trials boards board-types board-pictures faults demo-models pipeline-example constraints clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Set up, then watch Haldane judge five canaries on real models (about 3 minutes)
	@$(BIN)/haldane demo $(DEMO_ARGS)

test: setup parts lint unit e2e fault-tests ## Set up, then run every check and test

setup: $(VENV)/.test ## Install everything, pinned, into .venv

parts: ## Install the programs tests run against (Debian: Prometheus, Alertmanager, Chromium)
	@$(STEP) "real parts" sh tools/install_parts.sh

lint: $(VENV)/.test ## Style, types, direction of imports
	@$(STEP) "ruff check" $(BIN)/ruff check .
	@$(STEP) "ruff format" $(BIN)/ruff format --check .
	@$(STEP) "mypy --strict" $(BIN)/mypy --strict
	@$(STEP) "import order" $(BIN)/lint-imports

unit: $(VENV)/.test ## Tests of parts, contracts, guarantees, documents; PYTEST_ARGS="-k wire" chooses among them
	@$(STEP) "tests of the parts" $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --max-worker-restart=1 \
		--ignore=tests/e2e --ignore=tests/fault $(RERUNS) $(PYTEST_ARGS)

# One after the other: these run whole fleets and judge latency, so they want the machine to themselves.
e2e: $(VENV)/.test ## Tests of the agent as a process: rollouts, releases, the demo, the tutorial
	@$(STEP) "tests of the whole" $(BIN)/python -m pytest tests/e2e --durations=8 $(RERUNS) $(PYTEST_ARGS)

fault-tests: $(VENV)/.test ## Tests of what breaks: killed agents and servers, full disks, cut networks, bad answers
	@$(STEP) "tests of faults" $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart=1 tests/fault \
		--durations=8 $(RERUNS) $(PYTEST_ARGS)

bench: $(VENV)/.test ## Start and memory of the agent, cost of judging, scraping, shadowing, each beside a plain reference
	@$(BIN)/python benchmarks/footprint.py
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/judge_cost.py
	@$(BIN)/python benchmarks/scrape.py
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/shadow.py
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/tensors.py

soak: $(VENV)/.test ## Ten minutes of shadowing with faults, then ten million pairs: none lost, memory flat (half an hour)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py wire
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py past

judge-trials: $(VENV)/.test ## The judge in thousands of simulated trials; writes docs/benchmarks.md (an hour or two)
	@OPENBLAS_NUM_THREADS=1 nice -n 10 $(BIN)/python benchmarks/judge.py --seed 0 --seed fresh --jobs $(WORKERS) \
		--table docs/benchmarks.md
	@OPENBLAS_NUM_THREADS=1 nice -n 10 $(BIN)/python benchmarks/answers.py --table docs/benchmarks.md

boards: $(VENV)/.test ## Write the Grafana boards in dashboards/ from tools/boards/
	@$(BIN)/python -m tools.boards

# Node and 600 MB for what is seldom needed: not part of `make test`.
board-types: $(DRAW)/.made ## Check the boards against Grafana's own TypeScript types (needs Node)
	@$(STEP) "types of the boards" $(BIN)/python -m tools.boards.types $(DRAW)

board-pictures: $(DRAW)/.made ## Draw the boards with Grafana's components, from PROMETHEUS=URL (needs Node)
	@$(BIN)/python -m tools.boards.pictures $(PICTURES_ARGS) $(PROMETHEUS) $(DRAW)

faults: $(VENV)/.test ## Every fault at every moment of a rollout on twenty servers; writes docs/reliability.md (an hour; as root)
	@rows=$$(mktemp) && HALDANE_FAULTS=all HALDANE_FAULT_ROWS=$$rows $(BIN)/python -m pytest tests/fault/test_matrix.py $(PYTEST_ARGS) && \
		$(BIN)/python tools/make_reliability.py $$rows docs/reliability.md; ended=$$?; rm -f $$rows; exit $$ended

demo-models: models/credit_risk/6 ## Write the demo's model, six versions, and its data to ./models, for docker-compose.yml

models/credit_risk/6: | $(VENV)/.demo
	@rm -rf models/credit_risk && mkdir -p models/credit_risk
	@$(STEP) "six versions of a model" $(BIN)/python -m haldane.demo.prepare --seed 0 --out models/credit_risk

pipeline-example: $(VENV)/.test ## Train, validate, publish and roll out a small model here, and end with the verdict (a minute or two)
	@run=$$(mktemp -d) && PATH="$(abspath $(BIN)):$$PATH" sh docs/examples/pipeline/run-locally.sh "$$run"; \
		ended=$$?; rm -rf "$$run"; exit $$ended

constraints: $(VENV)/.test ## Resolve constraints.txt anew from pyproject.toml, keeping pins that still fit
	@printf 'uv\nsetuptools>=77\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
		--no-header --no-annotate --no-emit-index-url pyproject.toml - -o constraints.txt

clean: ## Remove what was installed and built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@python=$$(sh tools/find_python.sh) && $(STEP) "a virtual environment in $(VENV)" "$$python" -m venv --clear $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt tools/install.sh | $(BIN)/python
	@$(STEP) "installing TensorFlow and the demo (2 GB; a minute or two the first time)" sh tools/install.sh $(VENV) demo
	@touch $@

$(DRAW)/.made: $(wildcard tools/boards/draw/*) | $(VENV)/.test
	@mkdir -p $(DRAW) && cp tools/boards/draw/* $(DRAW)
	@$(STEP) "installing Grafana's components (600 MB)" npm --prefix $(DRAW) install --no-audit --no-fund
	@$(STEP) "bundling them" npm --prefix $(DRAW) run build
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt tools/install.sh | $(BIN)/python
	@$(STEP) "installing everything the tests need (2.5 GB; a minute or two the first time)" sh tools/install.sh $(VENV) test
	@touch $@ $(VENV)/.demo
