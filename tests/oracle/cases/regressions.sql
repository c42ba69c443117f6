--# Each case here failed once.

--! group: regressions
--# A value that may be NULL and is computed once, written by a new session to a row that is not copied yet.
UPDATE scores SET score_int = (SELECT NULL::integer) WHERE id = 1 RETURNING score_int
--! refusable in expanded

UPDATE scores SET score_int = NULLIF(nextval('probe'), 101) WHERE id = 1 RETURNING score_int
--! refusable in expanded

UPDATE scores SET (score_int) = (SELECT NULL::integer) WHERE id = 1 RETURNING score_int
--! refusable in expanded

UPDATE users SET (handle) = ROW(DEFAULT) WHERE id = 1
--! refusable in expanded

UPDATE users SET handle = (SELECT max(message) FROM log) WHERE id = 1
--! refusable in expanded

INSERT INTO scores (score_int) VALUES ((SELECT NULL::integer)) RETURNING score_int
--! refusable in expanded

INSERT INTO scores (score_int, player) SELECT NULL::integer, 'x' RETURNING score_int
--! refusable in expanded

INSERT INTO scores (id, score_int) VALUES (1, 5) ON CONFLICT (id) DO UPDATE SET score_int = (SELECT NULL::integer) RETURNING score_int
--! refusable in expanded

INSERT INTO scores (score) VALUES ((SELECT NULL::text)) RETURNING score

INSERT INTO scores (score, player) SELECT NULL, 'x' RETURNING score

UPDATE scores SET score = (SELECT NULL) WHERE id = 1 RETURNING score

UPDATE scores SET score = NULLIF(nextval('probe'), 101)::text WHERE id = 1 RETURNING score

--# A value that may not be computed twice is computed once for each row, not once for all.
UPDATE scores SET score_int = nextval('probe') RETURNING score_int > 0
--! unordered

UPDATE users SET handle = 'once' || nextval('probe') WHERE id < 4

UPDATE users SET username = 'once' || nextval('probe') WHERE id < 4

INSERT INTO scores (id, score_int) VALUES (1, 5), (2, 6) ON CONFLICT (id) DO UPDATE SET score_int = nextval('probe')

UPDATE scores SET score_int = count(*)
--! shapes: new
--! phases: expanded dual_writing verified contracting contracted
--! state-only: an aggregate is refused where the value is evaluated, which may be VALUES

UPDATE users SET handle = row_number() OVER ()
--! shapes: new
--! phases: expanded dual_writing verified contracting contracted
--! state-only: a window function is refused where the value is evaluated, which may be VALUES

--# Mistakes are reported in the order of the analysis.
INSERT INTO users (username, handle) VALUES (nope) ON CONFLICT (nope2) DO NOTHING RETURNING nope3

UPDATE users u SET username = nope1, handle = nope2 FROM orders o WHERE u.username = o.nope3 RETURNING u.nope4

DELETE FROM users USING orders o WHERE users.username = o.nope1 RETURNING users.handle

INSERT INTO users (handle, handle) VALUES ('a', 'b')

INSERT INTO users (username, email) VALUES ('a', 'b'), ('c')

INSERT INTO users (username, email) SELECT 'a'

UPDATE users SET username = 'a', email = 'x', username = 'b'

--# The columns of an aliased join are renamed by position.
SELECT j.username FROM (users u JOIN orders o ON o.user_id = u.id) AS j(id, username) ORDER BY 1

SELECT j.b FROM (users u JOIN orders o ON o.user_id = u.id) AS j(a, b, c) ORDER BY 1

SELECT j::text FROM (users u JOIN orders o ON o.user_id = u.id) AS j ORDER BY 1

--# A whole row has no more columns than the table, also where the statement names one that is not in it.
--! auto: old
--! refusable: a whole row beside a column of the other schema
SELECT u::text FROM users u ORDER BY handle

--! refusable: a whole row beside a system column
SELECT u::text, tableoid = 'users'::regclass FROM users u ORDER BY u.id

--# An arbiter takes no qualified name.
--! shapes: old auto
--! state-only: PostgreSQL's own syntax error, at a place of the edited text
INSERT INTO users (username) VALUES ('a') ON CONFLICT (users.username) DO NOTHING

--! group: whole row of the written table

INSERT INTO users AS u (id, username) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET username = excluded.username WHERE u.* IS DISTINCT FROM excluded.* RETURNING id, username
--! refusable in expanded

