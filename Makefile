# Every target sets up what it needs: `make demo` works in a fresh checkout.
#   make                what there is
#   make demo           a cluster on this machine, an ASHA sweep, its results, and the cluster down again

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET ?= local
STRATEGY ?= asha
TASK ?= digits
NAME ?=
JOB ?= $(NAME)
ARGS ?=
FAULT ?=
TENTH ?=
STRATEGIES ?= random_search asha tpe_asha pbt
SEEDS ?= 10
SAMPLES ?= 20
LIST ?=
# Not the default of STRATEGY: without one, chaos takes them all.
STRATEGY_ASKED := $(if $(filter default,$(origin STRATEGY)),,$(if $(filter file,$(origin STRATEGY)),,$(STRATEGY)))
WORKERS ?=
# The images that clusters in containers run, and what they are built from (empty: docker/Dockerfile's own base).
export RAYSWEEP_IMAGE ?= raysweep:local
export RAYSWEEP_STORE_IMAGE ?= raysweep-store:local
BASE_IMAGE ?=
CA_BUNDLE ?= $(SSL_CERT_FILE)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RAYSWEEP := $(BIN)/raysweep
# As words of the shell: a name may have spaces, and never an effect.
quote = '$(subst ','\'',$(1))'
need = $(if $(strip $($(1))),,$(error $(1)= is missing: make $@ $(1)=…))

##@ Start here

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## The locked environment in .venv (every other target does it too)

# Some machines forbid Python to keep its bytecode: then each of the dozen Pythons of a cluster compiles Ray again.
unexport PYTHONDONTWRITEBYTECODE

# The stamp is newer than the lock: nothing to do. uv of this machine, or one of our own in .venv.
# Importing the two large packages once compiles just what they use; compiling all of .venv takes five times as long.
$(READY): uv.lock pyproject.toml
	@if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then uv=uv; else \
	  [ -x $(BIN)/uv ] || { python3 -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }; \
	  uv=$(BIN)/uv; fi; \
	UV_PROJECT_ENVIRONMENT=$(VENV) "$$uv" sync --frozen --quiet
	@$(BIN)/python -c "import torch" & $(BIN)/python -c "import ray.tune, ray.dashboard.dashboard" && wait $$!
	@touch $@

.PHONY: demo
# A cluster that was up before is used, and stays up.
demo: $(READY) ## Cluster up, an ASHA sweep of 20 trials on digits, its results, cluster down
	@name=demo-$$(date +%Y%m%d-%H%M%S); code=0; \
	$(RAYSWEEP) cluster status >/dev/null 2>&1 || trap '$(RAYSWEEP) cluster down' EXIT; \
	$(RAYSWEEP) cluster up --target $(TARGET); \
	$(RAYSWEEP) submit asha --task digits --samples 20 --name "$$name" || code=$$?; \
	$(RAYSWEEP) results "$$name" || true; \
	exit $$code

##@ Cluster (TARGET=local, docker, kind, minikube, k8s or aws; ARGS="--dashboard-port 8266", see `raysweep cluster up --help`)

.PHONY: cluster-up cluster-down cluster-status cluster-logs scale
cluster-up: $(READY) ## Start the cluster; prints its dashboard and how to submit [WORKERS=2]
	@$(RAYSWEEP) cluster up --target $(TARGET) $(if $(WORKERS),--workers $(WORKERS)) $(ARGS)

cluster-down: $(READY) ## Stop it and all that runs on it; the storage stays, but for ARGS=--volumes
	@$(RAYSWEEP) cluster down $(ARGS)

cluster-status: $(READY) ## Is it up, and where
	@$(RAYSWEEP) cluster status

cluster-logs: $(READY) ## What its own processes wrote [ARGS=--follow]
	@$(RAYSWEEP) cluster logs $(ARGS)

scale: $(READY) ## WORKERS=3: the number of nodes that run trials; the others keep running
	@$(call need,WORKERS)$(RAYSWEEP) cluster scale $(WORKERS)

##@ Images (BASE_IMAGE=debian:bookworm-slim without GPUs; CA_BUNDLE=FILE behind a TLS proxy)

.PHONY: image image-test
image: $(READY) ## Build the image of all clusters in containers, and that of their S3 store
	@$(RAYSWEEP) image $(if $(BASE_IMAGE),--base-image $(call quote,$(BASE_IMAGE))) \
	  $(if $(strip $(CA_BUNDLE)),--ca-bundle $(call quote,$(CA_BUNDLE)))

image-test: ## Versions, user, tools, Ray and a Tune trial in the image, closed as a cluster runs it [ARGS="--gpus all"]
	@$(docker)
	@docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp --shm-size 1g \
	  --volume "$(CURDIR)/docker/smoke.py:/smoke/smoke.py:ro" --volume "$(CURDIR)/uv.lock:/smoke/uv.lock:ro" \
	  $(ARGS) $(RAYSWEEP_IMAGE) python /smoke/smoke.py run /smoke/uv.lock

docker = command -v docker >/dev/null || \
  { echo "error: \`docker\` is not installed: see https://docs.docker.com/engine/install" >&2; exit 2; }

##@ Run

.PHONY: submit rayjob dashboard status logs stop results list compare
submit: $(READY) ## STRATEGY=asha TASK=digits NAME=first [ARGS="--samples 20"]: run a sweep, follow it
	@$(RAYSWEEP) submit $(call quote,$(STRATEGY)) --task $(call quote,$(TASK)) \
	  $(if $(NAME),--name $(call quote,$(NAME))) $(ARGS)

