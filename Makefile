# Two commands do all on a fresh machine: `make demo` and `make test`. Both set up their environment in .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Set up once, and again when what is to be installed changes. An interrupted set-up leaves no stamp.
STAMP := $(VENV)/.installed
DEMO := demo
# transformers' own tests of models, which are in its source archive and not in its wheel.
MIXIN := $(VENV)/transformers-tests
# Test files run in so many processes at once, each with one thread.
WORKERS ?= 2

export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many processes, which begin sooner where modules are kept compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# What the quick tests leave out; those of transformers and on real data are all slow.
QUICK := not slow and not real_data and not mixin

.PHONY: help demo test test-fast coverage test-lowest test-without-torch test-quantization test-apps transformers-tests docs
.PHONY: quality style clean

help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-18s %s\n", $$1, $$2}'

demo: $(STAMP) ## Segment and trace a sample neuron with the embedded default, offline (results in demo/)
	HF_HUB_OFFLINE=1 $(BIN)/python scripts/demo.py $(DEMO)

test: $(STAMP) $(MIXIN)/.looked ## Run all tests (those on real data only where it lies beside the checkout)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

test-fast: $(STAMP) ## Run the tests that take at most a few seconds each
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "$(QUICK)" $(ARGS)

coverage: $(STAMP) ## Run the quick tests and tell which lines they did not reach (all tests: ARGS="-m ''")
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "$(QUICK)" \
		--cov neuron_vit3d --cov-report term-missing:skip-covered $(ARGS)

# The lower bounds of pyproject.toml go before the libraries of .venv, of which torch and transformers stay as they are.
LOWEST := $(VENV)/lowest
CORE ?= @tests/core.txt

test-lowest: $(LOWEST)/.installed ## Run the core tests on the lowest versions that pyproject.toml allows
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal -m "$(QUICK)" \
		$(ARGS) $(CORE)

$(LOWEST)/.installed: $(STAMP) scripts/lowest_requirements.py
	rm -rf $(LOWEST)
	$(BIN)/python -m venv --without-pip $(LOWEST)
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" \
		> $$($(LOWEST)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/venv.pth
	$(BIN)/python scripts/lowest_requirements.py --extras zarr nrrd nifti --without torch transformers > $(LOWEST)/lowest.txt
	grep -E "^(torch|transformers)==" constraints.txt >> $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --requirement $(LOWEST)/lowest.txt
	@touch $@

# For Pythons that have no torch: PYTHON=python3.13.
WITHOUT_TORCH := $(VENV)/$(notdir $(PYTHON))-without-torch

test-without-torch: ## Run the tests that need no torch, in an environment without it
	test -x $(WITHOUT_TORCH)/bin/python || $(PYTHON) -m venv $(WITHOUT_TORCH)
	$(WITHOUT_TORCH)/bin/python -m pip install --quiet --constraint constraints.txt numpy scipy scikit-image tifffile pillow \
		tqdm pyyaml typer zarr pynrrd nibabel morphio neurom pytest pytest-xdist hypothesis
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=src $(WITHOUT_TORCH)/bin/python -m pytest --numprocesses $(WORKERS) \
		--dist worksteal -m "$(QUICK)" $(ARGS) @tests/without_torch.txt

transformers-tests: ## Fetch transformers' own tests of models, which `make test` then runs on ours
	rm -f $(MIXIN)/.looked
	$(MAKE) $(MIXIN)/.looked
	test -e $(MIXIN)/tests

# Where they cannot be had, the tests that need them are skipped.
$(MIXIN)/.looked: $(STAMP)
	rm -rf $(MIXIN)
	mkdir -p $(MIXIN)
	version=$$($(BIN)/python -c "from importlib.metadata import version; print(version('transformers'))") \
		&& $(BIN)/python -m pip download --quiet --no-deps --no-binary transformers --dest $(MIXIN) transformers==$$version \
		&& $(BIN)/python -m pip install --quiet --no-deps --target $(MIXIN)/packages parameterized \
		&& tar -xzf $(MIXIN)/transformers-$$version.tar.gz -C $(MIXIN) --strip-components 1 transformers-$$version/tests \
		&& rm $(MIXIN)/transformers-$$version.tar.gz \
		|| echo "make: transformers' own tests could not be fetched, and are skipped (make transformers-tests tries again)"
	@touch $@

# torchao beside the environment, not in it: transformers imports it wherever it is, and it is slow and loud.
test-quantization: $(STAMP) ## Run the tests of quantised loading, with torchao
	test -d $(VENV)/torchao || { $(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/torchao.partial torchao \
		--constraint constraints.txt && mv $(VENV)/torchao.partial $(VENV)/torchao; }
	HF_HUB_OFFLINE=1 PYTHONPATH=$(VENV)/torchao $(BIN)/python -m pytest -m quantization

# What the apps need goes before the libraries of .venv, where it may want other versions of them.
APPS := $(VENV)/apps

test-apps: $(APPS)/.installed ## Run the tests of the apps, with what their extras install
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 QT_QPA_PLATFORM=offscreen $(APPS)/bin/python -m pytest $(ARGS) tests/apps \
		tests/test_notebooks.py tests/cli/test_open_page.py tests/cli/test_view.py tests/cli/test_report.py

$(APPS)/.installed: $(STAMP)
	rm -rf $(APPS)
	$(BIN)/python -m venv --without-pip $(APPS)
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" \
		> $$($(APPS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/venv.pth
	$(BIN)/python -c "import tomllib; print(*[line for name in ('napari', 'app', 'report') for line in tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'][name]], sep='\n')" > $(APPS)/requirements.txt
	printf '%s\n' playwright nbclient ipykernel >> $(APPS)/requirements.txt
	$(APPS)/bin/python -m pip install --quiet --requirement $(APPS)/requirements.txt --constraint constraints.txt
	@touch $@

# An environment of its own: the site is built from the source's text, without torch.
docs: $(VENV)/docs/.installed ## Build the docs site, strictly (into site/)
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/python -m mkdocs build --strict

$(VENV)/docs/.installed: pyproject.toml constraints.txt
	test -x $(VENV)/docs/bin/python || $(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > $(VENV)/docs/requirements.txt
	$(VENV)/docs/bin/python -m pip install --quiet --requirement $(VENV)/docs/requirements.txt --constraint constraints.txt
	@touch $@

quality: $(STAMP) ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

style: $(STAMP) ## Repair format and lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment, the demo's results and caches
	rm -rf $(VENV) $(DEMO) build site .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "make: $(PYTHON) was not found; name a Python 3.11 or newer by PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]" --constraint constraints.txt
	@touch $@