INSERT INTO users AS u (id, username) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET email = excluded.*::text RETURNING id, email
--! refusable in expanded

INSERT INTO users AS u (id, username) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET email = 'c' WHERE u.* != excluded.* RETURNING u.*
--! refusable in expanded

UPDATE users SET email = to_jsonb(users)->>'username' WHERE id = 1 RETURNING email

UPDATE users u SET email = 'z' WHERE u IS NOT NULL RETURNING id

UPDATE users u SET email = 'z' WHERE u.* IS NULL OR u.id = 2 RETURNING id

DELETE FROM users WHERE users::text LIKE '%bob%' RETURNING (users).username, (users).id

DELETE FROM users u WHERE id = 2 RETURNING (u).*

DELETE FROM users u WHERE id = 2 RETURNING (u).handle
--! refusable: a field that is none

UPDATE users SET email = 'r' WHERE id = 1 RETURNING ROW(users.*), ROW(users.*, 1)

UPDATE scores s SET player = 'p' WHERE id = 1 RETURNING (s).score, row_to_json(s), (s).*

UPDATE scores s SET player = s::text WHERE row_to_json(s)->>'score' = '7' RETURNING *

CREATE FUNCTION made(u users) RETURNS text LANGUAGE sql AS $$ SELECT 'typed' $$;;
SELECT made(u) FROM users u WHERE id = 1
--! refusable: a function over the table's row type

CREATE FUNCTION made(u users) RETURNS text LANGUAGE sql AS $$ SELECT 'typed' $$;;
UPDATE users SET email = made(users.*) WHERE id = 1
--! refusable: a function over the table's row type

--! group: syntax errors

SELECT username FROM users WHERE

SELECT username FROM users WHERE;

SELECT username FROM users WHERE username = 'x' ORDER

UPDATE users SET username 'x' WHERE id = 1

SELECT 1; SELECT * FRM users; SELECT 2
--! simple

