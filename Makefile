# The commands of the project. `make demo` and `make test` need Python 3.11 or newer and nothing else.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEMO := demo
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
# For every platform and Python that we support, with the hashes that the package index gives.
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-emit-package torch --custom-compile-command 'make lock' $(LOCK_ARGS)

SPACE := $(subst ,, )

.PHONY: help install demo demo-password serve test contract contract-lock lint lock format compatibility messages worker clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/base: requirements/base.lock requirements/torch.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@echo 'Installing into $(VENV) (about 2 GB, a few minutes)'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --no-deps --require-hashes -r requirements/base.lock
	@$(INSTALL) -r requirements/torch.txt
	@touch $@

$(VENV)/dev: requirements/dev.lock $(VENV)/base
	@echo 'Installing what the tests need into $(VENV)'
	@$(INSTALL) --no-deps --require-hashes -r requirements/dev.lock
	@touch $@

# A file of settings with a secret of its own; an existing one is never touched.
$(DEMO)/.env: | $(VENV)/base
	@mkdir -p $(DEMO)
	@umask 077; $(PY) -c 'import secrets; print("SECRET_KEY=" + secrets.token_urlsafe(50))' > $@
	@printf 'SESSIONS_DB_PATH=$(DEMO)/sessions.db\nMODEL_REPO_ID=models/ktp-reader\nSERVED_MODEL_NAME=ktp-reader\nOCR_MAX_TOKENS=500\nTORCH_DTYPE=float32\nTORCH_THREADS=1\n' >> $@

.env: | $(VENV)/base
	@umask 077; sed "s|^SECRET_KEY=.*|SECRET_KEY=$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(50))')|" .env.example > $@
	@echo 'Made .env from .env.example. Look at it: the model, the device and the limits are set there.'

demo: $(VENV)/base $(DEMO)/.env  ## Try it: a small reader of specimens, SQLite, no other services, nothing downloaded from a model hub
	@ENV_FILE=$(DEMO)/.env exec $(PY) manage.py demo

demo-password:  ## Set another password for the demo's admin
	@test -f $(DEMO)/sessions.db || { echo 'There is no demo yet. Start it once first: make demo' >&2; exit 1; }
	@ENV_FILE=$(DEMO)/.env $(PY) manage.py changepassword admin

serve: $(VENV)/base .env  ## Serve with your own .env
	@exec $(PY) manage.py serve

worker: $(VENV)/base .env  ## Run one GPU worker (needs REDIS_URL)
	@exec $(PY) manage.py worker

install: $(VENV)/base  ## Make the virtual environment and install the server

test: $(VENV)/dev  ## Run all tests; what needs Redis, PostgreSQL or Chromium runs where they are found
	$(PY) -m pytest $(PYTEST_ARGS)

contract: $(VENV)/dev  ## Try the clients of OpenAI's API, unmodified (installs them from PyPI and npm; CLIENTS="litellm ai-sdk" for some)
	@# What cannot be installed fails the tests of its client, with the reason.
	-$(PY) -m tests.contract.environments $(CLIENTS)
	$(PY) -m pytest tests/contract $(if $(CLIENTS),--clients "$(CLIENTS)") $(PYTEST_ARGS)

contract-lock: $(VENV)/dev  ## Pin the packages of the clients anew, after a change of a version in tests/contract/pins
	$(PY) -m tests.contract.environments --lock

lint: $(VENV)/dev  ## Check style, types, and that every change of a model has its migration
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy .
	SECRET_KEY=unused $(PY) manage.py makemigrations --check --dry-run

lock: $(VENV)/dev  ## Lock what requirements/base.txt and dev.txt name (LOCK_ARGS=--upgrade takes newer versions)
	$(LOCK) requirements/base.txt --output-file requirements/base.lock
	$(LOCK) requirements/dev.txt --constraints requirements/base.lock --output-file requirements/dev.lock

format: $(VENV)/dev  ## Put the code into shape
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

compatibility: $(VENV)/dev  ## Write docs/compatibility.md from the code
	@$(PY) -m tests.compatibility

messages: $(VENV)/dev  ## Collect the texts of the pages for translation, and compile the translations (needs gettext)
	SECRET_KEY=unused $(PY) manage.py makemessages --locale id --no-location --no-wrap --no-obsolete --ignore .venv --ignore tests --ignore training --ignore benchmarks
	SECRET_KEY=unused $(PY) manage.py compilemessages --locale id --ignore .venv

clean:  ## Remove what the demo made (its database and its settings)
	rm -rf $(DEMO)
