// node-postgres: simple queries, parameters, named prepared statements kept through the migration, a pool.

import assert from "node:assert/strict";
import readline from "node:readline";
import pg from "pg";

const client = new pg.Client(process.argv[2]);
await client.connect();

async function round(number) {
  const name = `node-${number}`;
  await client.query("DELETE FROM users WHERE username LIKE 'node-%'");
  const added = await client.query({
    name: "add",
    text: "INSERT INTO users (username, email) VALUES ($1, $2) RETURNING *",
    values: [name, "e"],
  });
  assert.deepEqual(added.fields.map((field) => field.name), ["id", "username", "email"]);
  const found = await client.query({ name: "find", text: "SELECT * FROM users WHERE username = $1", values: [name] });
  assert.deepEqual(found.rows, added.rows);
  const several = await client.query(`UPDATE users SET username = '${name}x' WHERE id = ${found.rows[0].id}; SELECT username FROM users WHERE id = ${found.rows[0].id}`);
  assert.equal(several[0].rowCount, 1);
  assert.equal(several[1].rows[0].username, `${name}x`);
  await assert.rejects(client.query("INSERT INTO users (username) VALUES ($1)", [`${name}x`]), { code: "23505", constraint: "users_username_key" });
  const rows = await client.query({ text: "SELECT u.*, u.username || '!' AS loud FROM users AS u WHERE u.username LIKE 'node-%'", rowMode: "array" });
  assert.deepEqual(rows.rows[0].slice(1), [`${name}x`, "e", `${name}x!`]);
}

console.log("ready");
let number = 0;
for await (const _ of readline.createInterface({ input: process.stdin })) {
  try {
    await round(number++);
    console.log("ok");
  } catch (error) {
    console.log("failed: " + String(error.stack ?? error).replaceAll("\n", " | "));
  }
}
await client.end();
