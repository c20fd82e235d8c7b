# One command each; every target makes the environment that it needs in $(VENV) by itself.
#   make PYTHON=python3.12 ...     another interpreter (only when $(VENV) is made anew: make clean first)
#   make test ARGS="-k drain -x"   arguments for pytest

PYTHON        ?= python3
VENV          ?= .venv
ARGS          ?=
ONCE          ?=
SCHEDULES     ?= 100000
# Which Django each Python is tested with, and with which extras: with psycopg 3, the packaged PostgreSQL (18) is used.
MATRIX        ?= 3.11:5.2 3.12:6.0:psycopg3 3.13:6.1

comma := ,
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help test lint format demo chaos bench bench-rivals bench-pictures test-matrix wheel clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z%-]+:.*## / { sub("%", "ROW", $$1); printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: $(VENV)/.dev ## Run every test (ARGS="..." goes to pytest)
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## Check style (ruff) and types (mypy strict)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	DJANGO_SETTINGS_MODULE=tests.settings $(VENV)/bin/mypy
	DJANGO_SETTINGS_MODULE=demo.settings $(VENV)/bin/mypy django_app/demo

format: $(VENV)/.dev ## Put the code into its one format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

demo: $(VENV)/.demo ## Show it at work (ONCE=1 ends by itself; DATABASE_URL=postgres://... instead of SQLite)
	$(VENV)/bin/python django_app/manage.py demo $(if $(filter 1,$(ONCE)),--once) $(ARGS)

chaos: $(VENV)/.dev ## Hurt it at random on each database, count what is lost (ARGS="sqlite --share 0.1"); then SCHEDULES
	$(VENV)/bin/python -m tests.chaos $(ARGS)
	JOBSUP_SCHEDULES=$(SCHEDULES) $(VENV)/bin/python -m pytest tests/unit/test_machine_schedules.py -k many_more --timeout=0

bench: $(VENV)/.dev ## Measure every row: rates, latencies, memory (ARGS="--help" lists them)
	$(VENV)/bin/python -m benchmarks $(ARGS)

bench-%: $(VENV)/.dev ## Measure one row, such as bench-drain (ARGS="--runs 5 --jobs 20000")
	$(VENV)/bin/python -m benchmarks $* $(ARGS)

bench-rivals: $(VENV)/.dev ## Install those whom the benchmarks measure beside jobsup, each into .bench/NAME
	$(VENV)/bin/python -m benchmarks.rivals

bench-pictures: $(VENV)/.bench ## Draw docs/performance-*.svg and write the table from benchmarks/results/*.json
	$(VENV)/bin/python -m benchmarks.publish

test-matrix: ## Run every test on each Python found here, with its Django (MATRIX="3.12:6.0:psycopg3 ...")
	@missing=; passed=; failed=; \
	for pair in $(MATRIX); do \
		version=$${pair%%:*}; django=$${pair#*:}; extras=; server=$$JOBSUP_TEST_POSTGRES_SERVER; \
		case $$django in *:*) extras=$${django#*:}; django=$${django%%:*};; esac; \
		case ,$$extras, in *,psycopg3,*) server=$${server:-packaged};; esac; \
		python=$$(.ci/find-python "$$version") || { missing="$$missing $$version"; continue; }; \
		echo "== Python $$version, Django $$django$${extras:+, $$extras}"; \
		if JOBSUP_TEST_POSTGRES_SERVER=$$server $(MAKE) --no-print-directory test PYTHON="$$python" \
			VENV=".venv-$$version$${extras:+-$$extras}" DJANGO="Django~=$$django.0" EXTRAS="$$extras"; \
		then passed="$$passed $$version"; else failed="$$failed $$version"; fi; \
	done; \
	[ -z "$$missing" ] || echo "Not tested, because no such Python was found:$$missing"; \
	[ -z "$$passed" ] || echo "Passed on Python:$$passed"; \
	[ -z "$$failed" ] || { echo "Failed on Python:$$failed"; exit 1; }; \
	[ -n "$$passed" ] || exit 1

wheel: $(VENV)/.dev ## Build dist/*.whl
	$(VENV)/bin/python -m build --wheel

clean: ## Remove environments, caches, builds and the demo's database
	rm -rf .bench .demo .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environments: the stamp is younger than pyproject.toml once everything in it is installed.
$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[dev$(if $(EXTRAS),$(comma)$(EXTRAS))]' $(if $(DJANGO),'$(DJANGO)')
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.dev
	$(PIP) install --editable '.[bench]'
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "jobsup needs Python 3.11 or newer, and '$(PYTHON)' is not: try make PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian: python3-venv)"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
