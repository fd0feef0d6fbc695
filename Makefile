# Thin: every target is one command that can also be run by itself.
PYTHON := .local/venv/bin/python
POLICY ?= policies/default.yaml
OUT ?=
# A policy by its file or, if it is a shipped one, by its name.
CHOSEN_POLICY = $(if $(filter-out file,$(origin POLICY)),--policy $(or $(wildcard policies/$(POLICY).yaml),$(POLICY)))
STACK = $(if $(STATE),--state-dir $(STATE))
need = $(if $($(1)),,$(error $(1) is missing: $(2)))
# Not out of the environment, where the runbook's may stand: it would turn the local stack's commands into a cluster's.
ifneq ($(origin FLINK),command line)
override FLINK :=
endif
CONTROL = FLINK_URL=$(FLINK) $(PYTHON) -m flink_control
JAR_AND_POLICY = --jar .local/launcher/block-detector.jar $(CHOSEN_POLICY)

.DEFAULT_GOAL := help
.PHONY: help setup up down status logs demo backtest replay upgrade submit savepoint check-policy explain rebuild-redis verify-replay bench-throughput bench-latency bench-burst bench-outage bench-upgrade bench-refusal bench-logins bench-blocked bench-client fuzz test lint format types imports unit e2e lock bench-state bench-sizes scale backup restore restore-drill check-rules

help: ## Show this
	@echo '  STATE=folder: of another stack than .local/stack'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## Virtual environment, jars, launcher jar; done again only when their files changed
	@sh tools/bootstrap

up: setup ## Start everything and leave it running: [POLICY=name-or-file], else the policy in force before
	@$(PYTHON) -m tools.stack $(STACK) up $(CHOSEN_POLICY)

down: setup ## Stop everything that up started
	@$(PYTHON) -m tools.stack $(STACK) down

status: setup ## What runs, and whether it is healthy
	@$(PYTHON) -m tools.stack $(STACK) status

logs: setup ## The newest log lines (PART=name for one part)
	@$(PYTHON) -m tools.stack $(STACK) logs $(PART)

demo: setup ## As many wrong passwords as block, and the milliseconds to the block
	@$(PYTHON) -m tools.demo $(STACK)

backtest: setup ## A policy tried on history: DATA=file POLICY=name-or-file [AGAINST=…] [CHART=file] [OUT=file]
	@$(call need,DATA,a log or recorded attempts)$(PYTHON) -m tools.backtest $(DATA) --policy $(POLICY) $(if $(AGAINST),--against $(AGAINST)) \
	  $(if $(CHART),--chart $(CHART)) $(if $(OUT),--out $(OUT)) $(OPTIONS)

replay: setup ## Recorded attempts through the stack: DATA=file POLICY=name-or-file [OUT=file]
	@$(call need,DATA,recorded attempts)$(PYTHON) -m tools.replay $(STACK) $(DATA) --policy $(POLICY) $(if $(OUT),--out $(OUT))

upgrade: setup ## Another policy (or version) for the live job, nothing lost: [POLICY=name-or-file] [FLINK=url]
	@$(if $(FLINK),$(CONTROL) upgrade $(JAR_AND_POLICY),$(PYTHON) -m tools.upgrade $(STACK) $(CHOSEN_POLICY))

submit: setup ## Start the live job unless it runs, by REST: [FLINK=url] [POLICY=name-or-file] [FROM=savepoint] [FRESH=1]
	@$(if $(FLINK),$(CONTROL) submit $(JAR_AND_POLICY),$(PYTHON) -m tools.submit $(STACK) $(CHOSEN_POLICY)) $(if $(FROM),--from $(FROM)) $(if $(FRESH),--fresh)

savepoint: setup ## Write a savepoint of the live job, which goes on, by REST: [FLINK=url]
	@$(if $(FLINK),$(CONTROL) savepoint,$(PYTHON) -m tools.stack $(STACK) savepoint)

check-policy: setup ## The rules of a policy in words, or all that is wrong in it: POLICY=name-or-file
	@$(PYTHON) -m tools.policy check $(POLICY)

explain: setup ## The SQL that a policy becomes: POLICY=name-or-file
	@$(PYTHON) -m tools.explain $(POLICY)

rebuild-redis: setup ## Fill an emptied Redis at once from the block events
	@$(PYTHON) -m tools.rebuild_redis $(STACK)

verify-replay: setup ## Replay every recorded set and compare with its expected blocks: [DATA=folder], else tests/data
	@$(PYTHON) -m tools.verify_replay $(STACK) $(or $(DATA),tests/data)

bench-throughput: setup ## Attempts a second of each rule and of all, as a share of reading: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_throughput $(STACK) $(OPTIONS)

bench-latency: setup ## Failure published to block in Redis, at 100, 500 and 2,000 attempts/s
	@$(PYTHON) -m tools.bench_latency $(STACK)

bench-burst: setup ## Passwords checked when 100 clients guess at one name at once: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_burst $(STACK) $(OPTIONS)

bench-outage: setup ## Kafka stopped for a while under logins: what they take, and what arrives: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_outage $(STACK) $(OPTIONS)

bench-upgrade: setup ## Another policy under load and back, by REST: what is lost, and the pause: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_upgrade $(STACK) $(OPTIONS)

bench-refusal: setup ## What a refused login costs, and an accepted one beside its hash, against a constant answer: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_refusal $(STACK) $(OPTIONS)

bench-logins: setup ## Accepted logins against bare hashes, equal time for unknown users, Redis frozen: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_logins $(STACK) $(OPTIONS)

