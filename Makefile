# 'make help' lists the targets. Most targets first create the environment .venv from requirements.lock.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := figure1
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# Index of another build of torch, such as https://download.pytorch.org/whl/cu130. Empty: the package registry's build.
TORCH_INDEX ?=
BIN := .venv/bin
ENVIRONMENT := .venv/.installed
# The programs in .venv name the folder in which .venv was made. They do not run after the project was moved or copied.
MOVED := $(shell [ ! -e $(BIN)/duvae ] || grep -qF "$(CURDIR)/$(BIN)/python" $(BIN)/duvae || echo yes)

# Turns the telemetry of all libraries off. 'environment' writes these variables into .venv too, for other commands.
SILENT := DO_NOT_TRACK GX_ANALYTICS_ENABLED ITERATIVE_DO_NOT_TRACK MLFLOW_DISABLE_TELEMETRY PREFECT_SERVER_ANALYTICS_ENABLED
export DO_NOT_TRACK := true
export GX_ANALYTICS_ENABLED := False
export ITERATIVE_DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# Material for MkDocs advertises its successor at each build.
export NO_MKDOCS_2_WARNING := true
# dvc and the commands of its stages come from the environment .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: figure1 demo report rebuild ui serve search dashboard test check docs pages screenshots smoke torture fuzz bench gpu-check counts containers digests passwords lock environment clean help

figure1: $(ENVIRONMENT)  ## Rebuild Figure 1 on all cores or GPUs, fill MLflow, and print the results (the default target)
	@python -m pipelines.figure1 $(ARGS)

demo: $(ENVIRONMENT)  ## Show VAE and DU-VAE on a small synthetic text, in the new folder demo; ARGS=--again makes it anew
	@duvae demo $(ARGS)

report: $(ENVIRONMENT)  ## Rebuild everything that 'run' in params.yaml names, and fill MLflow
	@dvc repro
	@duvae track
	@echo
	@echo "The page:  $(CURDIR)/reports/index.html"
	@echo "The runs:  make ui"

rebuild: $(ENVIRONMENT)  ## Do the same as 'make report' on all GPUs or cores at once; ARGS=--plan only prints the tasks
	@python -m pipelines.rebuild $(ARGS)

ui: $(ENVIRONMENT)  ## Show the runs in MLflow on http://127.0.0.1:5000, with links to them; PORT=N for another port
	@python -m pipelines.mlflow_ui --port '$(if $(filter command,$(firstword $(origin PORT))),$(PORT),5000)'

serve: $(ENVIRONMENT)  ## Run a Prefect server and a worker for the deployments of prefect.yaml, until Ctrl-C
	@python -m pipelines.prefect_server $(ARGS)

search: $(ENVIRONMENT)  ## Search (γ, p) on the synthetic data by grid and by TPE, and compare both: at most 64 trainings
	@dvc repro --quiet validate@synthetic
	@python -m pipelines.parallel_study --study synthetic_grid $(ARGS)
	@duvae search --study synthetic_tpe
	@for study in synthetic_grid synthetic_tpe; do duvae figure2 --study $$study; done
	@echo "The pages:  reports/studies/synthetic_grid.html, reports/studies/synthetic_tpe.html"

# The environment often has a variable PORT that belongs to something else, so only 'make dashboard PORT=N' sets it.
PORT = 8080

dashboard: $(ENVIRONMENT)  ## Show the studies: optuna-dashboard on http://127.0.0.1:8080; PORT=N for another port
	@[ -n "$${OPTUNA_STORAGE:-}" ] || [ -f studies/journal.log ] || \
	    { echo "error: studies/journal.log does not exist. Run 'duvae search --study NAME', which creates it." >&2; exit 2; }
	@python -m pipelines.ports '$(PORT)' 'make dashboard PORT=N'
	@studies="$${OPTUNA_STORAGE:-studies/journal.log}"; \
	    optuna-dashboard --host 127.0.0.1 --port $(PORT) "$${studies/#postgresql:/postgresql+psycopg:}"

