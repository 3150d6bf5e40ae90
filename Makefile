# make run    start the server on embedded defaults        make test   everything the project is tested by
# make lint   ruff, mypy, import direction                 make bench  measure it against its peers
# Settings come from the environment: `make run PORT=4000`, `HOST=0.0.0.0 make run`.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Test files that run at once: most of their time is waiting for clocks.
TEST_JOBS ?= 4
# Those that watch how fast something is run alone.
TIMED := tests/bench tests/abuse/test_attacks.py tests/cluster/test_tls.py
# $(call tested,OPTIONS,PATHS): what fails is run once more, alone, and said to be: a machine that stood still for
# seconds fails a test once, a fault of the server fails it twice.
tested = $(BIN)/python -m pytest $(1) $(2) || { test $$? -eq 1 \
	    && echo "=== once more, what failed: see above ===" \
	    && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 $(2) \
	    && echo "=== passed at the second try; what failed at the first is worth a look ==="; }
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The versions that all of us have (make constraints).
CONSTRAINED := --constraint constraints.txt --build-constraint constraints.txt

# Stamps: a file per finished step, so that the second time costs nothing.
RUN_READY := $(VENV)/.run-ready
DEV_READY := $(VENV)/.dev-ready
PEER_READY := bench/peer/node_modules/.package-lock.json
PACKAGING := setup.cfg pyproject.toml constraints.txt

CLIENTS := tests/clients
BUNDLE := mechamap_rt/http/static/socket.io
BUNDLE_FILES := socket.io.js socket.io.min.js socket.io.esm.min.js

.DEFAULT_GOAL := help
.PHONY: help run test test-tools lint format env-file constraints audit bench fuzz schemathesis conformance chaos abuse bundle clean distclean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

run: $(RUN_READY) bundle  ## start the server on http://127.0.0.1:3000 (PORT, HOST change that); Ctrl-C stops it
	@exec $(BIN)/twistd -n --pidfile= mechamap

test: test-tools $(DEV_READY) bundle  ## install what the tests need and run them all (ARGS='-k native' for some)
ifeq ($(ARGS),)
	$(call tested,-n $(TEST_JOBS) --dist loadfile,$(TIMED:%=--ignore=%))
	$(call tested,,$(TIMED))
else
	$(BIN)/python -m pytest $(ARGS)
endif

lint: $(DEV_READY)  ## ruff (rules and format), mypy strict, import direction, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check-dependencies

format: $(DEV_READY)  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env-file: $(RUN_READY)  ## write etc/mechamap.env anew, from what the settings say of themselves
	@$(BIN)/mechamapctl env-file > etc/mechamap.env.new && mv etc/mechamap.env.new etc/mechamap.env

# Not after an installation: one with the pins as they are may be what does not work.
constraints: $(BIN)/python  ## resolve the newest versions and pin them in constraints.txt
	$(BIN)/python scripts/make-constraints

audit: $(DEV_READY)  ## ask the public database of advisories about every pinned version (needs the network)
	@scripts/audit $(ARGS)

bench: $(DEV_READY) $(PEER_READY)  ## measure it against its peers: a table and JSON (ARGS are passed on)
	$(BIN)/mechamap-bench run $(ARGS)

fuzz: $(DEV_READY)  ## five minutes of any bytes: into the codecs (coverage-guided), and into a live port
	@$(PIP) install 'atheris>=2.3'
	$(BIN)/python -m tests.fuzz codecs --seconds 150
	$(BIN)/python -m tests.fuzz live --seconds 150

schemathesis: $(DEV_READY)  ## the HTTP API against its description, with another seed each time (ARGS='EXAMPLES SEED')
	$(BIN)/python -m tests.openapi $(ARGS)

conformance: $(DEV_READY)  ## the protocol conformance suite against any server (ARGS='http://127.0.0.1:3000 --token …')
	$(BIN)/python -m tests.conformance $(ARGS)

chaos: $(DEV_READY)  ## fifty reloads under traffic, then two minutes of workers that die and hang: two tables
	$(BIN)/python -m tests.chaos reloads
	$(BIN)/python -m tests.chaos soak

abuse: $(DEV_READY)  ## every attack in its whole size against a server with bystanders: a table
	$(BIN)/python -m tests.abuse $(ARGS)

$(PEER_READY): bench/peer/package-lock.json
	cd bench/peer && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

test-tools:
	@bash scripts/setup-tests

# -- the virtualenv -------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.x" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "python3 has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }

# Editable, so that an edit is there at the next start. getPlugins writes Twisted's plugin cache, which a
# server started by another user could not write.
$(RUN_READY): $(BIN)/python $(PACKAGING)
	@echo "installing mechamap-rt into $(VENV)"
	@$(PIP) install --constraint constraints.txt pip setuptools
	@$(PIP) install $(CONSTRAINED) --editable .
	@$(BIN)/python -c 'from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))'
	@touch $@

$(DEV_READY): $(RUN_READY)
	@echo "installing the tools for tests, lint and benchmarks into $(VENV)"
	@$(PIP) install $(CONSTRAINED) --editable '.[dev]'
	@touch $@

# -- the browser's Socket.IO client, for /socket.io/socket.io.js and the demo console ------------------------------
# Taken from npm where npm is; never committed. Without it everything else works.

bundle: $(BUNDLE)/socket.io.js

$(BUNDLE)/socket.io.js: $(CLIENTS)/package-lock.json
	@if ! command -v npm >/dev/null; then \
	    echo "npm is not here: going on without the Socket.IO client bundle (the console offers the native protocol)"; \
	elif ! { cd $(CLIENTS) && { [[ node_modules/.package-lock.json -nt package-lock.json ]] \
	        || npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; } && cd $(CURDIR); }; then \
	    echo "npm could not install socket.io-client: going on without its bundle"; \
	else \
	    mkdir -p $(BUNDLE) && \
	    cp $(BUNDLE_FILES:%=$(CLIENTS)/node_modules/socket.io-client/dist/%) $(BUNDLE)/ && \
	    touch $(CLIENTS)/node_modules/.package-lock.json $@; \
	fi

# -- housekeeping -------------------------------------------------------------------------------------------------

clean:  ## remove what builds and test runs left (keeps the virtualenv)
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache _trial_temp*
	rm -rf $(BUNDLE) twisted/plugins/dropin.cache
	find . -path ./$(VENV) -prune -o -name node_modules -prune -o -name __pycache__ -type d -print0 \
	    | xargs -0 rm -rf

distclean: clean  ## the same, and the virtualenv and node_modules too
	rm -rf $(VENV) $(CLIENTS)/node_modules tests/conformance/peer/node_modules tests/load/node_modules \
	    bench/peer/node_modules