INSERT INTO users (username) VALUES ('x'

INSERT INTO users (username VALUES ('x')

DELETE users WHERE id = 1

SELECT rank() OVER (PARTITION BY id, ORDER BY username) FROM users

MERGE INTO users t USING orders s ON t.id = s.user_id WHEN MATCHED THEN UPDATE users SET username = 'x'

COPY (SELECT username FROM users) (username) TO STDOUT
--! simple

--! group: places of errors

SELECT id FROM users TABLESAMPLE foobar (1)

SELECT id, nope FROM users TABLESAMPLE bernoulli (100) WHERE username IS NOT NULL

SELECT u.id, u.username FROM users AS u TABLESAMPLE bernoulli (100) ORDER BY u.id

SELECT id, username FROM users TABLESAMPLE bernoulli (100) REPEATABLE (1) ORDER BY id

COPY users TO STDOUT WHERE id = 1
--! simple

--! group: DDL beside the table

CREATE TABLE made (users int, username text)

CREATE TABLE made (id bigint REFERENCES users (id), username text);;
INSERT INTO made VALUES (1, 'm') RETURNING *

CREATE TABLE made (username varchar(255) REFERENCES users (username))
--! refusable: a key on the migrating column

CREATE TABLE made (LIKE users)
--! refusable: its columns are taken

ALTER TABLE orders ADD COLUMN users int

ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users

ALTER TABLE users ALTER COLUMN age SET DEFAULT 5;;
INSERT INTO users (username) VALUES ('d') RETURNING age

ALTER TABLE users ALTER email SET STATISTICS 10, ALTER age DROP NOT NULL

ALTER TABLE users ALTER username SET DEFAULT 'x'
--! refusable: DDL on the migrating column

--! group: views

CREATE VIEW made AS SELECT * FROM users;;
INSERT INTO made (username) VALUES ('through a view');;
UPDATE made SET email = 'v' WHERE username = 'bob';;
SELECT id, username, email FROM made ORDER BY id
--! phases: shielded dual_writing verified ramping
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT u.*, upper(u."Screen Name") FROM public."User" AS u WHERE u."Screen Name" > 'A' WITH CHECK OPTION;;
INSERT INTO made ("Id", "Screen Name", "order") VALUES (9, 'Through a view', 3);;
UPDATE made SET "Screen Name" = "Screen Name" || '2' WHERE "Screen Name" = 'Cy' RETURNING "Id", "Screen Name", upper;;
DELETE FROM made WHERE "Screen Name" = 'Ann Lee' RETURNING "Screen Name";;
SELECT * FROM made ORDER BY "Id"
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT "Id", "User"."Screen Name", public."User"."order", "Screen Name" AS other FROM "User" ORDER BY "Screen Name", 4;;
UPDATE made SET other = 'v' WHERE "Id" = 1 RETURNING "Id", other;;
SELECT * FROM made ORDER BY "Id"
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT "Screen Name", count(*) AS n FROM "User" GROUP BY "Screen Name" HAVING max("Screen Name") > 'a' ORDER BY n, "Screen Name";;
SELECT * FROM made ORDER BY 1
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT (SELECT "Screen Name") AS x, "order" AS "Screen Name" FROM "User" ORDER BY "Screen Name", x;;
SELECT x, "Screen Name" FROM made
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT coalesce("Screen Name", 'x'), "Handle!" FROM "User";;
SELECT * FROM made
--! refusable: a view of the other schema
--! shapes: old new

CREATE VIEW made AS SELECT u.*, upper(u.username) FROM public.users AS u WHERE u.username > 'a' WITH CHECK OPTION;;
INSERT INTO made (email) VALUES ('e');;
UPDATE made SET email = username || '2' WHERE username = 'bob' RETURNING id, username, upper;;
DELETE FROM made WHERE username = 'alice' RETURNING username;;
SELECT id, username, email FROM made ORDER BY id
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT age, count(*) AS n, age || '!' AS told FROM members WHERE age <> '4' GROUP BY age ORDER BY age;;
SELECT * FROM made
--! shapes: old
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT id, age FROM members WHERE age <> '4';;
UPDATE made SET id = id + 100 WHERE age = '30' RETURNING *;;
SELECT * FROM members ORDER BY id
--! shapes: old
--! refusable: a view of the other schema

CREATE VIEW made AS SELECT u.*, o.amount FROM users u JOIN orders o ON o.user_id = u.id;;
SELECT * FROM made ORDER BY id, amount
--! refusable: a view binds to the storage

CREATE VIEW made (a, b) AS SELECT id, upper(username) FROM users WHERE username <> 'bob';;
SELECT a, b FROM made ORDER BY a
--! refusable: a view binds to the storage

CREATE MATERIALIZED VIEW made AS SELECT count(username) FROM users NATURAL JOIN logins;;
SELECT * FROM made
--! refusable: a view binds to the storage

CREATE VIEW made AS SELECT row_to_json(s) FROM scores s;;
TABLE made
--! refusable: a view binds to the storage
--! unordered

--! group: whole row under other names

SELECT row_to_json(u) FROM users u(a, b) WHERE u.a = 1
--! refusable: the row's fields keep their names

SELECT u.a, u.b FROM users u(a, b) ORDER BY u.a

--! group: assignment of a row of unknown width

UPDATE users SET (username, email) = ROW(v.*) FROM (VALUES (1, 'x')) AS k(id, no), (VALUES ('row', 'r@x')) AS v(i, j)
WHERE users.id = k.id RETURNING users.username, users.email

UPDATE users SET (email, username) = ROW(v.*) FROM (VALUES ('r@x', 'row')) AS v(i, j) WHERE users.id = 2

--! group: a WITH in front of a write

WITH u AS (UPDATE users SET username = 'x' WHERE id = 99 RETURNING *) INSERT INTO users (id, username) SELECT 99, 'new' WHERE NOT EXISTS (SELECT FROM u) RETURNING id, username

WITH u AS (UPDATE users SET username = 'x' WHERE id = 1 RETURNING *) INSERT INTO users (id, email) SELECT 99, username FROM u WHERE false

WITH u AS (UPDATE scores SET score = '7' WHERE id = 1 RETURNING *) INSERT INTO scores (score, player) SELECT score, player || '2' FROM u RETURNING score, player

WITH u AS (UPDATE members SET age = '77' WHERE id = 1 RETURNING *) INSERT INTO members (id, name) VALUES (99, 'new') ON CONFLICT (id) DO UPDATE SET name = 'old' RETURNING *

WITH v AS (VALUES (1, 2)) VALUES (3), (4)

WITH v AS (SELECT id FROM orders) TABLE users
--! unordered

SELECT username, (WITH v AS (SELECT id AS inner_id FROM orders) SELECT count(*) FROM v) FROM users WHERE id = 1

--! group: columns of a function in FROM

--! params: {u1,u2} | {e1,e2}
INSERT INTO users (username, email) SELECT * FROM unnest($1::text[], $2::varchar(20)[]) RETURNING username, email

INSERT INTO scores (score, player) SELECT * FROM unnest(ARRAY['1', '2']::text[], ARRAY['x', 'y']::text[]) AS t(u, a) RETURNING score, player

INSERT INTO members (age) SELECT * FROM generate_series(1, 2) RETURNING age

INSERT INTO scores (score, id) SELECT * FROM jsonb_array_elements_text('["7", "8"]') WITH ORDINALITY AS e(v, n)

INSERT INTO scores (score, id) SELECT e.value, n + 100 FROM jsonb_array_elements_text('["7", "8"]') WITH ORDINALITY AS e(value, n) RETURNING score, id

SELECT u.username, value FROM users u, jsonb_array_elements_text('["alice"]') e WHERE e.value = u.username

SELECT username, unnest FROM users, unnest(ARRAY[1, 2]::int[]) ORDER BY 1, 2

--! group: a table beside itself

SELECT * FROM users, users

SELECT 1 FROM users CROSS JOIN orders CROSS JOIN users

DELETE FROM users USING users WHERE username = 'x'

UPDATE users SET age = 1 FROM users WHERE id = 1

SELECT a.username FROM users a, users ORDER BY 1 LIMIT 1

SELECT j.amount FROM (users u JOIN orders o ON o.user_id = u.id) AS j, users ORDER BY 1 LIMIT 1

--! group: regressions: joins
--! state-only: the text of an error about a name names what is near
SELECT count(*) FROM users z1 WHERE EXISTS (SELECT FROM users JOIN orders kind(id) ON true WHERE tableoid = 'users'::regclass)

--! state-only: the text of an error about a name names what is near
SELECT tableoid::regclass, count(*) FROM users z1 JOIN orders kind(id) ON true GROUP BY 1

--! state-only: the text of an error about a name names what is near
SELECT count(*) FROM orders o, users u WHERE EXISTS (SELECT FROM users a JOIN users b ON true WHERE ctid = o.ctid)

SELECT u.tableoid::regclass, count(*) FROM users u JOIN orders kind(id) ON true GROUP BY 1

--! refusable: a system column without its table's name
SELECT u.tableoid::regclass, count(*) FROM users u JOIN orders kind(id) ON tableoid IS NOT NULL GROUP BY 1

SELECT tableoid::regclass, username FROM users ORDER BY id

SELECT username FROM users ORDER BY ctid

SELECT username, (SELECT o.id FROM orders o WHERE o.user_id = u.id AND o.ctid IS NOT NULL AND tableoid IS NOT NULL ORDER BY 1 LIMIT 1) FROM users u ORDER BY id

SELECT u.* FROM users u JOIN orders o ON o.user_id = u.id WHERE u.ctid IS NOT NULL ORDER BY u.id, o.id

SELECT * FROM users CROSS JOIN orders JOIN app.users u3 ON public.users.username IS NOT NULL ORDER BY 1, 2, 3, 4, 5, 6, 7, 8

SELECT users.id FROM users CROSS JOIN orders o JOIN orders u3 ON public.users.username = u3.username ORDER BY 1

SELECT * FROM users JOIN orders o ON true JOIN orders u3 ON public.users.username = u3.username ORDER BY users.id, o.id, u3.id

SELECT * FROM users LEFT JOIN orders o JOIN orders u3 ON o.id = u3.id ON public.users.username = u3.username ORDER BY users.id, o.id, u3.id

SELECT u.id, o.id, u3.username FROM users u CROSS JOIN orders o JOIN orders u3 ON u.ctid IS NOT NULL AND u.username = u3.username LEFT JOIN orders u4 ON u.xmin IS NOT NULL AND u.username = u4.handle ORDER BY 1, 2, 3

SELECT * FROM users u NATURAL JOIN (SELECT 1 AS id) o JOIN orders u3 ON u.username = u3.username LEFT JOIN orders u4 USING (username) ORDER BY 1, 2, 3

SELECT * FROM orders u NATURAL JOIN (SELECT 1 AS id) o LEFT JOIN users u4 USING (username) ORDER BY 1, 2, 3

SELECT * FROM orders u CROSS JOIN (SELECT 1 AS one) o LEFT JOIN users u4 USING (username) ORDER BY 1, 2, 3

SELECT u.id FROM users u CROSS JOIN orders o JOIN orders p JOIN users q ON q.username = p.username ON u.username = q.username ORDER BY 1

--! state-only: the text of an error about a name names what is near
SELECT u.id FROM users u CROSS JOIN orders o JOIN orders p JOIN users q ON q.username = u.username ON u.username = q.username ORDER BY 1

SELECT u.id FROM users u LEFT JOIN orders o CROSS JOIN users q ON q.username = u.username AND o.id = q.id ORDER BY 1

--! state-only: the text of an error about a name names what is near
SELECT u.id FROM users u LEFT JOIN orders o CROSS JOIN users q JOIN orders r ON u.username = r.username ON q.username = u.username AND o.id = q.id ORDER BY 1

SELECT count(*) FROM users, unnest(tags), users b, LATERAL (SELECT FROM users q4(kind0) WHERE q4.kind0 IS NOT NULL) x

SELECT o.id, x.username FROM orders o, LATERAL (SELECT username FROM users WHERE id = user_id) x, users u WHERE u.id = 1 ORDER BY 1

SELECT a.id, x.t FROM users a JOIN LATERAL (SELECT tableoid::regclass AS t) x ON true JOIN users b ON a.username = b.username ORDER BY 1

SELECT a.id, x FROM users a JOIN LATERAL upper(username) x ON true, users b WHERE b.id = a.id ORDER BY 1

--! state-only: the text of an error about a name names what is near
SELECT a.id, x FROM upper(username) x, users b ORDER BY 1

SELECT (SELECT count(*) FROM unnest(tags) t, users b WHERE b.username = u.username) FROM users u ORDER BY u.id

SELECT u.id FROM users u, ROWS FROM (generate_series(1, id), unnest(tags)) r(a, b), users v WHERE v.username = u.username ORDER BY 1, r.a

INSERT INTO users (username, age) VALUES ('y1', 2), ('b'::text BETWEEN 'a' AND 'x', 1) RETURNING username

INSERT INTO users (username) VALUES ('b'::text NOT BETWEEN SYMMETRIC 'a' AND 'x') RETURNING username

UPDATE users SET username = email::text BETWEEN 'a' AND 'x', age = 3 WHERE username::text BETWEEN 'a' AND 'b' COLLATE "C" RETURNING username::text BETWEEN 'a' AND 'x', username COLLATE "C" BETWEEN 'a' AND 'x', username

SELECT username::text BETWEEN 'a' AND 'x', username::varchar(3)::text NOT BETWEEN $1 AND $2, created_at::date BETWEEN '2000-01-01' AND '2100-01-01' AS x FROM users WHERE created_at::timestamp with time zone BETWEEN $3 AND $4 AND username <> 'x' ORDER BY id
--! params: a | b | 2000-01-01 | 2100-01-01

SELECT username, sum(age) OVER (ORDER BY created_at::date, id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), sum(age) OVER (PARTITION BY email::text BETWEEN 'a' AND 'b' ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM users ORDER BY id

SELECT username FROM users WHERE (tags::text[])[1]::text BETWEEN 'a' AND 'z' OR username BETWEEN 'a'::text AND 'b' ORDER BY id

SELECT CASE WHEN username::text BETWEEN 'a' AND 'b' THEN 1 ELSE 2 END, count(*) FROM users GROUP BY 1, username::text BETWEEN 'a' AND 'c' ORDER BY 1, 2

--! group: regressions: whole rows of new relations
--! refusable: a whole row as a column
CREATE TABLE nt AS SELECT users FROM users

--! refusable: a whole row as a column
CREATE TEMP TABLE nt AS SELECT x.u FROM (SELECT (u) FROM users u) x

--! refusable: a whole row as a column
SELECT u INTO nt FROM users u

--! refusable: a whole row as a column
CREATE VIEW nv AS SELECT id, u FROM users u

--! refusable: a whole row as a column
CREATE MATERIALIZED VIEW nv AS SELECT id, u FROM users u

CREATE TABLE nt AS SELECT row_to_json(users)->>'id' AS id FROM users

SELECT users FROM users ORDER BY id

--! group: regressions: rows that are called as a hidden column
--! refusable: the whole row
--! auto: old
UPDATE users u SET email = to_jsonb(handle)::text FROM (SELECT 1 AS id, 2 AS z) handle WHERE handle.id = u.id RETURNING u.email

--! refusable: the whole row
--! auto: old
UPDATE users u SET email = (SELECT to_jsonb(handle)::text FROM (SELECT 1 AS id, 2 AS z) handle WHERE handle.id = u.id) WHERE id = 1 RETURNING email

--! refusable: the whole row
--! auto: old
DELETE FROM users u USING (SELECT 1 AS user_id, 2 AS id) handle WHERE handle.user_id = u.id AND u.id = 1 RETURNING handle

--! refusable: the whole row
--! auto: old
DELETE FROM users u USING (SELECT 1 AS user_id, 2 AS id) handle WHERE handle.user_id = u.id AND u.id = 1 RETURNING to_jsonb(handle)

--! refusable: the whole row
--! auto: old
MERGE INTO users u USING (SELECT 1 AS user_id, 2 AS id) handle ON handle.user_id = u.id WHEN MATCHED THEN UPDATE SET email = to_jsonb(handle)->>'id'

--! refusable: the whole row
--! auto: old
INSERT INTO users AS u (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET email = (SELECT to_jsonb(handle)->>'id' FROM (SELECT 1 AS user_id, 2 AS id) handle ORDER BY handle.id LIMIT 1) RETURNING email

--! refusable: the whole row
--! auto: old
WITH x AS (UPDATE users u SET email = 'x' RETURNING id) SELECT to_jsonb(handle) FROM x handle ORDER BY handle.id

SELECT to_jsonb(handle) FROM (SELECT 1 AS user_id, 2 AS id) handle JOIN users u ON u.id = handle.user_id ORDER BY handle.id

--! refusable: the whole row
--! state-only: names what is near
UPDATE users u SET email = to_jsonb(username)::text FROM (SELECT 1 AS id, 2 AS z) username WHERE username.id = u.id RETURNING u.email

--! group: regressions: no blank behind a name
--! refusable in expanded
INSERT INTO users(SELECT * FROM users u WHERE false) RETURNING id

--! refusable in expanded
INSERT INTO "users"SELECT * FROM users u WHERE false RETURNING id

--! refusable in expanded
INSERT INTO "users"TABLE users ON CONFLICT DO NOTHING

INSERT INTO "users"(username)VALUES('x')RETURNING"username"

INSERT INTO "users"(username)SELECT"username"||'x'FROM"users"WHERE"id"=1 RETURNING"username"

UPDATE"users"SET"username"='x'WHERE"username"='alice'RETURNING"username"

DELETE FROM"users"WHERE"username"='alice'RETURNING"username"

SELECT"username"FROM"users"WHERE"username"='alice'

SELECT x1.id, count(*) FROM users x1 GROUP BY x1.id ORDER BY 1

SELECT x1, count(*) FROM users x1 GROUP BY x1.id ORDER BY x1.id

SELECT to_jsonb(x1), x1.*, count(*) FROM users x1 GROUP BY x1.id ORDER BY x1.id

COPY users (id, username, id) TO STDOUT

COPY users (id, username, username) TO STDOUT

COPY users (id, username, nope) TO STDOUT

COPY users (id, age) FROM STDIN
--! copy: 77\t3\n

--! group: regressions: one side of USING has the name
--! auto: old
SELECT u1.id, orders.id FROM users u1 JOIN jsonb_to_recordset('[{"id":1,"username":"alice"},{"id":2,"handle":"bob"}]') x2(id int, handle text) ON u1.id = x2.id JOIN orders USING (handle) ORDER BY 1, 2

--! auto: old
SELECT u1.id FROM orders JOIN (users u1 JOIN (SELECT 1 AS one, 'a' AS handle) x ON true) USING (handle) ORDER BY 1

--! auto: SELECT u1.id, o.id FROM orders o JOIN (SELECT id, username AS handle FROM users) u1 USING (handle) ORDER BY 1, 2
SELECT u1.id, o.id FROM orders o JOIN users u1 USING (handle) ORDER BY 1, 2

SELECT u1.id, o.id FROM orders o JOIN users u1 USING (username) ORDER BY 1, 2

--! group: regressions: mistakes are told of the column that the session has
VALUES (1, 2) UNION ALL TABLE users

TABLE users UNION ALL SELECT 1, 2

INSERT INTO users (username.x) VALUES ('a')

UPDATE users SET username.x = 'a'

INSERT INTO orders (username) SELECT id FROM users

INSERT INTO orders (handle) SELECT id FROM users

INSERT INTO users (username) SELECT ARRAY[1, 2] FROM orders

COPY users (id) TO STDOUT (FORMAT csv, FORCE_QUOTE (username))

COPY users (id, username) TO STDOUT (FORMAT csv, FORCE_QUOTE (username))

COPY users (id) TO STDOUT (FORMAT csv, FORCE_QUOTE (nope))

INSERT INTO users (username, username.x) VALUES ('a', 'b')
