# Every target sets itself up in .venv; only Python 3.11 or newer, make and pip are needed. But test-oldest has .venv-oldest,
# with Python 3.11, or OLDEST_PYTHON=... where that has another name.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
OLDEST_PYTHON ?= python3.11
OLDEST := .venv-oldest/bin
LATEX := apt install latexmk texlive-latex-recommended texlive-fonts-recommended lmodern

.PHONY: phase unmix reproduce figures paper paper-results latex test test-all test-oldest lint bench clean

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

phase: $(READY)  ## both published phase diagrams, exactly
	$(BIN)/superpose phase --out results/phase

unmix: $(READY)  ## a toy model's features, found again by sparse autoencoders
	$(BIN)/superpose unmix --out results/unmix

figures: phase  ## the README's figures from saved results; needs Chrome or chromium
	$(BIN)/python -m experiments.readme_figures

reproduce: $(READY)  ## every experiment at full size, and the table of its findings
	$(BIN)/superpose reproduce --out results/reproduce
	$(BIN)/python -m experiments.full_table

paper-results: phase reproduce  ## what the paper cites, taken from all full results
	$(BIN)/python -m paper.collect

paper: latex phase  ## paper/main.pdf from committed results; needs LaTeX, and Chrome or chromium
	$(BIN)/python -m paper.numbers
	$(BIN)/superpose figures phase-n2-m1 phase-n3-m2 --format pdf --columns 1 --out paper/figures
	cd paper && latexmk -pdf -quiet -interaction=nonstopmode -halt-on-error main.tex

latex:
	@command -v latexmk >/dev/null && command -v pdflatex >/dev/null || { echo "paper: needs LaTeX; on Debian, $(LATEX)"; exit 1; }

PYTEST := -m pytest -q -n 2 --dist worksteal

test: $(READY)  ## the test suite in float64, and in float32 what has a precision
	$(BIN)/python $(PYTEST) -m "not slow"
	SUPERPOSE_TEST_X64=0 $(BIN)/python $(PYTEST) -m "not slow and not x64"

OPTIMISED := XLA_FLAGS=--xla_backend_optimization_level=3

test-all: $(READY)  ## the same with the slow tests, and programs as users have them
	$(OPTIMISED) $(BIN)/python $(PYTEST)
	$(OPTIMISED) SUPERPOSE_TEST_X64=0 $(BIN)/python $(PYTEST) -m "not x64"

$(OLDEST)/.ready: pyproject.toml
	rm -rf .venv-oldest
	$(OLDEST_PYTHON) -m venv .venv-oldest
	$(OLDEST)/python -m pip install -q --disable-pip-version-check uv
	$(OLDEST)/uv pip install -q --python $(OLDEST)/python --resolution lowest-direct -e '.[figures,test]'
	@touch $@

test-oldest: $(OLDEST)/.ready  ## the tests with the lowest versions that pyproject.toml allows, in .venv-oldest
	$(OLDEST)/python $(PYTEST) -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(READY)  ## speed against PyTorch; needs the extra `bench`
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .venv-oldest .pytest_cache results
