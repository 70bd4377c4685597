# Two commands set up everything in a virtual environment of their own:
#   make demo    install the runtime and classify real sentences with the model that comes along
#   make test    install what training and tests need too, check style and types, run all tests
# Long forms of tests (every instruction set, more examples) are run by: make test-long
# Ray and Spark are tested on clusters that it starts here by: make test-clusters
# One more checks what a Raspberry Pi computes, on an emulated one:
#   make test-arm64    set up an aarch64 Python (no root needed on Debian), run kernels and models on it
# One compiles the kernels of a checkout again after a change: make library
# One builds what others install, for every machine that there are kernels for: make wheels    three files in dist/
# And one builds the pages: make docs    a site of docs/, README and the docstrings, in build/site; with npm, the demo, too
# One tries the pages in a browser: make test-browser    needs npm and Chromium (apt install npm chromium)
# And one measures: make bench-kernels [ONLY="xnor_gemm or NumKong"] [RECORD=1]
# And one takes long: make soak   100,000 calls, printing the resident size: fails if it grows

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

KERNELS := $(shell find kernels/bebert_kernels -name '*.py')
LIBRARY := kernels/bebert_kernels/ahead/libraries/index.json
TOOLS := $(VENV)/wheel-tools
DEMO := build/demo/files.js
DEMO_SOURCES := $(wildcard docs/demo/* docs/demo/.npmrc bebert_infer/demo_model/* export/bebert_export/packed_onnx/*.py) \
	bebert_infer/server/page.css bebert_infer/server/answer.js

.PHONY: demo test pytest library wheels test-long test-clusters docs test-browser test-arm64 test-arm64-short lint types format \
	fuzz bench-kernels soak clean

demo: $(VENV)/.runtime
	$(BIN)/bebert demo

test: lint
	$(MAKE) --no-print-directory --jobs 2 types pytest # side by side: mypy keeps one core busy, and not to the end

pytest: $(VENV)/.everything $(LIBRARY)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --ignore tests/clusters

test-long: $(VENV)/.everything $(LIBRARY)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --ignore tests/clusters -m long

# On real clusters of this machine, with packages of a gigabyte that nothing else needs; without Java Spark's are skipped.
test-clusters: $(VENV)/.clusters $(LIBRARY)
	$(BIN)/python -m pytest tests/clusters

library: $(LIBRARY)

$(LIBRARY): $(KERNELS) | $(VENV)/.everything
	PYTHONPATH=kernels $(BIN)/python -m bebert_kernels.compile.libraries here

# Twice the sources, and of each a wheel: the second archive of sources has the bytes of the first. Without SOURCE_DATE_EPOCH
# files are of a fixed date. auditwheel says which systems the wheels fit.
wheels: $(TOOLS)/.done
	rm -rf dist
	BEBERT_TARGETS=x86_64 $(TOOLS)/bin/python -m build --quiet --no-isolation
	BEBERT_TARGETS=aarch64 $(TOOLS)/bin/python -m build --quiet --no-isolation
	for wheel in dist/*.whl; do $(TOOLS)/bin/auditwheel show $$wheel || exit 1; done
	ls -l dist

docs: $(VENV)/.everything
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory $(DEMO); \
	else echo "npm is not installed: the site gets the demo that was built before, or none (docs/demo.md)"; fi
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open build/site/index.html"

$(DEMO): $(DEMO_SOURCES) | $(VENV)/.everything $(LIBRARY)
	$(BIN)/python docs/demo/build.py build/demo

# Without Chromium the tests would skip, and so would have passed.
test-browser: $(VENV)/.everything $(DEMO)
	@command -v "$${BEBERT_CHROMIUM:-chromium}" > /dev/null || { echo "there is no chromium; install it, or name one in BEBERT_CHROMIUM"; exit 1; }
	$(PIP) '$(shell grep "^playwright==" constraints.txt)'
	DEMO_FOLDER=build/demo $(BIN)/python -m pytest tests/browser --numprocesses 2 --dist loadfile

soak: $(VENV)/.everything
	$(BIN)/python tests/helpers/soak.py

# WHEEL=dist/…aarch64.whl names the wheel that is tested; tests/arm64/install.py says what is without it.
test-arm64: $(VENV)/.everything
	sh tests/arm64/run.sh $(abspath $(BIN)/python) full $(WHEEL)

test-arm64-short: $(VENV)/.everything
	sh tests/arm64/run.sh $(abspath $(BIN)/python) short $(WHEEL)

lint: $(VENV)/.everything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.everything
	$(BIN)/mypy

format: $(VENV)/.everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Fuzz the loading of models for FUZZ_SECONDS; led by coverage where atheris has a wheel for this Python, else at random.
FUZZ_SECONDS ?= 120
fuzz: $(VENV)/.everything
	-$(PIP) --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/model_folder.py $(FUZZ_SECONDS)

bench-kernels: $(VENV)/.everything
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks/kernel_bench/test_kernels.py --quiet --benchmark-enable --benchmark-quiet \
		--benchmark-warmup=on --benchmark-max-time=0.5 --benchmark-min-rounds=20 \
		$(if $(ONLY),-k "$(ONLY)") $(if $(RECORD),--record)

clean:
	rm -rf $(VENV) .arm64 build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bebert-infer needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

# An editable install compiles the kernels, in a process that has a compiler; what is installed has none.
$(VENV)/.runtime: $(BIN)/python pyproject.toml setup.py constraints.txt $(KERNELS)
	$(PIP) --editable .
	touch $@

$(TOOLS)/.done: $(BIN)/python pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		auditwheel build llvmlite numba numpy setuptools ziglang
	touch $@

$(VENV)/.clusters: $(VENV)/.everything
	$(PIP) --editable '.[ray,spark]'
	touch $@

$(VENV)/.everything: $(BIN)/python pyproject.toml setup.py constraints.txt
	$(PIP) --editable '.[train,bench,dev]'
	touch $@ $(VENV)/.runtime
