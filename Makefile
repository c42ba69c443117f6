# Crossfade. `make help` lists what can be made.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-drivers regression bench postgres build

CARGO ?= cargo
# Passed on to `crossfade demo`: make demo DEMO="--rows 50000 --json"
DEMO ?=
# PostgreSQL's src/test/regress, of the server's major version, and what `make regression` passes on besides.
REGRESS ?=
REGRESSION ?=

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

postgres: ## Install PostgreSQL's server binaries if there are none (Debian, as root or with sudo)
	@scripts/install-postgres

build: ## Build the release binary
	$(CARGO) build --release --locked

demo: postgres build ## Rename a column of 200,000 rows under a running application, and prove that nothing was lost
	target/release/crossfade demo $(DEMO)

test: postgres ## Format, lints, documentation, all tests
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	$(CARGO) test --locked

test-drivers: postgres build ## Run real drivers (Python, Node) through a migration; installs them under target/drivers
	python3 -m venv target/drivers/python
	target/drivers/python/bin/pip install --quiet 'psycopg[binary]' psycopg2-binary asyncpg sqlalchemy django
	if command -v npm >/dev/null; then mkdir -p target/drivers/node && cd target/drivers/node && npm install --silent --no-save pg; fi
	CROSSFADE_NODE_FOLDER=$(CURDIR)/target/drivers/node target/drivers/python/bin/python tests/drivers/run.py target/release/crossfade

regression: postgres build ## Run PostgreSQL's regression files under migration: REGRESS=.../src/test/regress [REGRESSION="join with --states contracted"]
	@if [ -d "$(REGRESS)/sql" ]; then tests/regression/run.py target/release/crossfade "$(REGRESS)" $(REGRESSION); \
	else echo "left out: REGRESS does not name src/test/regress of PostgreSQL's source"; fi

bench: postgres build ## Compare direct, PgBouncer and Crossfade in one sitting
	bench/run
