# Everything here runs in a virtual environment of its own; python3 and make are all it needs.
#
#   make demo [DRIVE=path] [NETWORK=fill] [GT=prefix]   player and node over real DDS, a table, a picture
#   make test                               all checks and tests
#   make check                              the one-minute part of them
#   make bench | format | clean

PYTHON ?= python3
ROS ?= jazzy
VENV ?= .venv
DRIVE ?=
GT ?=
NETWORK ?= auto

BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt
RUNTIME := cpu,$(ROS),synthetic
METADATA := setup.py setup.cfg package.xml pyproject.toml .ci/constraints.txt

.PHONY: build test check format demo bench clean lint unit kilted node

build: $(VENV)/.runtime

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: found $$($(PYTHON) --version), expected Python 3.10 or newer; set PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "make: this Python has no ensurepip; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(BIN)/python $(METADATA)
	$(INSTALL) -e '.[$(RUNTIME)]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(INSTALL) -e '.[$(RUNTIME),test]'
	@touch $@

demo: $(VENV)/.runtime
	$(BIN)/depth_completion demo --network $(NETWORK) $(if $(DRIVE),--drive '$(DRIVE)') \
		$(if $(GT),--ground-truth '$(GT)') --out demo/out

bench: $(VENV)/.runtime
	$(BIN)/depth_completion benchmark --network fill

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell depth_completion_ros test launch config docs demo README.md ARCHITECTURE.md CHANGELOG.rst

check: lint
	$(BIN)/python -m pytest -q -m 'not ros and not slow and not gpu and not dataset'

test: lint unit kilted

unit: $(VENV)/.test
	$(BIN)/python -m pytest

# The node against the other distribution's wheels: another rclpy, another DDS.
kilted:
	$(MAKE) node VENV=.venv-kilted ROS=kilted

node: $(VENV)/.node
	$(BIN)/python -m pytest test/node -m ros

$(VENV)/.node: $(VENV)/.runtime
	$(INSTALL) 'pytest>=8,<10' 'pytest-timeout>=2,<3'
	@touch $@

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-kilted build install log *.egg-info demo/out
