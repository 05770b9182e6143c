# Everything here needs Python ≥ 3.11 and make, and nothing else. The first target that is called makes
# the .venv, pinned by constraints.txt. `make demo` installs the base packages; the other targets install all.

PYTHON ?= python3
BIN := .venv/bin
BASE := .venv/.base
READY := .venv/.ready
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: install demo quick test slow check bench pictures clean

install: $(READY)  ## everything: more engines, the benchmarks, the tests

$(BASE): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) .
	@touch $(BASE)

$(READY): $(BASE)
	$(PIP_INSTALL) '.[all]'
	@touch $(READY)

demo: $(BASE)  ## the whole pipeline: 500,000 rides, two minutes, one page
	$(BIN)/ridelake demo

quick: $(READY)  ## the loop while editing: no server, no child process
	$(BIN)/pytest -q -m 'not slow and not child' tests/unit

# More workers than the two cores of a small machine: half of the time a test waits for a server or a clock.
test: $(READY)  ## the promises, on a real Postgres
	$(BIN)/pytest -n 4 --dist worksteal -m 'not slow'

slow: $(READY)  ## the same promises for longer: crashes by the dozen, minutes of random programs (RIDELAKE_TEST_SECONDS, 180)
	$(BIN)/pytest -n 3 --dist worksteal -m slow -s

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## all figures, which takes its time; `ridelake bench` takes six minutes, and --quick one
	$(BIN)/pytest bench --scale full --benchmark-columns=min,median,max,rounds

pictures: $(READY)  ## the pictures of the README, from real runs; needs Chromium
	$(BIN)/python tests/support/pictures.py

unexport PYTHONDONTWRITEBYTECODE  # each child process would compile everything again

clean:
	rm -rf .venv .ridelake .pytest_cache .mypy_cache .ruff_cache .benchmarks ridelake-demo.html ridelake-report.html
