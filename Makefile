# Crossfade. `make help` lists what can be made.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-parser test-drivers test-majors drivers-there fuzz fuzz-build regression smith suites bench postgres pgbouncer build

CARGO ?= cargo
# Passed on to `crossfade demo`: make demo DEMO="--rows 50000 --json"
DEMO ?=
# How long each fuzz target runs: make fuzz SECONDS=600
SECONDS ?= 60
# The test crates beside the product, which build what it does not need. They share its compiled dependencies, and take
# the product as it is: a lock file of theirs that does not know a new dependency of it yet is not in the way.
BESIDE := CARGO_TARGET_DIR=$(CURDIR)/target $(CARGO)
CRATES := tests/pgquery fuzz tests/drivers/rust
# PostgreSQL's src/test/regress, of the server's major version, and what `make regression` passes on besides.
REGRESS ?=
REGRESSION ?=
# What `make smith` passes on.
SMITH ?=
# What `make suites` passes on.
SUITES ?=

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

postgres: ## Install PostgreSQL's server binaries if there are none (Debian, as root or with sudo)
	@scripts/install-postgres

pgbouncer: ## Install PgBouncer if there is none (Debian, as root or with sudo)
	@scripts/install-pgbouncer

build: ## Build the release binary
	$(CARGO) build --release --locked

demo: postgres build ## Rename a column of 200,000 rows under a running application, and prove that nothing was lost
	target/release/crossfade demo $(DEMO)

test: postgres pgbouncer ## Format, lints, documentation, all tests
	$(CARGO) fmt --check
	for crate in $(CRATES); do $(CARGO) fmt --check --manifest-path $$crate/Cargo.toml; done
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	$(CARGO) test --locked
	$(MAKE) --no-print-directory test-parser fuzz-build drivers-there

test-parser: ## Hold both readers of SQL against PostgreSQL's own parser (builds C, needs libclang)
	@scripts/install-libclang
	$(BESIDE) test --manifest-path tests/pgquery/Cargo.toml

test-majors: postgres ## Run the tests against PostgreSQL 13 to 18 (needs npm; MAJORS="13 18" for some of them)
	scripts/test-majors $(MAJORS)

fuzz-build: ## Build the fuzz targets
	$(BESIDE) build --manifest-path fuzz/Cargo.toml

fuzz: ## Run the fuzz targets, SECONDS each
	scripts/fuzz $(SECONDS)

# The drivers whose runtimes are there; each other one is named.
drivers-there: postgres
	$(CARGO) build --locked
	$(BESIDE) build --manifest-path tests/drivers/rust/Cargo.toml
	if command -v python3 >/dev/null; then \
		CROSSFADE_RUST_DRIVERS=$(CURDIR)/target/debug/rust-drivers python3 tests/drivers/run.py target/debug/crossfade; \
	else echo "left out: all drivers (python3, which runs them, is not installed)"; fi

test-drivers: postgres build ## Run all drivers through a migration; installs them under target/drivers (Debian: Java too)
	@scripts/install-drivers
	$(BESIDE) build --manifest-path tests/drivers/rust/Cargo.toml
	CROSSFADE_DRIVERS=all CROSSFADE_NODE_FOLDER=$(CURDIR)/target/drivers/node \
		CROSSFADE_RUST_DRIVERS=$(CURDIR)/target/debug/rust-drivers \
		target/drivers/python/bin/python tests/drivers/run.py target/release/crossfade

regression: postgres build ## Run PostgreSQL's regression files under migration: REGRESS=.../src/test/regress [REGRESSION="join with --states contracted"]
	@if [ -d "$(REGRESS)/sql" ]; then tests/regression/run.py target/release/crossfade "$(REGRESS)" $(REGRESSION); \
	else echo "left out: REGRESS does not name src/test/regress of PostgreSQL's source"; fi

smith: postgres build ## Run statements that SQLsmith makes up under migration: REGRESS=.../src/test/regress [SMITH="--statements 3000 --seed 5"]
	@if [ -d "$(REGRESS)/sql" ] && command -v sqlsmith >/dev/null; then \
	tests/regression/smith.py target/release/crossfade "$(REGRESS)" $(SMITH); \
	else echo "left out: sqlsmith is not installed, or REGRESS does not name src/test/regress of PostgreSQL's source"; fi

suites: postgres build ## Run the test suites of PostgreSQL (REGRESS), drivers and ORMs through the proxy: SUITES="django --migrating users"
	REGRESS="$(REGRESS)" python3 tests/suites/run.py target/release/crossfade $(SUITES)

bench: postgres build ## Compare direct, PgBouncer and Crossfade in one sitting
	bench/run