test: $(ENVIRONMENT)  ## Run the tests in at most four processes; DUVAE_MIRROR=FOLDER adds the tests on real data
	@python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(ENVIRONMENT)  ## Check the code with ruff and mypy
	@ruff check
	@ruff format --check
	@mypy
	@mypy docs/site/*.py

DOCS_PORT = $(if $(filter command,$(firstword $(origin PORT))),$(PORT),8000)

docs: $(ENVIRONMENT)  ## Build the documentation site into build/site; ARGS=serve shows it on http://127.0.0.1:8000; PORT=N
	@case '$(ARGS)' in \
	  '') mkdocs --quiet build --clean; echo "The site:  file://$(CURDIR)/build/site/index.html" ;; \
	  serve) python -m pipelines.ports '$(DOCS_PORT)' 'make docs ARGS=serve PORT=N'; \
	    mkdocs serve --dev-addr '127.0.0.1:$(DOCS_PORT)' ;; \
	  *) echo "error: make docs ARGS='$(ARGS)': expected ARGS=serve, or no ARGS." >&2; exit 2 ;; \
	esac

pages: $(ENVIRONMENT)  ## Check reports/ and build/site in Chromium: accessibility, widths, scripts; ARGS=FILE for one page
	@PYTHONPATH="$(CURDIR)" python tests/browser_pages.py $(ARGS)

screenshots: $(ENVIRONMENT)  ## Make the pictures of MLflow's pages in docs/images from the results of this folder
	@PYTHONPATH="$(CURDIR)" python docs/site/screenshots.py

smoke: $(ENVIRONMENT)  ## Run all stages at a reduced size, in a temporary folder
	@python tests/end_to_end.py

torture: $(ENVIRONMENT)  ## Kill rebuilds, 'duvae track' and searches in 20 rounds, and compare; ARGS='--rounds 3' for 3 rounds
	@PYTHONPATH="$(CURDIR):$(CURDIR)/tests" python tests/torture.py $(ARGS)

fuzz: $(ENVIRONMENT)  ## Give 10,000 mutations of inputs to the commands; ARGS='--mutations 500 --seed 3' for others
	@PYTHONPATH="$(CURDIR):$(CURDIR)/tests" OMP_NUM_THREADS=1 python tests/fuzzing.py $(ARGS)

bench: $(ENVIRONMENT)  ## Measure the speed: thirteen minutes on one free core; ARGS=--full trains for all epochs
	@python -m benchmarks --output benchmarks/results.md $(ARGS)

gpu-check: $(ENVIRONMENT)  ## Check a GPU: parity with the CPU, waits, bits, speed, failures; ARGS='--device cpu' tests the check
	@python -m benchmarks.gpu $(ARGS)

counts: $(ENVIRONMENT)  ## Count the work of each system on a simulated GPU, into pipelines/gpu_counts.yaml: eight minutes on one core
	@PYTHONPATH="$(CURDIR)/src:$(CURDIR)/tests" OMP_NUM_THREADS=1 python -W ignore -m simulated.counts
	@python -m pipelines.paper_runs

containers: $(ENVIRONMENT)  ## Lint docker/, check the compose files, and run each service on a local PostgreSQL
	@hadolint docker/Dockerfile
	@check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml docker/compose.cuda.yaml
	@python docker/check.py $(ARGS)

digests: $(ENVIRONMENT)  ## Ask the registries for the digests of the base images, and write them into docker/
	@python docker/digests.py

passwords:  ## Write docker/.env: random passwords for the containers, and the owner of their files
	@[ ! -e docker/.env ] || { echo "error: docker/.env exists already and was not changed. Remove it to get new passwords." >&2; exit 2; }
	@umask 077; while IFS= read -r line; do case "$$line" in \
	    [A-Z]*=) echo "$$line$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;; \
	    '# UID='*) [ "$$(id -u)" = 0 ] && echo "$$line" || echo "UID=$$(id -u)" ;; \
	    '# GID='*) [ "$$(id -g)" = 0 ] && echo "$$line" || echo "GID=$$(id -g)" ;; \
	    *) echo "$$line" ;; \
	  esac; done < docker/.env.example > docker/.env.part
	@mv docker/.env.part docker/.env
	@echo "docker/.env is written. Keep it: after its first start PostgreSQL accepts only these passwords."

environment: $(ENVIRONMENT)  ## Create .venv or bring it up to date; most other targets do this too

# This target only needs uv: after a change of pyproject.toml, the old lock may not be installable.
lock:  ## Write requirements.lock anew, with the newest versions; ARGS='-c requirements.lock' keeps the versions
	@[ -x $(BIN)/uv ] || $(MAKE) environment
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --all-extras --group install --group containers --group docs --group examples --group pages \
	    --overrides <(echo "dataclasses; python_version < '3.7'") -c <(grep '^torch==' requirements.lock) --no-emit-package torch \
	    $(ARGS) pyproject.toml -o .venv/resolved.txt
	@{ grep -E '^(#|torch==)' requirements.lock; \
	   sed -E -e '/^(nvidia-|cuda-|triton)/,/[^\\]$$/d' -e '/^(#|$$)/d' .venv/resolved.txt; } > requirements.lock.part
	@mv requirements.lock.part requirements.lock
	@echo "requirements.lock is written. Run 'make test', which installs and tests it."

clean:  ## Remove .venv and the caches of the tools; data, models and results stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find src tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: .moved
.moved:
	@echo "The project was moved or copied: .venv is made anew."
	@rm -rf .venv

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 20

# pip installs uv, and uv installs the rest of the lock. Both compare each file with the hashes of the lock, also the
# files of packages that only build others (-b). torch has a version in the lock, but no hash: see requirements.lock.
# The second command for torch adds the libraries of a CUDA build, whose versions torch pins itself.
$(ENVIRONMENT): pyproject.toml requirements.lock $(if $(MOVED),.moved)
	@command -v $(PYTHON) >/dev/null || \
	    { echo "error: '$(PYTHON)' was not found. Install Python 3.11 or newer, or name one: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: $$($(PYTHON) --version) found; Python 3.11 or newer is needed. Name one: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Installing the environment into .venv ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || \
	    { echo "error: .venv could not be created. On Debian and Ubuntu, run 'apt install python3-venv' first." >&2; exit 2; }
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps \
	    -r <(sed -n '/^uv==/,/[^\\]$$/p' requirements.lock)
	@export UV_FIND_LINKS="$${PIP_FIND_LINKS:-}"; torch="$$(grep '^torch==' requirements.lock)"; \
	    install() { $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode "$$@"; }; \
	    hashed() { grep -v '^torch==' requirements.lock; }; \
	    install --require-hashes --no-deps -r <(hashed) -b <(hashed); \
	    [ -z '$(TORCH_INDEX)' ] || install --no-deps --index '$(TORCH_INDEX)' "$$torch"; \
	    install -c requirements.lock "$$torch"; \
	    install --no-deps -b requirements.lock -e .
	@check="$$($(BIN)/uv pip check --python $(BIN)/python 2>&1 | grep '^The package' | grep -v '`pythae` requires `dataclasses')" || true; \
	    [ -z "$$check" ] || { echo "$$check" >&2; \
	    echo "error: these versions in .venv do not fit together. Run 'make clean', then the same command again." >&2; exit 2; }
	@$(BIN)/python -c 'import os, pathlib, sysconfig; names = "$(SILENT)".split(); \
	    pathlib.Path(sysconfig.get_path("purelib"), "silent.pth").write_text("import os; " + "; ".join( \
	    f"os.environ.setdefault({name!r}, {os.environ[name]!r})" for name in names) + "\n")'
	@touch $@
