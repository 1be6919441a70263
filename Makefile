# Everything a developer or CI does. `make help` lists the targets; all Python tools live in .venv,
# and what is tested is the built and installed wheel, never the source tree.

PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venv/.tools-stamp
WHEEL := .venv/.wheel-stamp
SITE_TOOLS := .venv/.site-tools-stamp
WHEEL_TOOLS := .venv/.wheel-tools-stamp
SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md bpf/relay.bpf.o $(shell find rust python -type f -not -name '*.pyc')
# Root gives each of several test processes a network namespace. They mostly wait, so there may be
# more of them than processors.
PARALLEL := $(if $(filter 0,$(shell id -u)),-n 3 --dist loadfile)
# CI runs what failed once more (.ci/run says why).
CRATE_TESTS := cargo test --locked --quiet
# `make test LOAD=1` shows that a busy machine makes no test fail.
LOADED := $(if $(LOAD),scripts/under_load)
# CI waits for the wheel: in four units the crate is built a minute sooner, and some percent slower.
UNITS := $(if $(CI),--config profile.release.package.mcr-relay.codegen-units=4)
CARGO_DENY_VERSION := 0.20.2
VALGRIND := valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo fleet-demo test test-crate lint clippy format docs topologies long-chain bench guard coverage audit build deb bpf stubs clean help .preflight soak loom memcheck fuzz wheels
.DEFAULT_GOAL := help

demo: $(WHEEL) ## relay live traffic over loopback (as root also across network namespaces)
	$(BIN)/python examples/demo.py

fleet-demo: $(WHEEL) ## three NATS servers and five relays in namespaces; one of each is killed (root)
	$(BIN)/python examples/fleet_demo.py

test: $(WHEEL) test-crate ## the tests of the crate, then those of the wheel (LOAD=1: beside busy loops)
	$(LOADED) $(BIN)/python -m pytest -m "not alone" $(PARALLEL); together=$$?; \
	$(LOADED) $(BIN)/python -m pytest -m alone && exit $$together

test-crate: .preflight
	$(LOADED) $(CRATE_TESTS) $(if $(CI),|| $(CRATE_TESTS))

lint: $(WHEEL) clippy ## every check that needs no traffic; warnings are errors
	cargo fmt --check
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/stubtest --concise mcr._native
	$(BIN)/python -m pytest --quiet tests/test_layers.py

clippy: .preflight ## the checks of the Rust sources alone
	cargo clippy --locked --quiet --all-targets --features python -- -D warnings
	cargo clippy --locked --quiet --lib --no-default-features -- -D warnings

format: $(TOOLS) ## rewrite the sources in the one accepted layout
	cargo fmt
	$(BIN)/ruff check --quiet --fix
	$(BIN)/ruff format --quiet

topologies: $(WHEEL) ## traffic through chains, trees, meshes and wide fan-outs of relays: one table (root)
	$(BIN)/python -m tests.topology.shape_table

long-chain: $(WHEEL) ## 10 million datagrams through three relays in a row, then more than they can relay (root)
	$(BIN)/python -m tests.topology.long_chain $(ARGS)

soak: $(WHEEL) ## a daemon under traffic, changes, deaths and flapping interfaces (root; MINUTES=10)
	$(BIN)/python -m tests.topology.soak --minutes $(or $(MINUTES),10)

fuzz: $(WHEEL) ## fuzz one target of fuzz/, or all (TARGET=all DURATION=60, in seconds)
	fuzz/run $(or $(TARGET),all) $(or $(DURATION),60)

loom: .preflight ## try every order of loads and stores of what threads and processes share without a lock
	RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom \
	CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo test --locked --no-default-features --lib loom_tests

memcheck: .preflight ## invalid accesses and leaks in the native tests of one thread, by valgrind
	PROPTEST_CASES=8 cargo --config 'target."cfg(all())".runner = "$(VALGRIND)"' \
	test --locked --lib -- --test-threads=1 sys:: tap:: stats:: packet:: --skip sockets:: --skip while_they_change

docs: $(WHEEL) $(SITE_TOOLS) ## the documents as a site, in target/site; warnings are errors
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs/site . target/site

bench: $(WHEEL) ## mcr beside its peers in network namespaces (root; takes minutes; options: ARGS=...)
	$(BIN)/python -m bench $(ARGS)

guard: .preflight ## count the instructions of the hot loop; fails where it has become longer (REBASE=1 keeps them)
	$(PYTHON) -m bench.guard $(if $(REBASE),--rebase)

coverage: $(WHEEL) ## Python lines and branches that the tests reach (Rust's LLVM tools are no part of stable)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

audit: .preflight ## licences, bans and sources of every crate (no advisories: that list needs the network)
	cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked --version $(CARGO_DENY_VERSION)
	cargo deny --all-features --locked check licenses bans sources

build: $(WHEEL) ## the wheel, in dist/ and installed into .venv

deb: $(WHEEL) ## a Debian package in target/deb, with mcr in /opt/mcr and the service (needs the package index)
	PIP=$(BIN)/pip scripts/build_deb dist/*.whl target/deb

wheels: $(WHEEL_TOOLS) ## wheels for x86-64 and arm64 in target/wheels, built with zig for glibc 2.34 or newer
	scripts/build_wheels target/wheels

bpf: ## rebuild the programs of the relay in the kernel, bpf/relay.bpf.o (with Debian 12's clang)
	scripts/bpf_object

stubs: $(TOOLS) ## print generated stubs of the native module, to compare python/mcr/_native.pyi with
	$(BIN)/maturin generate-stubs --quiet --locked --out .venv/stubs
	cat .venv/stubs/mcr/_native.pyi

clean: ## remove what make has made
	rm -rf .venv dist target .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# First of all, so that one line names everything that is missing for what was asked.
.preflight:
	@PYTHON="$(PYTHON)" scripts/preflight $(MAKECMDGOALS)

$(TOOLS): requirements-dev.txt | .preflight
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-deps --requirement requirements-dev.txt
	@touch $@

$(SITE_TOOLS): requirements-docs.txt $(TOOLS)
	$(BIN)/pip install --quiet --no-deps --requirement requirements-docs.txt
	@touch $@

$(WHEEL_TOOLS): requirements-wheels.txt $(TOOLS)
	$(BIN)/pip install --quiet --no-deps --requirement requirements-wheels.txt
	@touch $@

$(WHEEL): $(SOURCES) $(TOOLS) | .preflight
	rm -rf dist
	$(BIN)/maturin build --quiet --release --locked $(UNITS) --interpreter $(BIN)/python --out dist
	$(BIN)/pip install --quiet --no-deps --no-index --force-reinstall dist/*.whl
	@touch $@
