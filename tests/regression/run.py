#!/usr/bin/env python3
"""Runs PostgreSQL's own regression files through the proxy while their tables are under migration.

    run.py CROSSFADE FOLDER [FILE ...] [--states a,b] [--shapes old,auto] [--form simple|extended]
           [--types wider|same] [--keep DIR] [--report PATH]

FOLDER is `src/test/regress` of PostgreSQL's source, of the same major version as the server's binaries. Every file runs
statement by statement twice at once: directly on a database that never migrates, and through `crossfade run` on one in
which the file's tables are under migration, in the given state. A table that a file creates is created beforehand on both
sides, with a primary key if it has none; what the file says about creating it is left out. Compared are column names and
types, rows (their order is told apart), tags, parameter types, and of errors SQLSTATE, message and position.

A statement that the proxy refuses is not run on the direct side either, so that what follows is compared on the same
data. Exits 1 when a statement differs that is no refusal. With --keep the prepared databases stay for the next call.
"""

import argparse
import collections
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import script
from script import uncommented
from wire import Client, Gone

STATES = ["shielded", "expanded", "verified", "reads_new", "contracting", "contracted"]
DEADLINE_SECONDS = 120
OPTIONS = "-c client_min_messages=error -c datestyle=postgres,mdy -c timezone=PST8PDT -c intervalstyle=postgres_verbose"
FILES = """select join aggregates subselect with insert insert_conflict update delete returning window copy copy2 copyselect
copydml prepare portals portals_p2 merge union groupingsets limit select_distinct select_distinct_on select_having
select_implicit select_into tablesample transactions plancache rowtypes case rangefuncs rules updatable_views triggers tsrf
equivclass truncate expressions namespace functional_deps random arrays jsonb json xml int4 int8 text strings combocid
identity generated join_hash memoize incremental_sort explain rowsecurity lock temp""".split()
# Tables of test_setup.sql that most files read, and the columns that are renamed in them. The key of `onek` is one of
# ours, so that its most used column can move.
SHARED = {"tenk1": "unique2", "onek": "unique1", "int4_tbl": "f1", "int8_tbl": "q1", "text_tbl": "f1", "tenk2": "unique1",
          "varchar_tbl": "f1", "float8_tbl": "f1", "int2_tbl": "f1", "aggtest": "a", "onek2": "stringu1"}
# Where the first column that can be renamed is not the one that matters most.
COLUMNS = {"insertconflicttest": "fruit", "update_test": "b", "target": "balance", "source": "delta"}
# Another type for a column of that one: it holds every value of the old type.
WIDER = {"integer": "bigint", "bigint": "numeric", "text": "character varying", "smallint": "integer", "real": "double precision"}
CREATED = re.compile(
    r"^create\s+(temp\s+|temporary\s+|unlogged\s+)?table\s+(if\s+not\s+exists\s+)?(?P<name>[a-z_0-9.\"]+)\s*\((?P<rest>.*)$",
    re.I | re.S,
)
FIRST_USER_OID = 16384


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, holds, pause=0.02, seconds=DEADLINE_SECONDS):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(pause)
    return found