bench-blocked: setup ## What the Blocked API's answers cost, and a thousand stream clients: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_blocked $(OPTIONS)

bench-client: setup ## The client's copy under 1,000 changes a second: equal, how soon, what a question costs: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_client $(OPTIONS)

bench-state: setup ## What a subject costs the detector: checkpoint, heap, RocksDB: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_state $(OPTIONS)

bench-sizes: setup ## What a block, guard, place, attempt and account take in Redis, Kafka, Postgres: [OPTIONS=…]
	@$(PYTHON) -m tools.bench_sizes $(STACK) $(OPTIONS)

scale: setup ## How large each part must be: RATE=attempts/s [ACCOUNTS=number], 10 million if not said; TABLE=1 renews docs/scaling.md
	@$(PYTHON) -m tools.scaling $(if $(RATE),--rate $(RATE)) $(if $(ACCOUNTS),--accounts $(ACCOUNTS)) $(if $(TABLE),--write)

backup: setup ## All that the running stack keeps, as a folder: TO=folder
	@$(call need,TO,the folder to copy into)$(PYTHON) -m tools.backup make $(TO) $(STACK)

restore: setup ## A stack out of such a folder, to be started: FROM=folder STATE=new-folder
	@$(call need,FROM,the folder that make backup has written)$(call need,STATE,a new folder for the stack)$(PYTHON) -m tools.backup restore $(FROM) --state-dir $(STATE)

restore-drill: setup ## Loses everything on purpose, in a stack of its own, and restores it
	@$(PYTHON) -m tools.restore_drill

check-rules: ## Prometheus' rules, their unit tests and its configuration (wants promtool)
	@promtool check rules deploy/prometheus/rules/*.yaml
	@promtool test rules deploy/prometheus/tests/*.yaml
	@promtool check config --syntax-only deploy/prometheus/prometheus.yml

of_stack = $(PYTHON) -c "from pathlib import Path; from tools.stack import layout; print(layout.load(Path('$(or $(STATE),.local/stack)')).$(1))"
# In an environment of its own: it wants other versions than the project.
FUZZ_CHECKS := not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance
fuzz: setup ## Both running APIs called in every way that their OpenAPI documents allow, and others
	@[ -x .local/fuzz/bin/schemathesis ] || { $(PYTHON) -m venv .local/fuzz && .local/fuzz/bin/pip install -q schemathesis==4.32.5; }
	@$(PYTHON) -m tools.stack $(STACK) status >/dev/null || { echo 'the stack is not up, or not well: make status'; exit 1; }
	@.local/fuzz/bin/schemathesis run $$($(call of_stack,login_url))/openapi.json --max-examples 300 \
	  --checks $(FUZZ_CHECKS) -H "Authorization: Bearer $$($(call of_stack,secrets.admin_token))"
	@# A stream has no end to wait for. Started with BLOCKED_API_LISTS_A_MINUTE=0 its lists are not refused.
	@.local/fuzz/bin/schemathesis run $$($(call of_stack,blocked_url))/openapi.json --max-examples 300 \
	  --checks $(FUZZ_CHECKS) --exclude-path /blocked/stream

test: setup lint types imports ## Everything: lint, types, import rules, all tests
	@$(PYTHON) -m pytest

lint: setup ## Style and formatting
	@.local/venv/bin/ruff check .
	@.local/venv/bin/ruff format --check .

format: setup ## Put the formatting right
	@.local/venv/bin/ruff check --fix .
	@.local/venv/bin/ruff format .

types: setup ## Types, strictly
	@.local/venv/bin/mypy

imports: setup ## Who may import whom
	@.local/venv/bin/lint-imports

unit: setup ## Only what starts no service
	@$(PYTHON) -m pytest -m 'not service and not flink and not e2e'

e2e: setup ## Only the whole stack, on free ports of its own
	@$(PYTHON) -m pytest -m e2e

lock: setup ## Write down what is installed as constraints.txt
	@{ echo '# What pip may choose, direct and transitive, for every install of this project. Renew: make lock'; \
	  .local/venv/bin/pip freeze --exclude-editable; } > constraints.txt

.PHONY: images verify-images sbom
images: setup ## Build the three images, on stand-in bases where no registry answers: [OPTIONS='--stand-in' or names]
	@$(PYTHON) -m tools.images build $(OPTIONS)

verify-images: setup ## What each image is and can do, and all three run together
	@$(PYTHON) -m tools.images verify

sbom: setup ## What is in each image, as CycloneDX, into .local/sbom
	@$(PYTHON) -m tools.images sbom

.PHONY: env verify-compose
env: ## Random secrets for docker compose in .env; none that is there is changed
	@sh tools/make-env

verify-compose: setup ## docker-compose.yml run by podman as it stands, and what that proves: [OPTIONS=…]
	@$(PYTHON) -m tools.verify_compose $(OPTIONS)

.PHONY: k8s-secrets k8s-files verify-k8s
k8s-secrets: ## Random passwords for k8s/overlays/dev, where none are yet
	@sh tools/make-env k8s/overlays/dev/secrets.env kubernetes

k8s-files: setup ## Renew the copies that k8s/ holds of files elsewhere
	@$(PYTHON) -m tools.k8s.copies

verify-k8s: setup ## Every overlay on a real API server, twice, and Flink's rights: [KUBECONFIG=file] [OPTIONS=--without-flink]
	@# A cluster only if it is named here: the shell's own KUBECONFIG may be of one that matters.
	@$(PYTHON) -m tools.k8s.verify $(if $(findstring command,$(origin KUBECONFIG)),--kubeconfig $(KUBECONFIG)) $(OPTIONS)
