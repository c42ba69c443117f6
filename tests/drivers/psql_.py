"""psql: one session that stays, with SQL-level PREPARE, \\copy, \\d, cursors, savepoints and several statements at once."""

import os
import subprocess
import sys

from rounds import run, same

PSQL = os.environ.get("CROSSFADE_PSQL", "psql")
process = subprocess.Popen(
    [PSQL, "-XqAt", "-v", "VERBOSITY=verbose", sys.argv[1]],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    bufsize=1,
)
END = "-- the end of an answer --"


def ask(text):
    if "\\" not in text and not text.endswith(";"):
        text += ";"
    process.stdin.write(f"{text}\n\\echo '{END}'\n")
    lines = []
    while (line := process.stdout.readline().rstrip("\n")) != END:
        if not line and process.poll() is not None:
            raise AssertionError(f"psql ended: {lines}")
        lines.append(line)
    return lines


same(ask("SELECT 1"), ["1"])
ask("PREPARE find (text) AS SELECT username, email FROM users WHERE username = $1")
ask("PREPARE rename (text, text) AS UPDATE users SET username = $2 WHERE username = $1")


def round_(number):
    name = f"psql-{number}"
    ask("DELETE FROM users WHERE username LIKE 'psql-%'")
    same(ask(f"INSERT INTO users (username, email) VALUES ('{name}', 'e') RETURNING username"), [name])
    same(ask(f"EXECUTE find ('{name}')"), [f"{name}|e"])
    same(ask(f"EXECUTE rename ('{name}', '{name}x'); EXECUTE find ('{name}x');"), [f"{name}x|e"])
    same(ask(f"SELECT username AS found FROM users WHERE username = '{name}x' \\gset\n\\echo :found"), [f"{name}x"])
    same(ask(f"\\copy users (username) FROM STDIN\n{name}-copy\n\\."), [])
    same(ask("\\copy (SELECT username FROM users WHERE username LIKE 'psql-%' ORDER BY 1) TO STDOUT"), [f"{name}-copy", f"{name}x"])
    walk = "BEGIN; DECLARE c CURSOR FOR SELECT username FROM users WHERE username LIKE 'psql-%' ORDER BY 1; FETCH 1 FROM c; FETCH 1 FROM c; COMMIT;"
    same(ask(walk), [f"{name}-copy", f"{name}x"])
    ask("BEGIN; SAVEPOINT s;")
    duplicate = ask(f"INSERT INTO users (username) VALUES ('{name}x');")
    same("23505" in duplicate[0] and any("users_username_key" in line for line in duplicate), True)
    ask("ROLLBACK TO s; COMMIT;")
    together = f"SELECT count(*) FROM users WHERE username = '{name}x'\\; UPDATE users SET email = 'f' WHERE username = '{name}x' RETURNING email;"
    same(ask(together), ["1", "f"])
    same(ask("TABLE users LIMIT 0"), [])
    same(ask("EXPLAIN (COSTS off) SELECT username FROM users WHERE false")[0], "Result")


run(round_)
