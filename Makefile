# Every target sets up .venv by itself; nothing but python3 (3.11 or later) and make is needed.
# Recipes are silent: what a command prints on standard output is all that is there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := -m pip --quiet --disable-pip-version-check --no-input
CODE   := src tests benchmarks
ARGS   ?=

.PHONY: run test lint format bench soak fuzz lock clean
.SILENT:
.DELETE_ON_ERROR:

run: $(STAMP)
	$(BIN)/bookrunner run --demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py $(ARGS)

soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py $(ARGS)

fuzz: $(STAMP)
	$(BIN)/python -m pytest -n auto tests/property tests/conformance/test_conformance_fuzz.py --hypothesis-profile=long $(ARGS)

# Everything comes pinned from the lock; the package itself is built by the pinned hatchling.
$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || { echo "setting up $(VENV) ..." >&2; $(PYTHON) -m venv $(VENV); }
	$(BIN)/python $(PIP) install --requirement requirements.lock >&2
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation --editable . >&2
	$(BIN)/python -m bookrunner.app.commands.compile_kernels >&2
	touch $@

# Resolved afresh in an environment of its own, so that nothing installed by hand slips in.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python $(PIP) install --editable '.[dev]' >&2
	$(VENV)-lock/bin/python -m pip freeze --exclude-editable > requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(VENV)-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
