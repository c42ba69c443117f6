"""pgbench: one run for each protocol mode that goes on while the schema moves; none of its transactions may fail."""

import os
import subprocess
import sys
import tempfile
import time

from rounds import run

PGBENCH = os.environ.get("CROSSFADE_PGBENCH", "pgbench")
DEADLINE_SECONDS = 30
SCRIPT = """
\\set id random(1, 4000)
BEGIN;
SELECT username, email FROM users WHERE id = :id FOR UPDATE;
UPDATE users SET username = username || '', email = 'pgbench' WHERE id = :id;
SELECT count(*) FROM users WHERE id = :id AND username = 'user' || :id;
COMMIT;
SELECT * FROM users WHERE id = :id;
"""
folder = tempfile.TemporaryDirectory(prefix="crossfade-pgbench-")
script = os.path.join(folder.name, "script.sql")
with open(script, "w", encoding="utf-8") as file:
    file.write(SCRIPT)

runs = {}
for mode in ("simple", "extended", "prepared"):
    log = os.path.join(folder.name, mode)
    command = [PGBENCH, "-n", "-c2", "-T3600", "-P1", "-R40", "-M", mode, "-f", script, sys.argv[1]]
    runs[mode] = (subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(log, "w", encoding="utf-8")), log)


def said(mode):
    with open(runs[mode][1], encoding="utf-8") as file:
        return [line for line in file.read().splitlines() if not line.startswith("pgbench (")]


def round_(_):
    seen = {mode: len(said(mode)) for mode in runs}
    deadline = time.monotonic() + DEADLINE_SECONDS
    for mode, (process, _) in runs.items():
        # The next line of progress tells of transactions that began after this round did, or ran across it.
        while len(lines := said(mode)) == seen[mode]:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{mode}: no progress: {lines[-3:]}")
            time.sleep(0.05)
        wrong = [line for line in lines if not line.startswith("progress: ") or " 0 failed" not in line and "failed" in line]
        if wrong or process.poll() is not None:
            raise AssertionError(f"{mode}: {wrong[:3]}")


try:
    run(round_)
finally:
    for process, _ in runs.values():
        process.kill()