class Server:
    """A throwaway PostgreSQL in a folder."""

    def __init__(self, folder, like=None):
        self.folder, self.port = folder, free_port()
        self.binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))[-1]
        self.owner = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        data = os.path.join(folder, "data")
        if not os.path.exists(data):
            os.makedirs(folder, exist_ok=True)
            if self.owner:
                shutil.chown(folder, "postgres", "postgres")
            if like:
                self.run("cp", "-a", os.path.join(like, "data"), data)
            else:
                self.run(f"{self.binaries}/initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
                         "--username=postgres", "-D", data)
        pid = os.path.join(data, "postmaster.pid")
        if os.path.exists(pid):
            os.remove(pid)
        log = open(os.path.join(folder, "server.log"), "w")
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off",
                   "max_connections": 300, "max_prepared_transactions": 10, "wal_level": "logical", "jit": "off",
                   "autovacuum": "off", "shared_buffers": "64MB", "max_parallel_workers_per_gather": 0}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen([f"{self.binaries}/postgres", "-D", data, *arguments], stdout=log, stderr=log,
                                        cwd="/", **self.owner)
        until("the server answers", self.answers)

    def run(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", **self.owner)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")

    def answers(self):
        try:
            Client(self.port, "postgres").close()
            return True
        except (OSError, Gone):
            return False

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def databases(self):
        client = Client(self.port, "postgres")
        found = {row[0] for row in client.must("SELECT datname FROM pg_database").results[0]["rows"]}
        client.close()
        return found

    def copy(self, template, name):
        client = Client(self.port, "postgres")
        client.must(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        until("the template is free", lambda: client.simple(f'CREATE DATABASE "{name}" TEMPLATE "{template}"').error is None)
        client.close()

    def forget_roles(self):
        """What an earlier file left behind."""
        client = Client(self.port, "postgres")
        for row in client.must("SELECT rolname FROM pg_roles WHERE rolname LIKE 'regress%'").results[0]["rows"]:
            client.simple(f'DROP ROLE "{row[0]}"')
        client.close()


class Proxy:
    """`crossfade run` before one database."""

    def __init__(self, program, server, database):
        self.port, self.admin, self.database = free_port(), free_port(), database
        self.log = open(os.path.join(server.folder, "proxy.log"), "a")
        upstream = f"postgres://postgres@127.0.0.1:{server.port}/{database}"
        self.process = subprocess.Popen(
            [program, "run", f"--listen=127.0.0.1:{self.port}", f"--admin=127.0.0.1:{self.admin}", f"--upstream={upstream}",
             # So that a busy machine does not fail one hold after the other.
             "--hold-ms-max=5000"],
            stdout=self.log, stderr=self.log)
        until("the proxy is ready", lambda: self.call("GET", "/readyz")[0] == 200)

    def call(self, method, path, body=None, kind="application/json"):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=30)
            text = body if isinstance(body, str) else json.dumps(body) if body is not None else None
            connection.request(method, path, text, {"content-type": kind} if text is not None else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return 0, str(error)

    def post(self, name, command, body):
        status, answer = self.call("POST", f"/v1/migrations/{name}/{command}", body)
        if status >= 300 or status == 0:
            raise RuntimeError(f"{command} {name}: {answer}")

    def phases(self):
        status, answer = self.call("GET", "/v1/migrations")
        return {m["name"]: (m["phase"], m["epoch"]) for m in answer["migrations"]} if status == 200 else {}

    def caught_up(self):
        """Whether this proxy begins new transactions under the newest epoch."""
        newest = max((epoch for _, epoch in self.phases().values()), default=0)
        status, answer = self.call("GET", "/readyz")
        return status == 200 and answer["epoch"] >= newest

    def settled(self):
        """Whether every live proxy has the newest epoch."""
        status, answer = self.call("GET", "/v1/migrations")
        epochs = [m["epoch"] for m in answer["migrations"]] if status == 200 else []
        return status == 200 and all(
            p["epoch_acked"] >= max(epochs, default=0) for p in answer["proxies"] if p["alive"])

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Stage:
    """Both servers, the program under test, and the databases that are prepared for a file and a state."""

    def __init__(self, arguments):
        self.program, self.source = os.path.abspath(arguments.program), os.path.abspath(arguments.folder)
        self.kept, self.wider = arguments.keep, arguments.types == "wider"
        self.folder = os.path.abspath(arguments.keep) if arguments.keep else tempfile.mkdtemp(prefix="crossfade-regression-")
        os.makedirs(self.folder, exist_ok=True)
        os.chmod(self.folder, 0o755)
        direct, subject = os.path.join(self.folder, "direct"), os.path.join(self.folder, "subject")
        if not os.path.exists(os.path.join(subject, "data")):
            server = Server(direct)
            try:
                self.variables = self.psql_variables(server)
                self.prepare_base(server)
            finally:
                server.stop()
            Server(subject, like=direct).stop()
        self.direct, self.subject = Server(direct), Server(subject)
        self.variables = self.psql_variables(self.direct)

    def psql_variables(self, server):
        scratch = os.path.join(self.folder, "results")
        os.makedirs(os.path.join(scratch, "results"), exist_ok=True)
        os.chmod(scratch, 0o777)
        os.chmod(os.path.join(scratch, "results"), 0o777)
        return {"PG_ABS_SRCDIR": self.source, "PG_ABS_BUILDDIR": scratch, "PG_LIBDIR": scratch, "PG_DLSUFFIX": ".so",
                "abs_srcdir": self.source, "abs_builddir": scratch, "libdir": scratch, "dlsuffix": ".so",
                "DBNAME": "regression", "USER": "postgres", "HOST": "127.0.0.1", "PORT": str(server.port)}

    def steps(self, file):
        with open(os.path.join(self.source, "sql", file + ".sql"), encoding="utf-8", errors="replace") as text:
            return script.steps(text.read())

    def prepare_base(self, server):
        """What `test_setup` makes, and `aggtest`, which several files read."""
        client = Client(server.port, "postgres")
        client.must("CREATE DATABASE base")
        client.close()
        client = Client(server.port, "base", options=OPTIONS)
        run_all(client, self.steps("test_setup"), dict(self.variables))
        created = next(s for s in self.steps("aggregates") if uncommented(s.text).lower().startswith("create table aggtest"))
        client.must(created.text)
        client.must(f"COPY aggtest FROM '{self.source}/data/agg.data'")
        key_and_pick(client, sorted(SHARED))
        client.must("ANALYZE")
        client.close()

    def prepared(self, file, state):
        return f"{state}_{file}" if self.wider else f"{state}_same_{file}"

    def prepare(self, file, state):
        """Makes the databases that the two runs are copied from; the tables under migration."""
        before, after = f"base_{file}", self.prepared(file, state)
        created = first_creations(self.steps(file))
        for server in (self.direct, self.subject):
            if before not in server.databases():
                server.copy("base", before)
                client = Client(server.port, before, options=OPTIONS)
                names = [name for name, text in created.items() if client.simple(text).error is None]
                key_and_pick(client, names)
                client.close()
        picked = self.picked(before)
        if after not in self.subject.databases():
            self.subject.copy(before, after)
            proxy = Proxy(self.program, self.subject, after)
            try:
                move(proxy, picked, state, self.wider)
            except BaseException:
                proxy.stop()
                self.subject.copy(before, after + "_failed")
                Client(self.subject.port, "postgres").must(f'DROP DATABASE "{after}" WITH (FORCE)')
                raise
            proxy.stop()
            client = Client(self.subject.port, after)
            # Unordered rows come in one order on both sides, as far as may be.
            for table, _, _ in picked:
                client.must(f'CLUSTER "{table}"')
            client.close()
        return created

    def picked(self, database):
        client = Client(self.subject.port, database)
        sql = """SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_description d
                 JOIN pg_class c ON c.oid = d.objoid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid
                 WHERE d.description = 'crossfade' AND d.classoid = 'pg_class'::regclass ORDER BY 1"""
        rows = client.must(sql).results[0]["rows"]
        client.close()
        return rows

    def close(self):
        self.direct.stop()
        self.subject.stop()
        if not self.kept:
            shutil.rmtree(self.folder)


def first_creations(steps):
    """The tables that a file creates on its own at its top level: name to text, each the first of its name."""
    found = {}
    for step in steps:
        match = CREATED.match(uncommented(step.text)) if step.kind == "sql" else None
        if not match or re.search(r"\b(inherits|partition|like|refs)\b", match["rest"], re.I):
            continue
        found.setdefault(match["name"].lower(), f"CREATE TABLE {match['name']} ({match['rest']}")
    return found


def key_and_pick(client, names):
    """Gives each table a primary key if it has none, and marks the column that is to be renamed."""
    for name in names:
        keyed = client.must(f"SELECT 1 FROM pg_index WHERE indrelid = '{name}'::regclass AND indisprimary").results[0]["rows"]
        if not keyed:
            key = "PRIMARY KEY (unique1)" if name in ("tenk1", "onek2") else "COLUMN row_id serial PRIMARY KEY"
            if client.simple(f"ALTER TABLE {name} ADD {key}").error:
                continue
        index = client.must(f"""SELECT relname FROM pg_index JOIN pg_class c ON c.oid = indexrelid
            WHERE indrelid = '{name}'::regclass AND indisprimary""").results[0]["rows"][0][0]
        client.must(f'CLUSTER {name} USING "{index}"')
        wanted = COLUMNS.get(name) or SHARED.get(name) or ""
        columns = client.must(f"""SELECT attname FROM pg_attribute a WHERE attrelid = '{name}'::regclass AND attnum > 0
            AND attgenerated = '' AND attidentity = '' AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = attrelid
            AND indisprimary AND attnum = ANY (indkey)) AND pg_get_serial_sequence('{name}', attname) IS NULL
            ORDER BY attname <> '{wanted}', attnum LIMIT 1""").results[0]["rows"]
        for row in columns:
            client.must(f"COMMENT ON COLUMN {name}.\"{row[0]}\" IS 'crossfade'")


def move(proxy, picked, state, wider):
    """Starts a migration for each picked column, to another type too or not, and moves all of them to the state."""
    names = []

    def brake():
        client = Client(proxy.port, proxy.database)
        client.must("BEGIN")
        client.must("SELECT 1")
        return client

    def hold(phase):
        others = lambda: [f"{name} {p}" for name, (p, _) in proxy.phases().items() if p != phase]
        try:
            until(f"all in {phase}", lambda: not others())
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {others()}") from None
        for name in names:
            proxy.post(name, "pause", {})

    def release(client):
        until("the proxy has the epoch", proxy.caught_up)
        following = brake()
        client.close()
        for name in names:
            proxy.post(name, "resume", {})
        return following

    stepwise = state in ("shielded", "expanded")
    held = brake() if stepwise else None
    for table, column, type_sql in picked:
        name = re.sub("[^a-z0-9]", "-", table.lower())
        retyped = WIDER.get(type_sql) if wider else None
        text = f'name = "{name}"\n[[change]]\nkind = "rename_column"\ntable = \'"{table}"\'\ncolumn = \'"{column}"\'\n'
        text += f"to = '{column.lower()}_new'\n" + (f'type = "{retyped}"\n' if retyped else "")
        status, answer = proxy.call("POST", "/v1/migrations", text, "application/toml")
        if status in (200, 201):
            names.append(name)
        else:
            print(f"  {table}.{column} is not migrated: {json.dumps(answer)[:300]}", file=sys.stderr)
    if stepwise:
        hold("shielded")
        if state == "expanded":
            held = release(held)
            hold("expanded")
        held.close()
        return
    until("all verified", lambda: all(p == "verified" for p, _ in proxy.phases().values()))
    if state == "verified":
        return
    for name in names:
        proxy.post(name, "reads", {"percent": 100})
    until("reads are moved", proxy.settled)
    if state == "reads_new":
        return
    held = brake() if state == "contracting" else None
    for name in names:
        proxy.post(name, "complete", {"confirm": True})
    if held:
        # A transaction of an older epoch keeps each phase from the next. What got there before the transaction that takes
        # its place began is seen to be there, and is paused before the older one ends.
        deadline, there = time.monotonic() + DEADLINE_SECONDS, set()
        while len(there) < len(names):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {DEADLINE_SECONDS} s: all in contracting: {proxy.phases()}")
            following = brake()
            arrived = {name for name, (p, _) in proxy.phases().items() if p == "contracting"} - there
            for name in arrived:
                proxy.post(name, "pause", {})
            there |= arrived
            held.close()
            held = following
        held.close()
        left = [f"{name} {p}" for name, (p, _) in proxy.phases().items() if p != "contracting"]
        if left:
            raise RuntimeError(f"not in contracting any more: {left}")
        return
    # Their holds come one after the other.
    phases = proxy.phases()
    seconds = DEADLINE_SECONDS + 10 * len(phases)
    until("all contracted", lambda: all(p == "contracted" for p, _ in proxy.phases().values()), seconds=seconds)


def run_all(client, steps, variables):
    """Runs steps and goes on after errors."""
    for step in steps:
        if step.kind == "getenv":
            getenv(step, variables)
        elif step.kind == "set":
            set_variable(step, variables)
        elif step.kind in ("sql", "gset"):
            client.simple(step.sql(variables), step.copied)


def getenv(step, variables):
    name, source = step.text.split()[:2]
    variables[name] = variables.get(source, "")


def set_variable(step, variables):
    parts = re.findall(r"'(?:[^']|'')*'|\S+", step.text)
    if not parts:
        return
    value = ""
    for part in parts[1:]:
        part = part.replace("''", "'")[1:-1] if part.startswith("'") else part
        value += re.sub(r":'(\w+)'|:\"(\w+)\"|:(\w+)", lambda m: variables.get(m[1] or m[2] or m[3], m[0]), part)
    variables[parts[0]] = value


# What one statement came to.
EQUAL, REORDERED, REFUSED, DIFFERENT, PLAN, SKIPPED = "equal", "reordered", "refused", "different", "plan", "skipped"


class Run:
    """One file in one state and shape."""

    def __init__(self, stage, file, state, shape, form):
        self.stage, self.file, self.state, self.shape, self.form = stage, file, state, shape, form
        self.counts = collections.Counter()
        self.findings = []
        created = stage.prepare(file, state)
        self.created = set(created)
        stage.direct.forget_roles()
        stage.subject.forget_roles()
        stage.direct.copy(f"base_{file}", "regression")
        stage.subject.copy(stage.prepared(file, state), "regression")
        self.proxy = Proxy(stage.program, stage.subject, "regression")
        self.variables = [dict(stage.variables), dict(stage.variables)]
        self.connect("postgres")

    def connect(self, user):
        options = OPTIONS + f" -c crossfade.shape={self.shape}"
        self.clients = [Client(self.stage.direct.port, "regression", user, OPTIONS),
                        Client(self.proxy.port, "regression", user, options)]

    def go(self):
        try:
            for step in self.stage.steps(self.file):
                self.step(step)
        except Gone as gone:
            self.note(DIFFERENT, step, f"the connection is gone: {gone}")
        finally:
            self.proxy.stop()

    def step(self, step):
        if step.kind in ("getenv", "set"):
            for variables in self.variables:
                (getenv if step.kind == "getenv" else set_variable)(step, variables)
        elif step.kind == "connect":
            parts = step.text.split()
            for client in self.clients:
                client.close()
            self.connect(parts[1] if len(parts) > 1 and parts[1] != "-" else "postgres")
        elif self.is_made_already(step):
            self.counts[SKIPPED] += 1
        else:
            self.compare(step)

    def is_made_already(self, step):
        match = CREATED.match(uncommented(step.text))
        name = match["name"].lower() if match else None
        if name in self.created and not re.search(r"\b(inherits|partition|like)\b", match["rest"], re.I):
            self.created.discard(name)
            return True
        return False

    def compare(self, step):
        texts = [step.sql(variables) for variables in self.variables]
        one = script_is_one(texts[1]) and self.form == "extended"
        send = [(client.extended if one else client.simple) for client in self.clients]
        actual = send[1](texts[1], step.copied)
        if is_refusal(actual.error):
            # The same fate on the direct side: an error, and nothing done.
            self.clients[0].simple("DO $$ BEGIN RAISE 'refused'; END $$")
            return self.note(REFUSED, step, actual.error["M"] + " | " + actual.error.get("D", ""))
        expected = send[0](texts[0], step.copied)
        if step.kind == "gset" and expected.results and actual.results:
            for variables, reply in zip(self.variables, (expected, actual)):
                result = reply.results[-1]
                for column, value in zip(result["columns"] or [], result["rows"][0] if result["rows"] else []):
                    variables[step.prefix + column[0]] = value or ""
        self.note(*self.judged(step, expected, actual))

    def judged(self, step, expected, actual):
        if re.match(r"\s*explain\b", uncommented(step.text), re.I) or "explain" in step.text.lower():
            same = shown(expected, True) == shown(actual, True)
            return (EQUAL if same else PLAN), step, ""
        if shown(expected, False) == shown(actual, False):
            return EQUAL, step, ""
        if shown(expected, True) == shown(actual, True):
            return REORDERED, step, ""
        return DIFFERENT, step, difference(shown(expected, False), shown(actual, False))

    def note(self, verdict, step, text):
        self.counts[verdict] += 1
        text = re.sub(r"is in phase \w+\.", "is under way.", text)
        if verdict in (REFUSED, DIFFERENT):
            self.findings.append((verdict, step.line, uncommented(step.text), text))


def script_is_one(text):
    return ";" not in text.rstrip().rstrip(";")


def is_refusal(error):
    if not error or error["C"] != "0A000":
        return False
    return "Migration \"" in error.get("D", "") or "be rewritten" in error["M"] or "proxy" in error.get("D", "")


def shown(reply, unordered):
    """What a client sees of it, types of the database's own made comparable."""
    known = lambda oid: oid if oid < FIRST_USER_OID else "own"
    results = []
    for result in reply.results:
        columns = [(name, known(oid), modifier) for name, oid, modifier in result["columns"] or []]
        rows = [tuple(without_oids(cell) for cell in row) for row in result["rows"]]
        copied = result["copied"].decode(errors="replace").splitlines()
        if unordered:
            rows, copied = sorted(rows, key=repr), sorted(copied)
        results.append((columns, rows, result["tag"], copied))
    error = reply.error and tuple(reply.error.get(field) for field in "CMPn")
    return results, error, reply.parameters and [known(oid) for oid in reply.parameters], reply.status


def without_oids(cell):
    return re.sub(r"pg_temp_\d+|pg_toast_\d+", "pg_temp", cell) if cell else cell


def difference(expected, actual):
    lines = []
    for at, (e, a) in enumerate(zip(expected, actual)):
        if e == a:
            continue
        if at == 0:
            for number in range(max(len(e), len(a))):
                for part, left, right in zip(("columns", "rows", "tag", "copied"), *((side[number] if number < len(side) else ([], [], None, [])) for side in (e, a))):
                    if left != right:
                        if isinstance(left, list):
                            left, right = [x for x in left if x not in right][:4] or left[:4], [x for x in right if x not in left][:4] or right[:4]
                        lines.append(f"{part}: {left!r}\n      now: {right!r}")
        else:
            lines.append(f"{('', 'error', 'parameters', 'status')[at]}: {e!r}\n      now: {a!r}")
    return "\n    ".join(lines)[:1500]


def main():
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--states", default="verified,reads_new,contracted")
    parser.add_argument("--shapes", default="old")
    parser.add_argument("--form", default="simple")
    parser.add_argument("--types", default="wider")
    parser.add_argument("--keep")
    parser.add_argument("--report")
    arguments = parser.parse_args()
    stage = Stage(arguments)
    total, seen = collections.Counter(), {}
    report = open(arguments.report, "w") if arguments.report else sys.stdout
    try:
        for file in arguments.files or FILES:
            for state in arguments.states.split(","):
                for shape in arguments.shapes.split(","):
                    try:
                        run = Run(stage, file, state, shape, arguments.form)
                    except RuntimeError as error:
                        print(f"{file} {state} {shape}: {error}", flush=True)
                        total[DIFFERENT] += 1
                        continue
                    run.go()
                    total.update(run.counts)
                    counts = " ".join(f"{name} {run.counts[name]}" for name in (EQUAL, REORDERED, PLAN, REFUSED, DIFFERENT, SKIPPED))
                    print(f"{file} {state} {shape} {arguments.form}: {counts}", flush=True)
                    for verdict, line, sql, text in run.findings:
                        seen.setdefault((file, line, verdict, sql, text), []).append(f"{state}/{shape}")
            for (name, line, verdict, sql, text), where in seen.items():
                print(f"\n{verdict.upper()} {name}.sql:{line} [{' '.join(where)}]\n    {sql[:700]}\n    {text}", file=report, flush=True)
            seen = {}
    finally:
        stage.close()
    print("\nall: " + " ".join(f"{name} {total[name]}" for name in (EQUAL, REORDERED, PLAN, REFUSED, DIFFERENT, SKIPPED)))
    sys.exit(1 if total[DIFFERENT] else 0)


if __name__ == "__main__":
    main()
