#!/usr/bin/env python3
"""Runs the drivers' and ORMs' own test suites direct and through the proxy, with nothing under migration.

A test that fails through the proxy and not direct is run once more both ways; exits 0 when none is left. Suites come from
their source packages; all is installed under target/suites. Usage: run.py PATH_OF_CROSSFADE [asyncpg] [psycopg2]
[sqlalchemy] [django] (all without a name).
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = f"{ROOT}/target/suites"
PYTHON = f"{WORK}/python/bin/python"
sys.path.insert(0, f"{ROOT}/tests/drivers")
from run import Stage  # noqa: E402

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
    alias: {"ENGINE": "django.db.backends.postgresql", "NAME": "django_" + alias, "USER": "postgres", "HOST": "127.0.0.1",
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
    command = [PYTHON, "runtests.py", "--settings=crossfade_settings", "--verbosity=2", "--noinput", "--parallel=1", *DJANGO_LABELS]
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


SUITES = {"asyncpg": asyncpg, "psycopg2": psycopg2, "sqlalchemy": sqlalchemy, "django": django}


def prepare(stage):
    def ask(sql, database="postgres"):
        target = ["-h", "127.0.0.1", "-p", str(stage.port), "-U", "postgres", "-d", database]
        subprocess.run([f"{stage.binaries}/psql", "-qX", *target, "-c", sql], check=True)

    for database in ("sqlalchemy", "django_default", "django_other"):
        ask(f"CREATE DATABASE {database}")
    for sql in ("CREATE SCHEMA test_schema", "CREATE SCHEMA test_schema_2", "CREATE EXTENSION hstore", "CREATE EXTENSION citext"):
        ask(sql, "sqlalchemy")
    ask("CREATE EXTENSION hstore")


def count(found):
    outcomes = list(found.values())
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped"))


def main():
    suites = sys.argv[2:] or list(SUITES)
    os.makedirs(WORK, exist_ok=True)
    install(suites)
    stage = Stage(os.path.abspath(sys.argv[1]))
    passed, failed = 0, 0
    try:
        stage.wait_until_ready()
        prepare(stage)
        for name in suites:
            direct, through = SUITES[name](stage.port), SUITES[name](stage.proxy_port)
            if list(direct.values()).count("passed") < 100:
                raise SystemExit(f"{name}: hardly a test passed direct: {count(direct)}; see target/suites")
            worse = {test for test, outcome in through.items() if outcome == "failed" and direct.get(test) != "failed"}
            worse |= {test for test in direct if test not in through}
            if worse:
                # What depends on time or order fails now and then, either way.
                again = SUITES[name](stage.proxy_port)
                worse = {test for test in worse if again.get(test, "failed") == "failed"}
            print(f"{name} {PACKAGES[name]}: direct: {count(direct)}; through the proxy: {count(through)}; worse: {len(worse)}", flush=True)
            for test in sorted(worse):
                print(f"  {test}: direct {direct.get(test)}, through the proxy {through.get(test)}", flush=True)
            passed, failed = passed + len(through), failed + len(worse)
    finally:
        stage.end()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
