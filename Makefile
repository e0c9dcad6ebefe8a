# make demo             the whole chain on a synthetic set (12 minutes on two CPU cores after set-up)
# make demo DATA=path   the same on labelled micrographs: images/ with labels/ or segmaps/
# make release DATA=…   the model that comes with sempre, made anew (an hour and more on two CPU cores); BOXES=path: and on boxed particles
# make evaluate         frozen backbones side by side, its own FCMAE and DINO among them (15 minutes on two CPU cores)
# make study DATA=… UNLABELLED=…   ways to begin, sizes and numbers of images on your micrographs; PRESET=gpu-hour, DRY_RUN=yes (docs/study.md)
# make test             the tests
# make test-long        whole chains, papers' settings and trainings to their end
# make test-slurm       the batch scripts on a two-node Slurm cluster that is brought up for it (Debian, as root)
# make app              the cockpit in the browser: segment, find, plan
# make test-app         the cockpit in a real browser (Debian's chromium)
# make test-lower-bounds   a short chain with exactly the lower bounds of setup.py (some 7 GB in build/lower-bounds)
# make docs             the pages of docs/ as a site: build/site/index.html
# make minkowski        MinkowskiEngine as a second sparse encoder (5 to 15 minutes on two cores, once)
# make detectron2       detectron2, for finetune/detectron2_mask_rcnn.py (about eight minutes on two cores, once); SOURCE=path: of a checkout
PYTHON ?= python3
DATA ?=
MINUTES ?=
NAME ?=
BOXES ?=
UNLABELLED ?=
PRESET ?= $(if $(DATA),cpu-night,demo)
DRY_RUN ?=
SOURCE ?=
CHOSEN = $(if $(NAME),name=$(NAME)) $(if $(MINUTES),minutes=$(MINUTES)) $(if $(DATA),data=$(DATA))
BIN := .venv/bin
# Two workers of one thread each: much of the tests is starting programs, which takes one. One that crashes fails its
# test and leaves the rest to the other; pytest-xdist hangs where it starts another by file (3.8).
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0

.PHONY: demo release evaluate study app test test-fast test-long test-slurm test-app test-lower-bounds minkowski detectron2 docs lint format clean

demo: .venv/train.installed
	$(BIN)/python tools/demo.py $(CHOSEN)

release: .venv/train.installed
	$(BIN)/python tools/release.py $(CHOSEN) $(if $(BOXES),boxes=$(BOXES))

evaluate: .venv/train.installed
	$(BIN)/python tools/evaluate.py $(CHOSEN)

study: .venv/train.installed
	$(BIN)/python tools/study.py configs/studies/$(PRESET).yaml $(if $(NAME),name=$(NAME)) $(if $(DATA),data=$(DATA)) \
		$(if $(UNLABELLED),unlabelled=$(UNLABELLED)) $(if $(DRY_RUN),dry_run=true)

app: .venv/app.installed
	$(BIN)/sempre app

test: .venv/test.installed
	$(PYTEST)

test-fast: .venv/test.installed
	$(PYTEST) -m "not slow and not long and not slurm and not browser"

test-long: .venv/test.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

test-slurm: .venv/test.installed
	$(BIN)/python -m pytest tests/slurm -m slurm

test-app: .venv/test.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/app -m browser

test-lower-bounds: .venv/train.installed
	$(BIN)/python tools/lower_bounds.py

minkowski: .venv/train.installed
	tools/install_minkowski.sh $(BIN)/python

detectron2: .venv/train.installed
	tools/install_detectron2.sh $(BIN)/python $(SOURCE)

docs: .venv/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: .venv/test.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

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

.venv/app.installed: setup.py | .venv/bin/python
	$(BIN)/pip install -e '.[train,app]'
	touch $@ .venv/train.installed

.venv/test.installed: setup.py | .venv/bin/python
	$(BIN)/pip install -e '.[train,test]'
	touch $@ .venv/train.installed

.venv/docs.installed: setup.py | .venv/bin/python
	$(BIN)/pip install -e '.[docs]'
	touch $@
