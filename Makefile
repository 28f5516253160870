# make demo    set-up, then the whole pipeline on the embedded default
# make test    set-up, then lint, types and all tests
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv dev demo test lint lab soak clean

help:           ## this list
	@grep -E '^[a-z]+: .*##' Makefile | sed 's/: .*##/\t/'

venv: $(VENV)/.installed            ## make .venv and install requirements.txt

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-compile $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m compileall -qq $(VENV)/lib & $(PIP) --no-compile -r requirements.txt && wait  # on a core each
	touch $@

dev: $(VENV)/.installed-dev         ## the same, and what lint and tests need

$(VENV)/.installed-dev: requirements-dev.txt requirements-embeddings.txt requirements-lab.txt $(VENV)/.installed
	$(PIP) -r requirements-dev.txt
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # once, for the many processes of the tests
	touch $@

demo: venv      ## SFT, reward model, PPO and report on the embedded default
	$(BIN)/python main.py --phase all

lint: dev       ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint      ## lint, types, all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 10

lab: $(VENV)/.installed-lab         ## every experiment of the lab, in full, into docs/results/lab
	for name in bandits tabular dqn ppo chat; do \
		$(BIN)/python -m lab.$$name --out docs/results/lab || exit; done
	$(BIN)/python -m benchmarks.lab_vs_sb3 --out docs/results/lab
	$(BIN)/python -m lab.report

$(VENV)/.installed-lab: requirements-lab.txt $(VENV)/.installed
	$(PIP) -r requirements-lab.txt
	touch $@

soak: dev       ## kill loops, load and sweeps at full count
	SOAK=1 $(BIN)/python -m pytest -m slow --durations 10

clean:          ## remove the virtual environment; results under models/ stay
	rm -rf $(VENV)
