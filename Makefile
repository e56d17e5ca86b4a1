# Needs Python 3.11+, git and make; everything else comes into .venv from requirements.lock.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin

.PHONY: sweep test coverage lint lock clean

sweep: .venv/ready
	$(BIN)/snakemake --cores $(CORES)

# Workflow tests run jobs on all cores by themselves, so they come alone.
test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit
	$(BIN)/python -m pytest tests/workflow

# What the unit tests reach, per room and in all. Not part of `test`: on Python 3.11 every call and line of torch, pydantic
# and YAML goes through the tracer, too, which makes the tests 40 to 90 % slower.
coverage: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report= tests/unit
	@for room in src/edgeward/[a-z]*/; do \
	    printf '%-12s %3s %%\n' $$(basename $$room) $$($(BIN)/coverage report --include="$$room*" --format=total); \
	done
	@printf '%-12s %3s %%\n' all $$($(BIN)/coverage report --format=total)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m edgeward.pipeline.document --check

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeward needs Python 3.11 or newer; choose one with: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# Choose new versions within the bounds of pyproject.toml.
lock: .venv/ready
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --upgrade \
	    --generate-hashes --no-emit-index-url --no-header --quiet pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .coverage .snakemake .pytest_cache .hypothesis .mypy_cache .ruff_cache
