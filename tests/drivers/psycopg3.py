"""psycopg 3: client-side and server-side parameters, prepared statements, COPY, pipeline mode, server-side cursors."""

import sys

import psycopg
from psycopg.rows import dict_row

from rounds import run, same

connection = psycopg.connect(sys.argv[1], autocommit=True, row_factory=dict_row, prepare_threshold=0)
COLUMNS = ["id", "username", "email"]


def round_(number):
    name = f"psycopg3-{number}"
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users WHERE username LIKE %s", ("psycopg3-%",))
        cursor.execute(
            "INSERT INTO users (username, email) VALUES (%s, %s) RETURNING id, username", (name, "a@b"), prepare=True
        )
        row = cursor.fetchone()
        same(row["username"], name)
        same([column.name for column in cursor.description], ["id", "username"])
        cursor.execute("SELECT * FROM users WHERE username = %s", (name,), prepare=True)
        same([column.name for column in cursor.description], COLUMNS)
        same(cursor.fetchone(), {"id": row["id"], "username": name, "email": "a@b"})
        cursor.execute("SELECT * FROM users WHERE id = %b", (row["id"],), binary=True)
        same(cursor.fetchone()["username"], name)
        cursor.execute("UPDATE users SET username = username || %s WHERE id = %s", ("x", row["id"]))
        same(cursor.rowcount, 1)
        cursor.execute(
            "INSERT INTO users (username) VALUES (%s) ON CONFLICT (username) DO UPDATE SET email = excluded.username"
            " RETURNING id, email",
            (name + "x",),
        )
        same(cursor.fetchone(), {"id": row["id"], "email": name + "x"})
    with connection.cursor() as cursor:
        with cursor.copy("COPY users (username, email) FROM STDIN") as copy:
            copy.write_row((name + "-copy", None))
        with cursor.copy("COPY (SELECT username FROM users WHERE username LIKE 'psycopg3-%' ORDER BY 1) TO STDOUT") as copy:
            same([row[0] for row in copy.rows()], [name + "-copy", name + "x"])
    with connection.transaction(), connection.cursor(name="walk") as cursor:
        cursor.execute("SELECT * FROM users WHERE username LIKE 'psycopg3-%' ORDER BY username")
        same([row["username"] for row in cursor], [name + "-copy", name + "x"])
    with connection.pipeline():
        cursors = [connection.execute("SELECT username FROM users WHERE username = %s", (name + end,)) for end in ("x", "-copy")]
        same([cursor.fetchone()["username"] for cursor in cursors], [name + "x", name + "-copy"])
    try:
        connection.execute("INSERT INTO users (username) VALUES (%s)", (name + "x",))
    except psycopg.errors.UniqueViolation as error:
        same(error.diag.constraint_name, "users_username_key")
    else:
        raise AssertionError("a duplicate was accepted")
    try:
        connection.execute("SELECT handle FROM users")
    except psycopg.errors.UndefinedColumn:
        pass
    else:
        if "shape=old" in sys.argv[1]:
            raise AssertionError("an old session saw the new column")


run(round_)
