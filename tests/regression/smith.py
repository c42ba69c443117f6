#!/usr/bin/env python3
"""Runs statements that SQLsmith makes up through the proxy while their tables are under migration, against a direct run.

    smith.py CROSSFADE FOLDER [--states a,b] [--shapes old,auto] [--form simple|extended] [--types wider|same]
             [--statements N] [--seed N] [--report PATH]

FOLDER is `src/test/regress` of PostgreSQL's source, as for run.py, whose tables are taken, with few rows in each; and
`sqlsmith` must be installed (Debian has it). Statements that name none of the tables under migration are left out, and so
are those that call what is not the same twice or would reach beyond the database. Compared is what run.py compares; where a
statement has LIMIT without an order, the number of rows. Exits 1 when a statement differs that is no refusal.
"""

import argparse
import collections
import re
import subprocess
import sys
import types

import run
from wire import Client, Gone

WORD = re.compile(r"[a-z_0-9]+")
SAMPLE = re.compile(r"tablesample (system|bernoulli) \([0-9.]+\)")
OWN_TABLES = """
    CREATE TABLE users (id bigserial PRIMARY KEY, username varchar(40) NOT NULL DEFAULT 'anon', age text, email text UNIQUE,
      active boolean DEFAULT true);
    INSERT INTO users (username, age, email) SELECT 'u' || i, i::text, 'e' || i FROM generate_series(1, 12) i;
    CREATE TABLE posts (id serial PRIMARY KEY, user_id bigint REFERENCES users, title text, username varchar(40));
    INSERT INTO posts (user_id, title, username) SELECT i % 12 + 1, 't' || i, 'u' || i FROM generate_series(1, 15) i"""
OWN_COLUMNS = {"users": "username", "posts": "username"}
FEW = {"tenk1": 40, "tenk2": 30, "onek": 25, "onek2": 25}
# What is not the same twice, or reaches beyond the database; and what SQLsmith itself calls.
UNSTEADY = """SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' OR proname ~ '^(pg_|inet_|current|now$|statement_t|
transaction_t|txid|timeofday|has_|row_security|version|query_to|table_to|schema_to|database_to|cursor_to|to_reg|ts_|localtime)'
OR prorettype IN (SELECT oid FROM pg_type WHERE typname IN ('trigger', 'internal'))""".replace("\n", "")
KEPT = "proname ~ '^(pg_|current|has_)' OR proname IN ('row_security_active', 'set_config', 'version', 'format', 'unnest', 'quote_ident')"
OTHERS = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "regclass", "localtime", "localtimestamp", "current_date",
          "current_time", "current_timestamp"}


class Stage(run.Stage):
    """The tables of the regression files, with few rows."""

    def prepare_base(self, server):
        super().prepare_base(server)
        client = Client(server.port, "base", options=run.OPTIONS)
        for table, rows in FEW.items():
            client.must(f"DELETE FROM {table} WHERE unique1 >= {rows}")
        client.must("DROP TABLE road, ihighway, shighway, person, emp, student, stud_emp CASCADE")
        client.must(OWN_TABLES)
        run.SHARED.update(OWN_COLUMNS)
        run.key_and_pick(client, sorted(OWN_COLUMNS))
        client.must("ANALYZE")
        client.close()

    def steps(self, file):
        return [] if file == "smith" else super().steps(file)

    def made_up(self, count, seed):
        """Statements of SQLsmith's over the tables under migration."""
        self.direct.copy("base", "made_up")
        client = Client(self.direct.port, "made_up")
        unsteady = {row[0] for row in client.must(UNSTEADY).results[0]["rows"]}
        tables = client.must("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')")
        for (table,) in tables.results[0]["rows"]:
            if table not in run.SHARED:
                client.simple(f'DROP TABLE IF EXISTS "{table}" CASCADE')
        # So that few statements are made in vain.
        client.must("SET allow_system_table_mods = on")
        names = ", ".join(f"'{name}'" for name in unsteady)
        client.must(f"DELETE FROM pg_proc WHERE proname IN ({names}) AND NOT ({KEPT})")
        client.close()
        target = f"--target=host=127.0.0.1 port={self.direct.port} dbname=made_up user=postgres"
        options = ["--exclude-catalog", "--dry-run", f"--max-queries={count}", f"--seed={seed}"]
        made = subprocess.run(["sqlsmith", target, *options], capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(f"sqlsmith: {made.stderr}")
        found = []
        for text in SAMPLE.sub("", made.stdout).split(";\n"):
            words = set(WORD.findall(text.lower()))
            if words & set(run.SHARED) and not words & (unsteady | OTHERS):
                found.append(text.strip())
        return found


class Smith(run.Run):
    """What SQLsmith made, in one state and shape."""

    def connect(self, user):
        super().connect(user)
        for client in self.clients:
            client.must("SET statement_timeout = '5s'")

    def all(self, statements):
        for at, text in enumerate(statements):
            step = types.SimpleNamespace(text=text, line=at, kind="sql", copied=b"", sql=lambda _, text=text: text)
            try:
                self.compare(step)
            except Gone as gone:
                self.note(run.DIFFERENT, step, f"the connection is gone: {gone}")
                self.connect("postgres")
        self.proxy.stop()

    def judged(self, step, expected, actual):
        states = [reply.error["C"] if reply.error else "" for reply in (expected, actual)]
        if "57014" in states:
            return run.SKIPPED, step, ""
        # Which row is looked at first is the plan's business: so is which value fails first.
        if all(state.startswith("22") for state in states):
            return run.EQUAL, step, ""
        verdict = super().judged(step, expected, actual)
        size = lambda reply: [(result["columns"], len(result["rows"]), result["tag"]) for result in reply.results]
        if verdict[0] == run.DIFFERENT and "limit" in step.text and not any(states) and size(expected) == size(actual):
            return run.REORDERED, step, ""
        return verdict


def main():
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("--states", default=",".join(run.STATES))
    parser.add_argument("--shapes", default="old,auto")
    parser.add_argument("--form", default="simple")
    parser.add_argument("--types", default="wider")
    parser.add_argument("--statements", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep")
    parser.add_argument("--report")
    arguments = parser.parse_args()
    stage = Stage(arguments)
    run.SHARED.update(OWN_COLUMNS)
    total = collections.Counter()
    report = open(arguments.report, "w") if arguments.report else sys.stdout
    try:
        statements = stage.made_up(arguments.statements, arguments.seed)
        print(f"{len(statements)} of {arguments.statements} statements name a table under migration", flush=True)
        for state in arguments.states.split(","):
            for shape in arguments.shapes.split(","):
                smith = Smith(stage, "smith", state, shape, arguments.form)
                smith.all(statements)
                total.update(smith.counts)
                print(f"{state} {shape}: {dict(smith.counts)}", flush=True)
                for verdict, line, text, what in smith.findings:
                    print(f"\n{verdict.upper()} {line} [{state}/{shape}]\n    {text}\n    {what}", file=report, flush=True)
    finally:
        stage.close()
    print(f"all: {dict(total)}")
    sys.exit(1 if total[run.DIFFERENT] else 0)


if __name__ == "__main__":
    main()
