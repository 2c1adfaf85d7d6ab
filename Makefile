# The tools of the house. Each target does its own set-up from a fresh clone, and does it once: the virtual
# environment carries a stamp per set of packages, so only a change of pyproject.toml or of a lock renews it.
#
#   PYTHON=...   the Python to make the environment with (3.11 or later; found by .ci/find-python otherwise)
#   ARGS=...     more arguments for `run`, `test` and `bench`
#   WORKERS=...  how many processes run the tests

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
WORKERS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .

# An environment that was moved with its folder, or whose Python is gone, is made anew.
$(shell test -x $(BIN)/python && test "`cat $(MADE) 2>/dev/null`" = "$(CURDIR)" || rm -f $(MADE))

$(MADE):
	@python=`sh .ci/find-python` && \
	echo "environment: making $(VENV) with `"$$python" --version`" && \
	"$$python" -m venv --clear $(VENV) && \
	printf '%s\n' "$(CURDIR)" >$@

$(RUN): $(MADE) pyproject.toml deploy/requirements.lock .ci/build.lock
	@echo "packages: installing what the gateway needs (about 150 MB the first time)"
	@$(PIP) install --require-hashes -r deploy/requirements.lock -r .ci/build.lock
	@$(PROJECT)
	@touch $@

$(DEV): $(MADE) pyproject.toml .ci/requirements.lock .ci/build.lock
	@echo "packages: installing what the gateway, its tests and its checks need (about 250 MB the first time)"
	@$(PIP) install --require-hashes -r .ci/requirements.lock -r .ci/build.lock
	@$(PROJECT)
	@touch $(RUN) $@

.PHONY: help
help: ## Say what can be made
	@echo "make run, from a fresh clone, is all it takes to start. All targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(RUN) ## Start the gateway (ARGS are for `gateway serve`)
	@exec $(BIN)/gateway serve $(ARGS)

.PHONY: test
test: $(DEV) ## Run the tests against real servers (ARGS are for pytest)
	@$(BIN)/python -m tests.peers
	@$(BIN)/python -m pytest --quiet --numprocesses $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: check
check: $(DEV) ## Check format, rules, types, imports, dead code, dependencies and locks
	@sh .ci/check $(BIN)

.PHONY: bench
bench: $(DEV) ## Measure the gateway (ARGS are for `python -m bench`)
	@$(BIN)/python -m bench $(ARGS)

.PHONY: lock
lock: $(DEV) ## Make the lock files anew from pyproject.toml (ARGS=--upgrade for the newest versions)
	@$(BIN)/python .ci/lock.py $(ARGS)

.PHONY: clean
clean: ## Remove the environment and all caches of this folder
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
