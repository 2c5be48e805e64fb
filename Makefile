# Tutti: what a developer types. `make help` lists it.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.tutti-setup
NATIVE := $(VENV)/.tutti-native
# Extra arguments for installing torch alone, for instance an index of CPU-only builds.
TORCH_PIP_ARGS ?=
# Extra arguments for pytest: make test PYTEST_ARGS="tests/cli -x"
PYTEST_ARGS ?=
# How long `make fuzz` goes on.
MINUTES ?= 10
# Extra arguments for the comparison: make bench BENCH_ARGS="--quick"
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup native sanitize demo test test-fast fuzz lint format bench bench-gpu pico pico-eval clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/:/' | awk -F: '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(NATIVE)  ## make .venv with everything in it (nothing to do the second time)

# torch first and alone: whatever comes later meets it installed and leaves it as it is.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tutti needs Python 3.11 or newer; set PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_PIP_ARGS) "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
# A reference that tests compare with; what it asks for (another transformers) is left out, and not needed.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "qwen-tts==0.1.1"
	@touch $@

native: $(STAMP)  ## build the optional native CPU kernels, where a C++ compiler is
	$(BIN)/python -m tutti.kernels.cpu.build

# The kernels' tests on modules with sanitizers; the usual modules are built again behind them.
sanitize: $(STAMP)  ## the kernels' tests with address and undefined-behaviour sanitizers
	$(BIN)/python -m tutti.kernels.cpu.build --sanitize
	LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
		$(BIN)/python -m pytest -q -p no:cacheprovider tests/kernels $(PYTEST_ARGS); \
		status=$$?; $(BIN)/python -m tutti.kernels.cpu.build && exit $$status

# The same when its sources have changed; without a compiler it says so, and all goes on.
$(NATIVE): $(STAMP) tutti/kernels/cpu/build.py $(wildcard tutti/kernels/cpu/src/*)
	@$(BIN)/python -m tutti.kernels.cpu.build || echo "native kernels were not built; the torch kernels serve instead"
	@touch $@

demo: $(NATIVE)  ## pico reads, sees, hears, speaks and draws: in the terminal, over HTTP by the OpenAI SDK, and in Python
	$(BIN)/python docs/demo.py

test: lint $(NATIVE)  ## lint, then every test
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

test-fast: lint $(NATIVE)  ## the same without the tests of more than a minute
	$(BIN)/python -m pytest -q -m "not slow" $(PYTEST_ARGS)

fuzz: $(STAMP)  ## damaged GGUF files, for MINUTES=10; needs atheris: pip install -e ".[fuzz]"
	$(BIN)/python -m tests.fuzz.gguf --minutes $(MINUTES)

lint: $(STAMP)  ## ruff, mypy, the floors, model names in the core
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/house/names.py
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(STAMP)  ## let ruff arrange the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(NATIVE)  ## the paired table against other systems on this machine (installs them first; an hour or more)
	bench/peers/setup.sh
	$(BIN)/python -m bench.peers $(BENCH_ARGS)

bench-gpu: $(NATIVE)  ## the same workloads on a GPU, ours alone
	$(BIN)/python -m bench.gpu

pico: $(STAMP)  ## train the demonstration model anew, stage after stage (resumes; two to three hours on two cores)
	$(BIN)/python -m pico

pico-eval: $(NATIVE)  ## ask pico the held-out prompts, in writing, aloud and with pictures, and look at and listen to its answers
	$(BIN)/python -m pico.evaluate
	$(BIN)/python -m pico.evaluate_senses
	$(BIN)/python -m pico.speaking
	$(BIN)/python -m pico.drawing

clean:  ## remove caches and build outputs (keeps .venv)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
