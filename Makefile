# Each target installs its requirements. The machine needs only Python 3.11 or newer, make and git.
# `make help` lists the targets with the text after ##.

PYTHON ?= python3
VENV ?= .venv
# Third-party programs have their own environment, because they need other versions.
PROGRAMS ?= .venv-programs
# So do the programs that build and check a release.
RELEASE ?= .venv-release
# So do the programs with which `make bench` compares Holdline.
PEERS ?= .venv-bench
# `make test-wheel` installs the wheels here.
WHEEL ?= .venv-wheel
# Third-party programs with conflicting requirements: one environment per file.
ENVIRONMENTS = $(patsubst tests/programs/environments/%.txt,$(PROGRAMS)/environments/%/.installed,\
	$(wildcard tests/programs/environments/*.txt))
ARGS ?=
# The tag of a release. Without one, parts that cannot be built here are left out.
TAG ?=
# One test file or one test, as path::name.
ONE ?=
# Python's development mode finds more errors but takes 50% longer, so CI does not use it.
MODE ?= -X dev
NAME ?=
SEED ?= 1
SECONDS ?= 30

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PARTS := admin bench command dev holdline_client jobs runtime server tests torture worker
# Only the existing parts, because a missing one must not hide the errors of the others.
PRESENT = $(wildcard $(PARTS))
TSC := tests/web/node_modules/.bin/tsc
# The folders whose tests start neither a browser nor `make run`.
WHEEL_TESTS := $(addprefix tests/,admin attacks command holdline_client jobs paths runtime server worker)

# A page that uses the npm package.
PAGE := tests/npm/page
# Front ends of other projects.
FRONTENDS := tests/frontends

# The system's certificates include that of a company proxy that intercepts TLS.
UV := $(BIN)/uv --system-certs

.PHONY: help setup setup-tests run test test-wheel programs check check-python check-web npm image release bench torture chaos soak fuzz nightly screenshots lock clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

setup: $(VENV)/.installed ## install the program's requirements into .venv

run: $(VENV)/.installed ## run everything at http://127.0.0.1:8080 with a simulated model [ARGS=--reload]
	@exec $(BIN)/python -m dev $(ARGS)

test: $(VENV)/.installed-dev ## run all tests except heavy ones, or one file or test [ONE=path::name] [ARGS="-k resume"]
	@$(BIN)/python $(MODE) -m pytest $(if $(ONE),-n 0 $(ONE),-n 2 --dist loadfile --no-loadscope-reorder -m "not heavy") $(ARGS)

# Neither the environment nor the folder of the staged tests contains the packages of the checkout, so
# the tests can import only the wheels.
test-wheel: $(WHEEL)/.installed ## run the tests against the installed wheels, or one file or test [ONE=path::name]
	@rm -rf $(WHEEL)/staged && mkdir $(WHEEL)/staged
	@$(BIN)/python -m dev.wheel $(WHEEL)/staged/server
	@$(BIN)/python -m dev.wheel_tests $(WHEEL)/staged/tests
	@$(PIP) wheel --no-index --no-build-isolation --no-deps --wheel-dir $(WHEEL)/staged $(WHEEL)/staged/server .
	@$(UV) pip install --quiet --no-deps --reinstall --python $(WHEEL)/bin/python $(WHEEL)/staged/*.whl
	@cd $(WHEEL)/staged/tests && ../../bin/python $(MODE) -m pytest $(if $(ONE),-n 0 $(ONE),-n 2 --dist loadfile $(WHEEL_TESTS)) \
	-m "not heavy and not browser and not checkout" $(ARGS)

# Requirements of `make test` and `make programs`; with PROGRAMS set, `make test` runs both.
setup-tests: $(VENV)/.installed-dev $(RELEASE)/.installed $(PROGRAMS)/.installed tests/programs/node_modules/.installed $(PAGE)/node_modules/.installed $(FRONTENDS)/node_modules/.installed

# Third-party clients against a Holdline server, and a third-party proxy as its model.
programs: setup-tests $(ENVIRONMENTS) ## test unmodified third-party clients and proxies
	@PROGRAMS=$(abspath $(PROGRAMS)) $(BIN)/python -X dev -m pytest -n 0 tests/programs $(ARGS)

check: check-python check-web ## check lint, format, types and import layers

check-python: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PRESENT)
	$(BIN)/lint-imports

# Serving the web pages does not need Node. Without it, only their types are not checked; CI has Node.
check-web:
	@if command -v npm >/dev/null; then \
	$(MAKE) --no-print-directory --silent $(TSC) && echo "tsc --project tests/web" && $(TSC) --project tests/web; \
	elif [ -n "$$CI" ]; then echo "CI is set and npm is missing: install Node.js" >&2; exit 1; \
	else echo "npm is missing: the types of web/ are not checked"; fi

npm: $(VENV)/.installed $(TSC) ## write the npm package to dist/
	@rm -rf dist/npm && $(BIN)/python -m dev.npm dist/npm && cd dist/npm && npm pack --silent --pack-destination ..

# The first of these that is installed. Docker sets no times, so its images differ from build to build.
CONTAINER ?= $(notdir $(firstword $(foreach tool,buildah podman docker,$(shell command -v $(tool)))))
VERSION = $(shell sed -nE 's/^version = "(.+)"/\1/p' pyproject.toml)
# The format of Docker has the health check, which that of the OCI lacks.
EXACT = $(if $(filter docker,$(CONTAINER)),,--format docker --timestamp $(shell git log -1 --format=%ct))

image: ## build the container image with its version as tag [CONTAINER=docker] [BASE=python@sha256:...]
	@$(or $(CONTAINER),$(error install buildah, podman or docker)) build --file deploy/Dockerfile \
	--tag holdline:$(VERSION) $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(VERSION) \
	--build-arg REVISION=$$(git rev-parse HEAD) $(EXACT) $(ARGS) .

release: $(VENV)/.installed-dev $(RELEASE)/.installed $(TSC) ## build and check a release in dist/ [TAG=v1.2.3]
	@$(BIN)/python -m dev.release --tools $(RELEASE) --tag "$(TAG)" dist

# A peer that cannot be installed is omitted from the comparison, and the report notes it.
bench: $(VENV)/.installed-dev ## run the benchmarks [NAME=P3] [ARGS=--quick]
	@$(MAKE) --no-print-directory --silent $(PEERS)/.installed || echo "the peers in Python are left out"
	@if command -v npm >/dev/null; then \
	$(MAKE) --no-print-directory --silent bench/peers/node_modules/.installed; fi || echo "the peers for Node.js are left out"
	@BENCH_PYTHON=$(abspath $(PEERS))/bin/python $(BIN)/python -m bench $(NAME) $(ARGS)

# Stores the results of a whole run, also if a case failed, and updates the tables of the page.
torture: TARGET = holdline
torture: $(VENV)/.installed-dev ## test what a server does under faults [TARGET=holdline] [SEED=1] [ARGS="--case resume"]
	@$(BIN)/python -m torture run --target torture/targets/$(TARGET).toml --seed $(SEED) $(or $(ARGS),--results torture/results); \
	status=$$?; $(if $(ARGS),,$(BIN)/python -m torture table --results torture/results --page docs/torture.md &&) exit $$status

chaos: $(VENV)/.installed-dev ## inject random faults under load and check the results [SEED=1] [SECONDS=30]
	@PYTHONPATH=. $(BIN)/python tests/chaos --seed $(SEED) --seconds $(SECONDS) $(ARGS)

soak: SECONDS = 600
soak: $(VENV)/.installed-dev ## check for leaks of memory, descriptors, tasks and keys under steady load [SECONDS=600]
	@$(BIN)/python -m tests.chaos.soak $(SECONDS)

# Uses a fixed and a random seed, and reports each finding with its seed.
fuzz: $(VENV)/.installed-dev ## send random bytes to all interfaces [SECONDS=30]
	@FUZZ_SECONDS=$(SECONDS) $(BIN)/python -X dev -m pytest -n 0 -rP tests/attacks/test_fuzz.py $(ARGS)

nightly: ## run the long tests and print a table of results, or a part of them [ARGS="chaos soak"]
	@.ci/nightly $(ARGS)

screenshots: $(VENV)/.installed-dev ## make the images of the documentation, or a part of them [ARGS=console]
	@PYTHONPATH=. $(BIN)/python tests/screenshots.py $(ARGS)

# --no-emit-index-url keeps the package index of this machine out of the lock files.
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--python-version 3.11 --custom-compile-command "make lock" --upgrade

# Removes funding links: a lock file contains names, versions and hashes, but no addresses.
WITHOUT_FUNDING = import json, sys; path = sys.argv[1]; lock = json.load(open(path)); \
	[package.pop("funding", None) for package in lock["packages"].values()]; \
	open(path, "w").write(json.dumps(lock, indent=2, ensure_ascii=False) + "\n")

lock: $(BIN)/uv ## pin the newest versions in all lock files
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --constraint requirements.txt --output-file requirements-dev.txt requirements-dev.in
	$(COMPILE) --output-file tests/programs/requirements.txt tests/programs/requirements.in
	for name in tests/programs/environments/*.in; do $(COMPILE) --output-file $${name%.in}.txt $$name || exit 1; done
	$(COMPILE) --output-file dev/release/requirements.txt dev/release/requirements.in
	$(COMPILE) --output-file bench/peers/requirements.txt bench/peers/requirements.in
	for name in torture/targets/*/requirements.in; do $(COMPILE) --output-file $${name%.in}.txt $$name || exit 1; done
	for folder in tests/web tests/programs $(PAGE) $(FRONTENDS) bench/peers $(dir $(wildcard torture/targets/*/package.json)); do (cd $$folder && \
	npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund && \
	$(PYTHON) -c '$(WITHOUT_FUNDING)' package-lock.json); done

clean: ## remove the files that these targets made
	rm -rf $(VENV) $(PROGRAMS) $(RELEASE) $(PEERS) $(WHEEL) tests/programs/node_modules $(PAGE)/node_modules $(FRONTENDS)/node_modules bench/peers/node_modules dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache tests/web/node_modules

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Holdline needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	"name another: make setup PYTHON=python3.12" >&2; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; \
	rm -rf $(VENV); exit 2; }

# The command of this checkout, so that the commands in the documents work with $(BIN) in the PATH.
$(BIN)/holdline: dev/holdline | $(BIN)/python
	@cp $< $@

$(VENV)/.installed: requirements.txt | $(BIN)/holdline
	@echo "installing requirements.txt"
	@$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(BIN)/uv: | $(BIN)/python
	@$(PIP) install uv

# These requirements contain those of the program. uv installs them in seconds, pip in half a minute.
$(VENV)/.installed-dev: requirements-dev.txt requirements.txt | $(BIN)/uv $(BIN)/holdline
	@echo "installing requirements-dev.txt"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.txt
	@touch $(VENV)/.installed $@

$(TSC): tests/web/package-lock.json
	@cd tests/web && npm ci --no-audit --no-fund --silent
	@touch $@

# Half a gigabyte, which pip would install in minutes.
$(PROGRAMS)/.installed: tests/programs/requirements.txt | $(BIN)/uv
	@echo "installing tests/programs/requirements.txt"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(PROGRAMS)
	@$(UV) pip install --quiet --python $(PROGRAMS)/bin/python --require-hashes -r $<
	@touch $@

# These environments are inside the one above, which --clear empties, so they are made again with it.
$(PROGRAMS)/environments/%/.installed: tests/programs/environments/%.txt $(PROGRAMS)/.installed
	@echo "installing $<"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(@D)
	@$(UV) pip install --quiet --python $(@D)/bin/python --require-hashes -r $<
	@touch $@

tests/programs/node_modules/.installed: tests/programs/package-lock.json
	@cd tests/programs && npm ci --no-audit --no-fund --silent
	@touch $@

$(RELEASE)/.installed: dev/release/requirements.txt | $(BIN)/uv
	@echo "installing dev/release/requirements.txt"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(RELEASE)
	@$(UV) pip install --quiet --python $(RELEASE)/bin/python --require-hashes -r $<
	@touch $@

$(WHEEL)/.installed: requirements-dev.txt $(VENV)/.installed-dev
	@echo "installing requirements-dev.txt into $(WHEEL)"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(WHEEL)
	@$(UV) pip install --quiet --python $(WHEEL)/bin/python --require-hashes -r $<
	@touch $@

$(PEERS)/.installed: bench/peers/requirements.txt | $(BIN)/uv
	@echo "installing bench/peers/requirements.txt"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(PEERS)
	@$(UV) pip install --quiet --python $(PEERS)/bin/python --require-hashes -r $<
	@touch $@

# `npm ci` would refuse a lock file without the optional packages of other platforms.
bench/peers/node_modules/.installed $(PAGE)/node_modules/.installed $(FRONTENDS)/node_modules/.installed: %/node_modules/.installed: %/package-lock.json
	@cd $* && npm install --no-save --no-audit --no-fund --silent
	@touch $@
