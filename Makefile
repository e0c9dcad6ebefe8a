# make demo             the whole chain on a synthetic set (12 minutes on two CPU cores after set-up)
# make demo DATA=path   the same on labelled micrographs: images/ with labels/ or segmaps/
# make test             the tests
PYTHON ?= python3
DATA ?=
MINUTES ?= 12
NAME ?= demo
BIN := .venv/bin

.PHONY: demo test test-fast lint format clean

demo: .venv/train.installed
	$(BIN)/python tools/demo.py name=$(NAME) minutes=$(MINUTES) $(if $(DATA),data=$(DATA))

test: .venv/test.installed
	$(BIN)/python -m pytest

test-fast: .venv/test.installed
	$(BIN)/python -m pytest -m "not slow"

lint: .venv/test.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: .venv/test.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/train.installed: setup.py | .venv/bin/python
	$(BIN)/pip install -e '.[train]'
	touch $@

.venv/test.installed: setup.py | .venv/bin/python
	$(BIN)/pip install -e '.[train,test]'
	touch $@ .venv/train.installed
