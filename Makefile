# One entry per action; `make help` lists them. Everything is installed into .venv, and again only when a list of
# requirements changes. PYTHON=python3.12 chooses the interpreter of a new .venv.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
RUN := $(VENV)/.run.stamp
DEV := $(VENV)/.dev.stamp
BENCH := $(VENV)/.bench.stamp
PYTHON ?=
# Tests wait more than they work, so two at a time pay on one core too. A worker that has none left takes some of the other's.
WORKERS ?= 2
BESIDE := --numprocesses $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help run test lint types format coverage bench soak

help: ## list the actions
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

run: $(RUN) ## start the gateway (on its sandbox unless credentials are set)
	@exec $(PY) server.py

test: $(DEV) ## run all tests
	@exec $(PY) -m pytest $(BESIDE)

lint: $(DEV) ## ruff, its formatting, and the rooms' import rules
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache

types: $(DEV) ## mypy, strict
	$(PY) -m mypy

format: $(DEV) ## put imports and layout in order
	$(PY) -m ruff check --fix-only --select I,RUF022 .
	$(PY) -m ruff format .

coverage: $(DEV) ## run all tests and report the branches that none took
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(BESIDE)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

bench: $(BENCH) ## measure against the peers of docs/benchmarks.md
	@exec $(PY) -m tests.bench

soak: $(DEV) ## kill it 1,000 times for each store, and count; may be broken off and goes on
	@exec $(PY) -m tests.soak kills

$(RUN): requirements.txt $(PY)
	@$(PIP) -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt requirements.txt $(PY)
	@$(PIP) -r requirements-dev.txt
	@touch $@

$(BENCH): tests/bench/requirements.txt $(DEV)
	@$(PIP) -r tests/bench/requirements.txt
	@touch $@

# The interpreter is a link out of .venv: where it leads nowhere any more, .venv is made anew.
$(PY):
	@found=; for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
	    if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Python 3.11, 3.12 or 3.13 is needed$(if $(PYTHON), (PYTHON=$(PYTHON) is none)):" \
	        "apt install python3 python3-venv (Debian, Ubuntu) or dnf install python3.13 (Fedora)" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    version=$$("$$found" -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
	    echo "$$found has no venv with pip:" \
	        "apt install $$version-venv (Debian, Ubuntu) or dnf install python3-pip (Fedora)" >&2; exit 1; \
	fi; \
	trap 'rm -rf "$(VENV)"; exit 1' INT TERM HUP; \
	"$$found" -m venv --clear "$(VENV)" || { rm -rf "$(VENV)"; exit 1; }
