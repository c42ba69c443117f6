"""asyncpg: binary parameters, statements prepared once, introspection of types, cursors, copy_records_to_table, executemany."""

import asyncio
import sys

import asyncpg

from rounds import run, same

loop = asyncio.new_event_loop()
connection = loop.run_until_complete(asyncpg.connect(sys.argv[1]))
by_name = loop.run_until_complete(connection.prepare("SELECT * FROM users WHERE username = $1"))
add = loop.run_until_complete(connection.prepare("INSERT INTO users (username, email) VALUES ($1, $2) RETURNING *"))


async def work(number):
    name = f"asyncpg-{number}"
    await connection.execute("DELETE FROM users WHERE username LIKE 'asyncpg-%'")
    row = await add.fetchrow(name, "e")
    same(list(row.keys()), ["id", "username", "email"])
    same(await by_name.fetchrow(name), row)
    await connection.executemany("INSERT INTO users (username) VALUES ($1)", [(f"{name}-{n}",) for n in range(3)])
    async with connection.transaction():
        names = [r["username"] async for r in connection.cursor("SELECT * FROM users WHERE username LIKE 'asyncpg-%' ORDER BY 2")]
    same(names, [name] + [f"{name}-{n}" for n in range(3)])
    await connection.copy_records_to_table("users", records=[(f"{name}-copy", None)], columns=["username", "email"])
    same(await connection.fetchval("SELECT count(*) FROM users WHERE username = any($1)", [name, f"{name}-copy"]), 2)
    same(await connection.execute("UPDATE users SET username = upper(username) WHERE username = $1", name), "UPDATE 1")
    same((await by_name.fetchrow(name.upper()))["id"], row["id"])
    await connection.execute("DELETE FROM users WHERE id = $1", row["id"])


run(lambda number: loop.run_until_complete(work(number)))
