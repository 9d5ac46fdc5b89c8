# `make demo` and `make test` do all the set-up themselves, on a machine that has Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LINT_READY := $(VENV)/.lint-ready
PIP_COMPILE := CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/pip-compile --quiet --strip-extras --generate-hashes \
	--no-emit-index-url --no-emit-find-links --allow-unsafe $(if $(UPGRADE),--upgrade)

.PHONY: help demo up test lint format synth requirements protobuf clean
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

demo: $(READY)  ## the whole loop on this machine: a model goes out, phones train it, it comes back, the node goes down
	$(BIN)/artificien local demo

up: $(READY)  ## AWS, the service and the reconciler on this machine, until Ctrl-C
	$(BIN)/artificien local up

test: $(READY)  ## all tests
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(LINT_READY)  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(LINT_READY)  ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

synth: $(READY)  ## synthesize the stack templates that are checked in
	$(BIN)/artificien synth

requirements: $(LINT_READY)  ## pin what pyproject.toml asks for, with hashes; UPGRADE=1 takes what is newest
	$(PIP_COMPILE) --extra service --extra node --extra cdk --extra local --extra test -o requirements.txt pyproject.toml
	$(PIP_COMPILE) -c requirements.txt --extra service -o requirements-service.txt pyproject.toml
	$(PIP_COMPILE) -c requirements.txt --extra node -o requirements-node.txt pyproject.toml
	$(PIP_COMPILE) -c requirements.txt --all-extras -o requirements-dev.txt pyproject.toml

protobuf: $(LINT_READY)  ## generate the wire format's classes from the .proto files
	cd src && PATH="$(CURDIR)/$(BIN):$$PATH" python -m grpc_tools.protoc -I. --python_out=. --mypy_out=. pygrid_wire/*.proto

clean:  ## remove what was built here
	rm -rf $(VENV) .artificien cdk.out

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(LINT_READY): requirements-dev.txt $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@
