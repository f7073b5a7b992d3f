# Everything is set up in .venv by the first call (for `make bench` in .venv-bench), and again only when what it is
# made of changes.

# The first of these on PATH that is new enough; `make run PYTHON=/opt/python3.13/bin/python3` to choose.
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
    $(name) -c 'import sys; (3, 11) <= sys.version_info < (3, 15) and print("$(name)")' 2>/dev/null)))

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PINS := requirements.txt requirements-build.txt

# What `make test` uses of Debian: the command that shows that it is there, and the package it comes from.
DEBIAN := nginx:nginx caddy:caddy haproxy:haproxy chromium:chromium promtool:prometheus fc-list:fontconfig

.DEFAULT_GOAL := help
.PHONY: help run demo test bench measure fuzz setup debian clean

help:
	@echo 'make run     start the sidecar; no settings needed'
	@echo 'make demo    the same behind nginx, with a page to sign in to'
	@echo 'make test    check and test everything'
	@echo 'make bench   measure everything, for some minutes, or ONLY some parts: make bench ONLY="cached gateway" ROUNDS=1'
	@echo 'make fuzz    look for requests that break the head and its metadata, for some minutes'
	@echo 'make clean   remove what these made (not ./var, where users and sessions are)'

run: $(VENV)/.installed
	@exec $(BIN)/python -m sidecar serve

demo: $(VENV)/.installed
	@exec $(BIN)/python -m demo

test: $(VENV)/.installed-for-tests debian
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python -m compileall -q sidecar  # which is started a hundred times
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --cov --cov-branch

# What is measured is what users install, in an environment of its own: some packages are slower to import, and larger,
# where one that the tests need is there as well (structlog and rich).
bench:
	@$(MAKE) --no-print-directory VENV=.venv-bench measure

measure: $(VENV)/.installed-for-bench
	@exec $(BIN)/python -m bench $(ROUNDS:%=--rounds=%) $(ONLY)

# What it finds is kept in .hypothesis, and tried first the next time.
fuzz: $(VENV)/.installed-for-tests
	$(BIN)/python -m pytest tests/test_fuzz.py --hypothesis-profile=fuzz

setup: $(VENV)/.installed-for-tests

# ensurepip is missing where Debian's python3-venv is: say what to do instead of leaving half a directory.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo 'Sidecar needs Python 3.11 to 3.14: none is on PATH. Name one with PYTHON=…' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 15) or sys.exit("Sidecar needs Python 3.11 to 3.14: $(PYTHON) is " + sys.version.split()[0] + ".")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'This Python cannot make virtual environments: install python3-venv.' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(PINS) pyproject.toml
	@echo 'Setting up $(VENV) (once)'
	@$(PIP) install $(PINS:%=--requirement %)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-for-bench: $(VENV)/.installed requirements-bench.txt
	@echo 'Setting up what draws the picture (once)'
	@$(PIP) install --requirement requirements-bench.txt
	@touch $@

$(VENV)/.installed-for-tests: $(VENV)/.installed requirements-bench.txt requirements-dev.txt
	@echo 'Setting up what the tests need (once)'
	@$(PIP) install --requirement requirements-dev.txt
	@touch $@

# Where it may not install them, the tests that need them are skipped and say so. RUNLEVEL=1: the packages do not
# start their services.
debian:
	@missing=; \
	for each in $(DEBIAN); do \
	    command -v "$${each%%:*}" >/dev/null || test -x "/usr/sbin/$${each%%:*}" || missing="$$missing $${each##*:}"; \
	done; \
	test -n "$$missing" || exit 0; \
	if test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null; then \
	    echo "Not installed, so some tests are skipped:$$missing" >&2; exit 0; \
	fi; \
	echo "Installing$$missing"; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	{ apt-get update -qq && apt-get install -qq --yes --no-install-recommends $$missing fonts-dejavu-core; } \
	    >$(VENV)/debian.log 2>&1 \
	    || echo "They could not be installed, so some tests are skipped; see $(VENV)/debian.log" >&2

clean:
	rm -rf $(VENV) .venv-bench build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
