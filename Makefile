# What a person types; `make help` lists it. Arguments for the harness go into ARGS: make run ARGS="'postgres/*' --postgres 17,18"

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build run test bench lint fuzz mutants images clean

CARGO ?= cargo
ARGS ?=
# As cargo does: the target folder can be elsewhere.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
# Most of a test is waiting for servers.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
SETUP := harness/toolchain/setup.sh
HARNESS := $(CARGO_TARGET_DIR)/release/mtls-conformance
REPORTS := reports

# Runs the set-up beside a cargo command. What the set-up can't bring only narrows the run; the exit code is cargo's.
define beside_setup
$(SETUP) compiler; $(SETUP) --once & setup=$$!; $(1); built=$$?; wait $$setup; exit $$built
endef

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Bring what the harness needs and this machine lacks
	@$(SETUP)

build: ## Build the harness
	@$(SETUP) compiler
	@$(CARGO) build --release --locked

run: ## Set up, build and run every scenario; reports go to reports/
	@$(call beside_setup,$(CARGO) build --release --locked)
	@mkdir -p $(REPORTS)
	@$(HARNESS) run --report json=$(REPORTS)/run.json --report junit=$(REPORTS)/junit.xml --report markdown=$(REPORTS)/summary.md $(ARGS)

test: ## Set up, build and run all tests, the scenarios among them
	@$(call beside_setup,$(CARGO) test --release --locked --workspace --no-run)
	@$(CARGO) test --release --locked --workspace $(ARGS)

bench: ## Set up, build and measure: cases a second, server start, connections beside pgbench (ARGS=--quick for less)
	@$(call beside_setup,$(CARGO) bench --locked --workspace --no-run)
	@$(CARGO) bench --locked --workspace -- $(ARGS)

lint: ## Formatting, clippy, shell and Python scripts, Markdown, licences, advisories, banned and yanked crates
	@$(SETUP) compiler
	@harness/toolchain/lint.sh

fuzz: ## Fuzz every parser of foreign bytes for a minute each (ARGS=TARGET for one; FUZZ_SECONDS=N)
	@harness/toolchain/deep.sh fuzz $(ARGS)

mutants: ## Change what judges in hundreds of ways, and see whether a test notices; takes long (ARGS="-p check" for one crate)
	@harness/toolchain/deep.sh mutants $(ARGS)

images: ## Build container images from Debian's packages, for places without a registry; needs a container engine
	@kind/images/build.sh

clean: ## Remove what was built, reports and caches; the toolchain stays (remove .toolchain to bring it anew)
	@$(CARGO) clean --quiet
	@rm -rf $(REPORTS) .cache
