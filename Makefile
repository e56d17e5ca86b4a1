# Needs Python 3.11+, git and make; everything else comes into .venv from requirements.lock.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin

.PHONY: sweep demo test lint audit docs docs-links litert lock clean

sweep: .venv/ready
	$(BIN)/snakemake --cores $(CORES)

demo: .venv/ready
	$(BIN)/snakemake --cores $(CORES) --config sweep=demo

# Tests that read the page want a Chromium on the PATH (Debian: apt install chromium), and are skipped without one.
# Workflow tests run jobs by themselves, so they come alone, two sweeps side by side, since planning takes one core. slipcover counts the lines that the unit tests reach.
test: .venv/ready
	$(BIN)/python -m slipcover --source src/edgeward --json --out .coverage.json \
	    -m pytest -n 2 --dist loadfile tests/unit tests/fuzz
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/workflow
	$(BIN)/python tests/helpers/coverage_by_room.py .coverage.json

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m edgeward.pipeline.document --check

# The site, in build/site; EXAMPLE is the folder of a finished report, that of the demo by default (docs/site.md).
docs: .venv-docs/ready
	EXAMPLE='$(EXAMPLE)' .venv-docs/bin/sphinx-build -q -W --keep-going -j auto docs build/site
	@echo 'Docs: build/site/index.html'

docs-links: .venv-docs/ready
	.venv-docs/bin/sphinx-build -q -b linkcheck docs build/links

.venv-docs/ready: docs/requirements.lock
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r docs/requirements.lock
	touch $@

# The converter that writes files for LiteRT; the engine itself is an extra: pip install "edgeward[litert]".
litert: .venv-litert/ready

.venv-litert/ready: envs/litert.lock
	$(PYTHON) -m venv --clear .venv-litert
	.venv-litert/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/litert.lock
	touch $@

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeward needs Python 3.11 or newer; choose one with: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# Known flaws of the locked dependencies; without a network it says so, and passes.
audit: .venv/ready
	$(BIN)/python tools/audit_dependencies.py

# Choose new versions within the bounds of pyproject.toml.
lock: .venv/ready
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --upgrade \
	    --generate-hashes --no-emit-index-url --no-header --quiet pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --group docs --upgrade \
	    --generate-hashes --no-emit-index-url --no-header --quiet -o docs/requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --group litert --upgrade \
	    --generate-hashes --no-emit-index-url --no-header --quiet -o envs/litert.lock

clean:
	rm -rf .venv .venv-docs .venv-litert build/site build/links .coverage.json .snakemake .pytest_cache .hypothesis .mypy_cache .ruff_cache
