# Every target sets itself up in .venv; only Python 3.11 or newer, make and pip are needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: phase figures test test-all lint bench clean

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

phase: $(READY)  ## both published phase diagrams, exactly
	$(BIN)/superpose phase --out results/phase

figures: phase  ## the README's figures from saved results; needs Chrome or chromium
	$(BIN)/python -m experiments.readme_figures

test: $(READY)  ## the test suite, in float64 and again in float32
	$(BIN)/python -m pytest -q -n 2 -m "not slow"
	SUPERPOSE_TEST_X64=0 $(BIN)/python -m pytest -q -n 2 -m "not slow"

test-all: $(READY)  ## the same with the slow tests
	$(BIN)/python -m pytest -q -n 2
	SUPERPOSE_TEST_X64=0 $(BIN)/python -m pytest -q -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(READY)  ## speed against PyTorch; needs the extra `bench`
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv results
