# Everything a newcomer needs. PYTHON chooses the interpreter, ARGS goes to the demo.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 2
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt

export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-fast lint types wheel clients clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# torch first and alone: the constraint keeps it from being replaced by a larger build.
$(VENV)/.torch: $(BIN)/python constraints.txt
	$(INSTALL) torch
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## train, publish, find, load and compose adapters on real text
	$(BIN)/adapterhub demo $(ARGS)

# Other versions of the programs that talk to a hub server, each in a folder of its own: the tests put
# one in front of a child process. Without them those tests are skipped.
clients: $(VENV)/.clients
$(VENV)/.clients: $(VENV)/.dev
	$(BIN)/pip install --quiet --upgrade --target build/clients/huggingface_hub-0.36 'huggingface_hub==0.36.2'
	$(BIN)/pip install --quiet --upgrade --target build/clients/huggingface_hub-1 'huggingface_hub==1.33.0'
	$(BIN)/pip install --quiet --upgrade --target build/clients/peft --no-deps peft
	$(BIN)/pip install --quiet --upgrade --target build/clients/adapters --no-deps 'adapters==1.3.0' \
		'transformers==4.57.6' 'huggingface_hub==0.36.2' 'tokenizers==0.22.1' 'requests'
	@touch $@

test: $(VENV)/.dev $(VENV)/.clients  ## all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: $(VENV)/.dev  ## the tests that take under three minutes together
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

wheel: $(VENV)/.dev  ## build the wheel, install it into an empty environment, import it from there
	rm -rf dist build/wheel-venv
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/pip install --quiet --constraint constraints.txt torch
	build/wheel-venv/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	cd build && wheel-venv/bin/python -c "import adapterhub; from adapterhub import init, Stack; print(adapterhub.__file__, adapterhub.__version__)"
	cd build && wheel-venv/bin/adapterhub --version

clean:
	rm -rf $(VENV) build dist
