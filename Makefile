# Every target sets up what it needs; a fresh machine has Python 3.11 or newer, make and git.
# `make help` lists the targets: the text behind ## is what it shows.

PYTHON ?= python3
VENV ?= .venv
# The programs of others need versions of their own.
PROGRAMS ?= .venv-programs
# So do those against which we are measured.
PEERS ?= .venv-bench
# Programs whose requirements clash with those of the others: an environment for each file.
ENVIRONMENTS = $(patsubst tests/programs/environments/%.txt,$(PROGRAMS)/environments/%/.installed,\
	$(wildcard tests/programs/environments/*.txt))
ARGS ?=
# One file or one test, as path::name.
ONE ?=
# Finds more, and takes half as long again; CI goes without.
MODE ?= -X dev
NAME ?=
SEED ?= 1
SECONDS ?= 30

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PARTS := admin bench dev holdline_client jobs runtime server tests worker
# A part that is missing must not hide the faults of the others.
PRESENT = $(wildcard $(PARTS))
TSC := tests/web/node_modules/.bin/tsc

# The certificates of the system: a company's proxy that intercepts TLS has its own there.
UV := $(BIN)/uv --system-certs

.PHONY: help setup setup-tests run test programs check check-python check-web bench chaos soak fuzz nightly screenshots lock clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: $(VENV)/.installed ## make .venv with what the program needs

run: $(VENV)/.installed ## everything at http://127.0.0.1:8080 with a simulated model [ARGS=--reload]
	@exec $(BIN)/python -m dev $(ARGS)

test: $(VENV)/.installed-dev ## all tests but the heavy ones, or one file or test [ONE=path::name] [ARGS="-k resume"]
	@$(BIN)/python $(MODE) -m pytest $(if $(ONE),-n 0 $(ONE),-n 2 --dist loadfile --no-loadscope-reorder -m "not heavy") $(ARGS)

# What `make test` and `make programs` need; with PROGRAMS in the environment one runs both.
setup-tests: $(VENV)/.installed-dev $(PROGRAMS)/.installed tests/programs/node_modules/.installed

# Programs that nobody here wrote, against a server of ours, and one as its model.
programs: setup-tests $(ENVIRONMENTS) ## other people's clients and proxies, unmodified
	@PROGRAMS=$(abspath $(PROGRAMS)) $(BIN)/python -X dev -m pytest -n 0 tests/programs $(ARGS)

check: check-python check-web ## lint, format, types, layers

check-python: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PRESENT)
	$(BIN)/lint-imports

# Without Node the page's code is served all the same; only its types go unchecked, and CI has Node.
check-web:
	@if command -v npm >/dev/null; then \
	$(MAKE) --no-print-directory --silent $(TSC) && echo "tsc --project tests/web" && $(TSC) --project tests/web; \
	elif [ -n "$$CI" ]; then echo "CI is set and npm is missing: install Node.js" >&2; exit 1; \
	else echo "npm is missing: the types of web/ are not checked"; fi

# A peer that cannot be installed is left out of the comparison, which says so.
bench: $(VENV)/.installed-dev ## measure [NAME=P3] [ARGS=--quick]
	@$(MAKE) --no-print-directory --silent $(PEERS)/.installed || echo "the peers in Python are left out"
	@if command -v npm >/dev/null; then \
	$(MAKE) --no-print-directory --silent bench/peers/node_modules/.installed; fi || echo "the peers for Node.js are left out"
	@BENCH_PYTHON=$(abspath $(PEERS))/bin/python $(BIN)/python -m bench $(NAME) $(ARGS)

chaos: $(VENV)/.installed-dev ## random faults under load, checked [SEED=1] [SECONDS=30]
	@PYTHONPATH=. $(BIN)/python tests/chaos --seed $(SEED) --seconds $(SECONDS) $(ARGS)

soak: SECONDS = 600
soak: $(VENV)/.installed-dev ## a steady load; memory, descriptors, tasks and keys stay as they are [SECONDS=600]
	@$(BIN)/python -m tests.chaos.soak $(SECONDS)

# Two seeds, one of them fresh; what is found is told with its seed.
fuzz: $(VENV)/.installed-dev ## random bytes at every entrance [SECONDS=30]
	@FUZZ_SECONDS=$(SECONDS) $(BIN)/python -X dev -m pytest -n 0 -rP tests/attacks/test_fuzz.py $(ARGS)

nightly: ## what takes longer than a gate may, with a table at the end
	@.ci/nightly

screenshots: $(VENV)/.installed-dev ## the images of the documentation
	@PYTHONPATH=. $(BIN)/python tests/screenshots.py

# Where pip asks is the machine's business: --no-emit-index-url keeps it out of the locks.
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--python-version 3.11 --custom-compile-command "make lock" --upgrade

# Whom to pay is not what to install: a lock holds names, versions and hashes, and no addresses.
WITHOUT_FUNDING = import json, sys; path = sys.argv[1]; lock = json.load(open(path)); \
	[package.pop("funding", None) for package in lock["packages"].values()]; \
	open(path, "w").write(json.dumps(lock, indent=2, ensure_ascii=False) + "\n")

lock: $(BIN)/python ## pin newest versions in every requirements and package lock
	@[ -x $(BIN)/uv ] || $(PIP) install uv
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --constraint requirements.txt --output-file requirements-dev.txt requirements-dev.in
	$(COMPILE) --output-file tests/programs/requirements.txt tests/programs/requirements.in
	for name in tests/programs/environments/*.in; do $(COMPILE) --output-file $${name%.in}.txt $$name || exit 1; done
	$(COMPILE) --output-file bench/peers/requirements.txt bench/peers/requirements.in
	for folder in tests/web tests/programs bench/peers; do (cd $$folder && \
	npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund && \
	$(PYTHON) -c '$(WITHOUT_FUNDING)' package-lock.json); done

clean: ## remove what these targets made
	rm -rf $(VENV) $(PROGRAMS) $(PEERS) tests/programs/node_modules bench/peers/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache tests/web/node_modules

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Holdline needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	"name another: make setup PYTHON=python3.12" >&2; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; \
	rm -rf $(VENV); exit 2; }

$(VENV)/.installed: requirements.txt | $(BIN)/python
	@echo "installing requirements.txt"
	@$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "installing requirements-dev.txt"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

$(TSC): tests/web/package-lock.json
	@cd tests/web && npm ci --no-audit --no-fund --silent
	@touch $@

# Half a gigabyte: uv takes seconds for it, and pip minutes.
$(PROGRAMS)/.installed: tests/programs/requirements.txt | $(BIN)/python
	@echo "installing tests/programs/requirements.txt"
	@[ -x $(BIN)/uv ] || $(PIP) install uv
	@$(UV) venv --quiet --clear --python $(BIN)/python $(PROGRAMS)
	@$(UV) pip install --quiet --python $(PROGRAMS)/bin/python --require-hashes -r $<
	@touch $@

# They lie in the environment above, which --clear empties: whenever it is made, they are made again.
$(PROGRAMS)/environments/%/.installed: tests/programs/environments/%.txt $(PROGRAMS)/.installed
	@echo "installing $<"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(@D)
	@$(UV) pip install --quiet --python $(@D)/bin/python --require-hashes -r $<
	@touch $@

tests/programs/node_modules/.installed: tests/programs/package-lock.json
	@cd tests/programs && npm ci --no-audit --no-fund --silent
	@touch $@

$(PEERS)/.installed: bench/peers/requirements.txt | $(BIN)/python
	@echo "installing bench/peers/requirements.txt"
	@[ -x $(BIN)/uv ] || $(PIP) install uv
	@$(UV) venv --quiet --clear --python $(BIN)/python $(PEERS)
	@$(UV) pip install --quiet --python $(PEERS)/bin/python --require-hashes -r $<
	@touch $@

# Not `npm ci`: it refuses a lock in which an optional package for another machine is missing.
bench/peers/node_modules/.installed: bench/peers/package-lock.json
	@cd bench/peers && npm install --no-save --no-audit --no-fund --silent
	@touch $@
