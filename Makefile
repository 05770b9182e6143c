# All targets need only Python ≥ 3.11 and make. The first target that is called creates .venv with the versions of
# constraints.txt. `make demo` installs the base packages; the other targets install all packages.

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

demo: $(BASE)  ## the whole pipeline: 500,000 rides, one page
	$(BIN)/ridelake demo

quick: $(READY)  ## the loop while editing: no server, no child process
	$(BIN)/pytest -q -m 'not slow and not child' tests/unit

# More workers than the two cores of a small machine, because tests wait for a server or a clock half of the time.
test: $(READY)  ## the promises, on a real Postgres
	$(BIN)/pytest -n 4 --dist worksteal -m 'not slow'

slow: $(READY)  ## the slow tests: dozens of crashes, minutes of random operations (RIDELAKE_TEST_SECONDS, 180)
	$(BIN)/pytest -n 3 --dist worksteal -m slow -v

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## all figures, slow; `ridelake bench` takes six minutes, `ridelake bench --quick` one
	$(BIN)/pytest bench --scale full --benchmark-columns=min,median,max,rounds

pictures: $(READY)  ## the pictures of the README, from real runs; needs Chromium
	$(BIN)/python tests/support/pictures.py

unexport PYTHONDONTWRITEBYTECODE  # with it, each child process would compile everything again

clean:
	rm -rf .venv .ridelake .pytest_cache .mypy_cache .ruff_cache .benchmarks ridelake-demo.html ridelake-report.html
