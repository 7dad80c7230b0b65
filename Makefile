# Everything runs in .venv, made from the lock. `make run` and `make test` are all a user needs.
VENV := .venv
BIN  := $(VENV)/bin
PY   := python3
LOCK := deploy/requirements.lock
STAMP := $(VENV)/.stamp

.PHONY: setup run test lint bench lock clean
setup: $(STAMP)

$(STAMP): pyproject.toml $(LOCK)
	@echo "headroom: setting up $(VENV) (about a minute, once)"
	@$(PY) -m venv --clear --without-pip $(VENV)
	@$(PY) -m pip --disable-pip-version-check --python $(BIN)/python install -q --require-hashes --only-binary :all: -r $(LOCK)
	@$(PY) -m pip --disable-pip-version-check --python $(BIN)/python install -q --no-deps --no-build-isolation -e .
	@touch $@

run: setup
	@$(BIN)/headroom demo --site colossus --scenario surge

test: lint
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup
	@$(BIN)/headroom bench all

lock: setup
	@$(BIN)/uv pip compile --upgrade -q --generate-hashes --python-version 3.11 --all-extras --no-annotate --no-header pyproject.toml -o $(LOCK)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis
