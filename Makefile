# The daily commands. Debian, Rust, and root for what runs in network namespaces.

.PHONY: help setup demo demo-down test test-guest test-fresh mutants bench fmt
.DEFAULT_GOAL := help

help: ## Show the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*##/ { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the Debian packages that are missing.
	@.ci/setup

demo: setup ## Forward real HTTP through a small world of namespaces. KEEP=1 leaves it up.
	@KEEP=$(KEEP) cargo run --quiet --release --example demo

demo-down: ## Remove the world that `make demo KEEP=1` left.
	@if [ -e /run/weirgate-demo-down.sh ]; then sh /run/weirgate-demo-down.sh; rm /run/weirgate-demo-down.sh; else echo "no demo is up"; fi

test: ## Run every check and test.
	@.ci/run

test-guest: setup ## Run the gateway in emulated machines, with real drivers, on the oldest and the newest kernel.
	@cargo test --release --package weirgate-workspace --test guest

test-fresh: ## Show on a minimal Debian, in a folder of its own, that the files here install all they need.
	@.ci/fresh

mutants: ## Change code one place at a time and see tests fail: FILES=..., or what differs from BASE=main. Not part of test.
	@tests/mutants/run $(if $(FILES),$(FILES),--since $(or $(BASE),main))

bench: setup ## Measure the pipeline and the whole way, and compare with the kernel and bare AF_XDP. ROUNDS=5
	@cargo bench --package weirgate-workspace

fmt: ## Format the code.
	@cargo fmt --all
