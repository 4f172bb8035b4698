# `make demo` and `make test` need only Python: they create a virtual environment and install into it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: demo test soak lint clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(READY) ## train, export, evaluate and verify, on synthetic faces
	PATH="$(CURDIR)/$(BIN):$$PATH" bash demo.sh

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy --explicit-package-bases benchmarks/*.py

test: $(READY) lint ## ruff, mypy and all tests but the long ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not soak' -q

soak: $(READY) ## the long trials: hundreds of kill -9, fuzzing, other packages' clients
	$(BIN)/python -m pytest -m soak -v --timeout 7200

clean:
	rm -rf $(VENV) build dist *.egg-info
