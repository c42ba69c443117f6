"""psycopg 2: simple protocol throughout, transactions, savepoints, execute_values, COPY, named cursors."""

import io
import sys

import psycopg2
from psycopg2.extras import execute_values

from rounds import run, same

connection = psycopg2.connect(sys.argv[1])


def round_(number):
    name = f"psycopg2-{number}"
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM users WHERE username LIKE 'psycopg2-%%'")
        execute_values(cursor, "INSERT INTO users (username, email) VALUES %s RETURNING username", [(name + c, c) for c in "abc"])
        same(cursor.fetchall(), [(name + c,) for c in "abc"])
        cursor.execute("SAVEPOINT one")
        cursor.execute("UPDATE users SET username = 'psycopg2-lost' WHERE username = %s", (name + "a",))
        cursor.execute("ROLLBACK TO SAVEPOINT one")
        cursor.execute("SELECT username FROM users u WHERE u.username LIKE 'psycopg2-%%' ORDER BY u.username DESC")
        same([row[0] for row in cursor.fetchall()], [name + c for c in "cba"])
    with connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY users (username, email) FROM STDIN WITH CSV", io.StringIO(f'"{name}d",d\n'))
        cursor.execute("SELECT count(*), max(username) FROM users WHERE username LIKE 'psycopg2-%%'")
        same(cursor.fetchone(), (4, name + "d"))
    with connection, connection.cursor("walk") as cursor:
        cursor.execute("SELECT * FROM users WHERE username LIKE 'psycopg2-%%' ORDER BY username")
        same([row[1] for row in cursor], [name + c for c in "abcd"])


run(round_)