rayjob: $(READY) ## The same as a RayJob, on a Kubernetes cluster of its own, removed afterwards (kind, minikube, k8s)
	@$(call need,NAME)$(RAYSWEEP) rayjob $(call quote,$(STRATEGY)) --task $(call quote,$(TASK)) \
	  --name $(call quote,$(NAME)) $(ARGS)

dashboard: $(READY) ## Its address, forwarded to this machine, and how to log in
	@$(RAYSWEEP) dashboard

status: $(READY) ## The jobs, newest first [NAME=first]
	@$(RAYSWEEP) status $(if $(NAME),$(call quote,$(NAME)))

logs: $(READY) ## NAME=first (or JOB=submission-id): follow its log
	@$(call need,JOB)$(RAYSWEEP) logs $(call quote,$(JOB)) --follow

stop: $(READY) ## NAME=first (or JOB=submission-id): stop it; the sweep saves itself first
	@$(call need,JOB)$(RAYSWEEP) stop $(call quote,$(JOB))

results: $(READY) ## NAME=first: its trials and the best of them; without NAME the sweeps there are
	@$(RAYSWEEP) results $(if $(NAME),$(call quote,$(NAME))) $(ARGS)

list: $(READY) ## The strategies and the tasks
	@$(RAYSWEEP) list

compare: $(READY) ## Strategies with equal budgets and shared seeds, here [TASK=digits STRATEGIES="asha pbt" SEEDS=10 SAMPLES=20]
	@$(BIN)/python benchmarks/compare.py --task $(call quote,$(TASK)) --strategies $(call quote,$(STRATEGIES)) \
	  --seeds $(SEEDS) --samples $(SAMPLES) $(ARGS)

##@ Develop

.PHONY: test test-docker test-kind test-minikube test-gpu chaos lint format bench clean
# Five processes: the strategies share a private Ray, others start clusters, and none sees the other's settings.
# Two groups side by side: the first one computes, the second mostly waits for sweeps, and is shown at the end.
test: $(READY) ## All tests, or ARGS="tests/test_cli.py -k help"
	@code=0; run() { $(BIN)/pytest "$$@" || code=1; }; \
	if [ -n "$(strip $(value ARGS))" ]; then run $(ARGS); exit $$code; fi; \
	shown=$$(mktemp); set -m; \
	(run tests/jobs; run tests/from_tune; run tests/e2e; run tests/vm; exit $$code) >"$$shown" 2>&1 & group=$$!; \
	set +m; trap "kill -INT -- -$$group 2>/dev/null || true; rm -f $$shown" EXIT; \
	run $(addprefix --ignore tests/,jobs from_tune e2e vm docker k8s minikube chaos gpu); \
	wait $$group || code=1; \
	cat "$$shown"; exit $$code

test-docker: $(READY) ## The images and the docker target on a real engine; needs `make image`
	@$(docker)
	@$(BIN)/pytest tests/docker $(ARGS)

chaos: $(READY) ## Every fault into every strategy [FAULT=driver-killed STRATEGY=asha,pbt | TENTH=1 | LIST=1]
	@if [ -n "$(LIST)" ]; then \
	  grep -rhoP 'mark.fault\("\K[^"]+' tests/chaos | sort; \
	else \
	  CHAOS_FAULT=$(call quote,$(FAULT)) CHAOS_STRATEGY=$(call quote,$(STRATEGY_ASKED)) CHAOS_TENTH=$(TENTH) \
	    $(BIN)/pytest tests/chaos $(ARGS); \
	fi

test-kind: $(READY) ## The Kubernetes targets on a real kind cluster; needs `make image`; KIND_FULL=1 for all of it
	@$(BIN)/pytest tests/k8s $(ARGS)

test-minikube: $(READY) ## The target minikube on a real one; needs `make image`
	@$(BIN)/pytest tests/minikube $(ARGS)

test-gpu: $(READY) ## What one NVIDIA GPU can show, with the benchmarks that need one: ten minutes; skipped without
	@$(BIN)/pytest tests/gpu $(ARGS)

# Only what exists is checked; all checks run, and any of them fails the target.
lint: $(READY) ## ruff, mypy, layers, YAML, shell and Dockerfiles
	@code=0; run() { echo "» $$*"; "$$@" || code=1; }; \
	run $(BIN)/ruff check .; \
	run $(BIN)/ruff format --check .; \
	run $(BIN)/mypy; \
	run $(BIN)/lint-imports --no-cache; \
	run $(BIN)/hadolint docker/Dockerfile; \
	mapfile -t yaml < <($(call files,*.yaml *.yml)); \
	mapfile -t scripts < <($(call files,*.sh .ci/run)); \
	[ $${#yaml[@]} = 0 ] || run $(BIN)/yamllint --strict -d "$(YAML_RULES)" "$${yaml[@]}"; \
	[ $${#scripts[@]} = 0 ] || run $(BIN)/shellcheck "$${scripts[@]}"; \
	exit $$code

YAML_RULES := {extends: default, rules: {line-length: {max: 120}, document-start: disable, \
  comments: {min-spaces-from-content: 1}, braces: {max-spaces-inside: 1}, truthy: {check-keys: false}}}
# Tracked and new files that git does not ignore, and that are still there.
files = git ls-files --cached --others --exclude-standard -- $(patsubst %,'%',$(1)) | while read -r f; do [ ! -e "$$f" ] || echo "$$f"; done

format: $(READY) ## Format and fix what ruff can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(READY) ## The benchmarks; ARGS="--data DIR" for the tutorial's, with Fashion-MNIST files there
	@$(BIN)/python benchmarks/noop.py
	@$(BIN)/python benchmarks/epoch.py $(ARGS)
	@$(BIN)/python benchmarks/tutorial.py $(ARGS)

clean: cluster-down ## Cluster down, caches away; runs/, .raysweep/token and .venv stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
