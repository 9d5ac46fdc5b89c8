# `make demo` and `make test` do all the set-up themselves, on a machine that has Python 3.11 or newer, and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready
LINT_READY := $(VENV)/.lint-ready

# uv reads the environment but no configuration file, uses the Python that it is given, and trusts the certificates
# that the machine trusts, as pip does. Its cache needs no HOME, and `make clean` removes it.
export UV_NO_CONFIG := 1
export UV_PYTHON_DOWNLOADS := never
export UV_SYSTEM_CERTS ?= 1
export UV_CACHE_DIR ?= $(CURDIR)/$(VENV)/.uv-cache

# The locks keep extras, because pip before 23.3 resolves `coverage[toml]` apart from a locked `coverage`.
# A lock is for all systems and all Pythons from 3.11 on, with one version of each package.
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make requirements" $(UV) pip compile --quiet --python $(BIN)/python \
	--universal --python-version 3.11 --fork-strategy fewest --no-strip-extras --generate-hashes --no-build \
	$(if $(UPGRADE),--upgrade)

# Install exactly what a lock lists, from wheels only, and then this project, which needs no network. Bytecode is
# compiled here, or the first tests would run out of time while all their processes compile the same modules.
define install
$(UV) pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes --no-build $(1)
$(UV) pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
endef

.DEFAULT_GOAL := help
.PHONY: help demo up test lint format synth requirements protobuf clean
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

demo: $(READY)  ## the whole loop on this machine: a model goes out, phones train it, it comes back, the node goes down
	$(BIN)/artificien local demo

up: $(READY)  ## AWS, the service and the reconciler on this machine, until Ctrl-C
	$(BIN)/artificien local up

test: $(READY)  ## all tests
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(LINT_READY)  ## style, types, import rules and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

format: $(LINT_READY)  ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

synth: $(READY)  ## synthesize the stack templates that are checked in
	$(BIN)/artificien synth

requirements: $(UV)  ## lock what pyproject.toml asks for, with hashes; UPGRADE=1 takes what is newest
	$(COMPILE) --all-extras -o requirements-dev.txt pyproject.toml
	$(COMPILE) -c requirements-dev.txt --extra service --extra node --extra cdk --extra local --extra test \
		-o requirements.txt pyproject.toml
	$(COMPILE) -c requirements-dev.txt --extra service -o requirements-service.txt pyproject.toml
	$(COMPILE) -c requirements-dev.txt --extra node -o requirements-node.txt pyproject.toml
	echo uv | $(COMPILE) -c requirements-dev.txt -o requirements-uv.txt -

protobuf: $(LINT_READY)  ## generate the wire format's classes from the .proto files
	cd src && PATH="$(CURDIR)/$(BIN):$$PATH" python -m grpc_tools.protoc -I. --python_out=. --mypy_out=. pygrid_wire/*.proto

clean:  ## remove what was built here
	rm -rf $(VENV) .artificien cdk.out

$(UV): requirements-uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-uv.txt
	touch $@

# The tools of `make lint` stay where they are installed.
$(READY): $(UV) requirements.txt pyproject.toml
	$(call install,$(if $(wildcard $(LINT_READY)),requirements-dev.txt,requirements.txt))
	touch $@

$(LINT_READY): $(READY) requirements-dev.txt
	$(call install,requirements-dev.txt)
	touch $@
