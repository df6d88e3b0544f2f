# Every target sets up .venv by itself; nothing but python3 and make is needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=

.PHONY: run test lint format bench soak fuzz lock clean
.SILENT:

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || { echo "setting up $(VENV) ..." >&2; $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock 1>&2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . 1>&2
	touch $@

run: $(STAMP)
	$(BIN)/bookrunner run --demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py $(ARGS)

soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py $(ARGS)

fuzz: $(STAMP)
	$(BIN)/python -m pytest -n 2 tests/property --hypothesis-profile=long $(ARGS)

lock: $(STAMP)
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
