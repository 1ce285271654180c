# For people: `make demo` and `make test`. Everything behind them is `cargo xtask`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

BOOTSTRAP := . ./bootstrap.sh

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

bootstrap: ## Install what is missing (Rust, Node, clang, contract tools)
	@$(BOOTSTRAP)

demo: ## Build, then run the main job and show it
	@$(BOOTSTRAP)
	cargo xtask demo

test: ## Everything that CI checks
	@$(BOOTSTRAP)
	cargo xtask test

test-long: ## Full kill, soak and fuzz runs
	@$(BOOTSTRAP)
	cargo xtask test --long

build: ## Build the tacit and tacit-simulator binaries
	@$(BOOTSTRAP)
	cargo xtask build

guests: ## Build the guest images that functions run in
	@$(BOOTSTRAP)
	cargo xtask guests

evidence: ## Gather real attestation evidence for tests and demo
	@$(BOOTSTRAP)
	cargo xtask evidence

models: ## Fetch the small models of tests, demo and benchmarks
	@$(BOOTSTRAP)
	cargo xtask models

peers: ## Fetch the programs that benchmarks compare with
	@$(BOOTSTRAP)
	cargo xtask peers

bench: build ## Run all benchmarks
	@$(BOOTSTRAP)
	for name in runtime attest call density gatekeepers chain inference; do
		"$$CARGO_TARGET_DIR/release/tacit" bench "$$name"
	done

install: build ## Link tacit into ~/.local/bin
	@$(BOOTSTRAP)
	cargo xtask install

.PHONY: help bootstrap demo test test-long build guests evidence models peers bench install
