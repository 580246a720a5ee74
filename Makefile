# Everything runs in .venv, which the first command makes. `make help` lists what there is.
SHELL := bash
BIN := .venv/bin
# The first Python that is new enough.
PYTHON ?= $(firstword $(foreach p,python3.11 python3 python3.12 python3.13 python3.14,\
	$(shell $(p) -c 'import sys, venv, ensurepip; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header $(if $(UPGRADE),--upgrade)

.PHONY: help run demo test test-all contract crash fuzz soak guards lint format bench browser promtool pictures docs lock clean

help: ## list these commands
	@grep -hE '^[a-z.][a-z.-]*:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv: .venv/.installed ## make the virtual environment that all other commands use

.venv/.installed: requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "Needed: Python 3.11 or newer, with its venv module (Debian: python3-venv)."; exit 1; }
	@echo "Installing into .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

run: .venv/.installed ## start Valkey, the web process and two workers; Ctrl-C stops them
	@exec $(BIN)/python -m dev.run

demo: .venv/.installed ## the same with a small database and an import of 283 records; DEMO_EXIT=1 ends after it
	@exec $(BIN)/python -m dev.demo

test: .venv/.installed ## run the tests, PostgreSQL's included
	$(BIN)/python -m pytest -n logical -m "not slow"

test-all: .venv/.installed ## run all tests, the slow ones too
	$(BIN)/python -m pytest -n logical

crash: .venv/.installed ## kill a worker at every call that it makes, and take its servers away; CRASH="--every 10 sqlite" does a part
	$(BIN)/python -m pytest -n logical tests/crash --ignore tests/crash/test_matrix.py
	$(BIN)/python -m tests.crash $(CRASH)

soak: .venv/.installed ## 20 clients against two web processes and two workers, one of which is killed every 20 s; SOAK_MINUTES=30
	$(BIN)/python -m tests.soak $(SOAK)

contract: .venv/.installed ## make requests of all kinds from the API's description, and hold the replies to it; CONTRACT_MINUTES=10
	$(BIN)/python -m tests.contract $(CONTRACT)

guards: .venv/.installed ## take each guard out and see its test fail; GUARDS="T38 T41" does some cases
	$(BIN)/python -m tests.guards $(GUARDS)

fuzz: .venv/.installed ## feed readers, converters and control files with made-up bytes; FUZZ_MINUTES=10 for each, FUZZ="json" for one
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/fuzz/requirements.txt
	$(BIN)/python -m tests.fuzz $(FUZZ)

browser: ## install the browser that the tests of the pages need, where there is none (Debian: as root)
	@command -v "$${CHROMIUM:-chromium}" chromium-browser google-chrome >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium; }

promtool: .venv/.installed ## fetch Prometheus's promtool, which the tests of the alerts need, where there is none (Debian)
	@command -v promtool $(BIN)/promtool >/dev/null || { folder=$$(mktemp -d) && cd $$folder \
	  && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; } } \
	  && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool > $(CURDIR)/$(BIN)/promtool \
	  && chmod +x $(CURDIR)/$(BIN)/promtool && rm -r $$folder; }

pictures: .venv/.installed ## take the pictures of the pages that the docs show
	PICTURES=$(CURDIR)/docs/pictures $(BIN)/python -m pytest -q tests/test_pages_browser.py

lint: .venv/.installed ## check style, types and known dangers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive . --configfile pyproject.toml

format: .venv/.installed ## bring the code into its form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: .venv/.installed ## measure speed and memory beside other ways to load the same rows
	$(BIN)/python -m bench

docs: .venv/.installed ## write the pages of docs/reference that are made from the code
	$(BIN)/python -m docs.generate

lock: .venv/.installed ## pin the packages of requirements*.in; UPGRADE=1 takes the newest
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-observe.in -o requirements-observe.txt
	$(COMPILE) requirements-oidc.in -o requirements-oidc.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) tests/fuzz/requirements.in -o tests/fuzz/requirements.txt
	@touch .venv/.installed

clean: ## remove .venv and all data under var
	rm -rf .venv var
