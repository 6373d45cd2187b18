# On a machine with Python 3.11 or newer, make and a package index:
#   make demo    make test
# Everything is installed into a virtual environment of this folder; see `make help`.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=

PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
DEMO := demo$(if $(GROTTO_MODEL),-agent)

.SUFFIXES:
.PHONY: help demo test image check check-lint check-format check-types check-imports check-stubs proto bench clean

help:
	@echo "make demo    install what the demo needs, then run the main job (grotto demo)"
	@echo "make test    install what the tests need, then run them (PYTEST_ARGS='-k name')"
	@echo "make image   build the container images, those that changed (VARIANTS='bare data control')"
	@echo "make check   lint, format, types, import contracts, freshness of the stubs"
	@echo "make proto   generate the stubs again from proto/**/*.proto"
	@echo "make bench   measure everything beside its floors and peers into benchmarks/"
	@echo "make clean   remove $(VENV) and what the tools left behind"
	@echo "PYTHON=$(PYTHON) chooses the interpreter, VENV=$(VENV) the virtual environment."

demo: $(STAMPS)/$(DEMO)
	@echo "==> demo: a session, injected data, an agent, and its answer as a DataFrame"
	@$(VENV)/bin/grotto demo

# Where a Docker engine answers, the tests use it; REQUIRE_DOCKER=1 makes its absence a failure.
test: $(STAMPS)/test
	@deploy/images/build --if-engine
	@echo "==> test: pytest $(PYTEST_ARGS)"
	@$(PY) -m pytest $(PYTEST_ARGS)

image:
	@deploy/images/build

# One target per step, and --keep-going: every step runs, one failure fails the whole.
check: $(STAMPS)/dev
	@$(MAKE) --no-print-directory --keep-going --jobs=1 \
		check-lint check-format check-types check-imports check-stubs
	@echo "==> check: all steps passed"

check-lint: $(STAMPS)/dev
	@echo "==> check: ruff check"
	@$(PY) -m ruff check .

check-format: $(STAMPS)/dev
	@echo "==> check: ruff format"
	@$(PY) -m ruff format --check .

check-types: $(STAMPS)/dev
	@echo "==> check: mypy --strict, the packages and the benchmarks"
	@$(PY) -m mypy
	@$(PY) -m mypy benchmarks

check-imports: $(STAMPS)/dev
	@echo "==> check: import contracts"
	@$(VENV)/bin/lint-imports --no-logo

check-stubs: $(STAMPS)/dev
	@echo "==> check: the stubs are what proto/generate.py makes of the .proto files"
	@$(PY) -m pytest -q --no-header tests/arch/test_stubs.py

proto: $(STAMPS)/dev
	@echo "==> proto: generating the stubs"
	@$(PY) proto/generate.py

bench: $(STAMPS)/bench
	@deploy/images/build --if-engine
	@echo "==> bench: Grotto beside its floors and ipykernel, in one run"
	@$(PY) -m benchmarks

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- installation -----------------------------------------------------------

$(STAMPS)/venv:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "Python is not there: '$(PYTHON)' is not a command." \
			"Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and '$(PYTHON)' is" \
			"$$("$(PYTHON)" -c 'import platform; print(platform.python_version())')." \
			"Name a newer one: make PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments: its modules venv and ensurepip are missing." \
			"Install the package that brings them (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }
	@echo "==> setup: virtual environment $(VENV) ($$("$(PYTHON)" --version))"
	@"$(PYTHON)" -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# $(call install,extras,stamps that this makes true)
define install
	@echo "==> setup: installing .[$(1)] into $(VENV) (a minute or two the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[$(1)]'
	@cd $(STAMPS) && touch $(2)
endef

$(STAMPS)/demo: pyproject.toml $(STAMPS)/venv
	$(call install,local$(comma)data,demo)

$(STAMPS)/demo-agent: pyproject.toml $(STAMPS)/venv
	$(call install,local$(comma)data$(comma)agent,demo demo-agent)

$(STAMPS)/test: pyproject.toml $(STAMPS)/venv
	$(call install,test,demo test)

$(STAMPS)/bench: pyproject.toml $(STAMPS)/venv
	$(call install,local$(comma)data$(comma)bench,demo bench)

$(STAMPS)/dev: pyproject.toml $(STAMPS)/venv
	$(call install,dev,demo demo-agent test bench dev)

comma := ,
