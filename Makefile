# Everything that is done with this repository. `make` lists it; each target makes .venv when it is missing.
# Works with GNU make 3.81 (macOS) and later. Another interpreter: make PYTHON=python3.13 test

# The first interpreter that is new enough.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
PIP_ARGS ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-quickstart
DEV := $(VENV)/.installed-dev
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-all lint format bench

help: ## list the targets / 列出所有目标
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: $(RUN) ## one model through its whole life, about ten minutes / 走完一个模型的一生，约十分钟
	$(BIN)/danlu quickstart $(ARGS)

test: $(DEV) ## the fast tests / 快速测试
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

test-all: $(DEV) ## all tests, downloads included / 全部测试，会下载数据
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'slow or not slow' $(ARGS)

lint: $(DEV) ## style and types / 代码风格与类型检查
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

format: $(DEV) ## mend what a tool can mend / 自动整理代码
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) ## measure against others, write bench/RESULTS.md / 与同类对比测量
	@mkdir -p bench/results
	@set -e; for script in bench/[!_]*.py; do \
		name=$$(basename $$script .py); \
		if [ $$name = report ]; then continue; fi; \
		echo "$$script"; \
		$(BIN)/python $$script --json bench/results/$$name.json; \
	done
	$(BIN)/python bench/report.py

$(BIN)/pip:
	@test -n '$(PYTHON)' || { echo 'danlu needs Python 3.11 or newer: make PYTHON=/path/to/python3 ...'; \
		echo '需要 Python 3.11 或更高版本：make PYTHON=/path/to/python3 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: done once, and again when the pins change. What developers need includes what running needs.
$(RUN): pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) '.[quickstart]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) '.[dev]'
	@touch $(RUN) $@
