--# In the style of people who try to break it, and of ORMs.

--! group: adversarial

SELECT/**/username/*x*/FROM/**/users/**/WHERE/**/username='bob'

SELECT u . username , u . /* c */ "username" FROM "public" . "users" AS "u" WHERE u/**/./**/id = 1

SELECT U&"usern\0061me" FROM U&"\0075sers" ORDER BY 1

SELECT users.* FROM users, LATERAL (SELECT users.username AS x) l WHERE l.x = 'bob'

SELECT (SELECT users.username) FROM users ORDER BY id

SELECT username AS "username", upper(username) username2 FROM users ORDER BY "username"

SELECT id FROM users ORDER BY username LIMIT (SELECT count(*) FROM users WHERE username LIKE '%a%')

SELECT id FROM users ORDER BY username OFFSET (SELECT count(*) FROM users WHERE username = 'bob') FETCH FIRST (SELECT 2) ROWS ONLY

SELECT id FROM users ORDER BY username FETCH FIRST 3 ROWS WITH TIES

SELECT * FROM (VALUES (1, 'alice'), (2, 'x')) AS v(id, username) JOIN users USING (id, username)

SELECT * FROM (VALUES ('alice')) v(username) NATURAL JOIN users

WITH RECURSIVE t(n, username) AS (SELECT 1, username::text FROM users WHERE id = 1 UNION ALL SELECT n + 1, t.username || u.username FROM t JOIN users u ON u.id = t.n + 1 WHERE n < 4) SELECT * FROM t ORDER BY n

WITH RECURSIVE users AS (SELECT 1 AS id, 'cte'::text AS username UNION ALL SELECT id + 1, username || id FROM users WHERE id < 3) SELECT users.* FROM users ORDER BY id

WITH users AS (SELECT * FROM users WHERE age > 20) SELECT * FROM users ORDER BY id

WITH u AS (UPDATE users SET username = username || '!' WHERE id < 3 RETURNING *), d AS (DELETE FROM orders WHERE user_id IN (SELECT id FROM u) RETURNING id, username) SELECT u.username, d.id, d.username FROM u LEFT JOIN d ON d.id = u.id ORDER BY 1, 2

WITH ins AS (INSERT INTO users (username) SELECT 'n' || username FROM users WHERE id = 1 RETURNING id, username) INSERT INTO orders (user_id, username) SELECT id, username FROM ins RETURNING username, handle

--! refusable in expanded
UPDATE users SET (username, email) = (SELECT o.username || 'x', o.handle FROM orders o WHERE o.user_id = users.id ORDER BY o.id LIMIT 1) WHERE id = 1 RETURNING username, email

UPDATE scores SET (score, player) = (SELECT '5', 'pp') WHERE id = 1 RETURNING *

--! shapes: old auto
UPDATE members SET (age, name) = (SELECT '5', 'pp') WHERE id = 1 RETURNING *

--! shapes: old auto
UPDATE members m SET (name, age) = (SELECT o.handle, o.id::text FROM orders o WHERE o.id = m.id) WHERE id = 3 RETURNING m.*

--! shapes: old auto
UPDATE members m SET (name, age) = ('x', age || '1') WHERE id = 2 RETURNING m.*

--! shapes: new
UPDATE members m SET (name, age) = ('x', age + 1) WHERE id = 2 RETURNING m.*

--! shapes: old auto
UPDATE scores s SET (player, score) = (SELECT m.name, m.age FROM members m WHERE m.id = s.id) RETURNING s.*

--! shapes: new
UPDATE scores s SET (player, score_int) = (SELECT m.name, m.age FROM members m WHERE m.id = s.id) RETURNING s.*

INSERT INTO users (username, email) SELECT username || '2', email || '2' FROM users WHERE id < 4 ON CONFLICT (username) DO UPDATE SET email = excluded.username RETURNING id > 0, username, email

INSERT INTO users (username, email) SELECT username, 'e' || id FROM users WHERE id < 4 ORDER BY id ON CONFLICT (username) DO UPDATE SET email = excluded.email || users.username WHERE users.username <> 'bob' RETURNING username, email

--! refusable: no arbiter
INSERT INTO members (age, name) SELECT age, name || 'x' FROM members ON CONFLICT (age) DO UPDATE SET name = excluded.name || members.age RETURNING *

INSERT INTO users AS users (username) VALUES ('x'), ('bob') ON CONFLICT ON CONSTRAINT users_username_key DO UPDATE SET username = users.username || '2' RETURNING users.*

--! tag-only
EXPLAIN (COSTS OFF) SELECT username FROM users

--! tag-only
EXPLAIN (VERBOSE, COSTS OFF) UPDATE users SET username = 'x' WHERE id = 1

--! tag-only
EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) DELETE FROM users WHERE username = 'bob'

--! tag-only
EXPLAIN ANALYZE VERBOSE SELECT * FROM users

CREATE TEMP TABLE stage AS SELECT * FROM users;;
UPDATE stage SET username = username || '_', id = id + 100, email = NULL;;
INSERT INTO users SELECT * FROM stage RETURNING username

--! shapes: old auto
CREATE TEMP TABLE stage AS SELECT id, score, player FROM scores;;
UPDATE stage SET id = id + 100;;
INSERT INTO scores SELECT * FROM stage RETURNING *

CREATE TEMP TABLE stage AS TABLE members;;
UPDATE stage SET id = id + 100, age = NULL;;
INSERT INTO members SELECT * FROM stage RETURNING *

CREATE TEMP TABLE stage (LIKE orders);;
INSERT INTO stage SELECT * FROM orders;;
INSERT INTO users (id, username) SELECT id + 100, 'o' || id FROM stage RETURNING username

SELECT * INTO TEMP copy FROM users;;
SELECT * FROM copy ORDER BY id

SELECT id, username INTO UNLOGGED made FROM users WHERE username <> 'bob';;
TABLE made ORDER BY id

CREATE TABLE made (a, b) AS SELECT id, username FROM users WITH NO DATA;;
SELECT * FROM made

CREATE TABLE IF NOT EXISTS users AS SELECT 1

DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM users ORDER BY username;;
FETCH 3 FROM c;;
FETCH BACKWARD 2 FROM c;;
FETCH ABSOLUTE -1 FROM c;;
MOVE FIRST FROM c;;
FETCH ALL c;;
CLOSE c

--! simple
DECLARE c BINARY INSENSITIVE CURSOR FOR SELECT username FROM users ORDER BY id;;
FETCH 2 FROM c

DECLARE c CURSOR FOR SELECT * FROM users WHERE age > 20 FOR UPDATE;;
FETCH 1 FROM c;;
UPDATE users SET username = 'cur' WHERE CURRENT OF c RETURNING username

DECLARE c CURSOR FOR SELECT username FROM users ORDER BY id FOR NO KEY UPDATE OF users;;
FETCH 2 FROM c;;
DELETE FROM users WHERE CURRENT OF c RETURNING *

--! simple
PREPARE p (varchar, bigint) AS UPDATE users SET username = $1 WHERE id = $2 RETURNING username;;
EXECUTE p('pp', 1)

--! simple
PREPARE p (text) AS SELECT * FROM users WHERE username = $1;;
EXECUTE p('bob')

--! simple
SELECT 1; UPDATE users SET username = 'm' WHERE id = 1; SELECT 1/0; SELECT username FROM users

--! simple
UPDATE users SET username = 'm' WHERE id = 1; SELECT username FROM users WHERE id = 1; DELETE FROM users WHERE username = 'm' RETURNING *

--! simple
SAVEPOINT s; UPDATE users SET username = 'm' WHERE id = 1; ROLLBACK TO s; SELECT username FROM users WHERE id = 1

SAVEPOINT s;;
INSERT INTO users (username) VALUES ('bob');;
ROLLBACK TO s;;
SELECT username FROM users ORDER BY id

SELECT username FROM users WHERE username = ANY(ARRAY(SELECT username FROM logins)) ORDER BY 1

SELECT count(username), count(DISTINCT username), string_agg(username, ',' ORDER BY username DESC) FILTER (WHERE username > 'b') FROM users

SELECT username, row_number() OVER w, lag(username) OVER w, first_value(username) OVER (w ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM users WINDOW w AS (PARTITION BY age ORDER BY username) ORDER BY 1

SELECT age, username, count(*) FROM users GROUP BY CUBE (age, username) ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3

SELECT grouping(username), username, count(*) FROM users GROUP BY ROLLUP (username) HAVING grouping(username) = 1 OR username > 'c' ORDER BY 1, 2

SELECT u.id, u.username, u.email, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY u.id

SELECT u.*, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY u.id

--! tag-only
SELECT u.username, array_agg(u) FROM users u GROUP BY u.username ORDER BY 1

SELECT DISTINCT ON (username) username, day FROM users JOIN logins USING (username) ORDER BY username, day DESC

SELECT username FROM users JOIN logins USING (username) AS j WHERE j.username = 'bob'

SELECT j.username, users.username, logins.username FROM users FULL JOIN logins USING (username) AS j ORDER BY 1, 2, 3

SELECT * FROM users FULL JOIN logins USING (username) ORDER BY username, day

SELECT * FROM users NATURAL LEFT JOIN logins ORDER BY id, day

SELECT * FROM users u1 JOIN users u2 USING (username) ORDER BY u1.id

SELECT username FROM users EXCEPT SELECT username FROM logins ORDER BY 1

(SELECT username FROM users ORDER BY username LIMIT 2) UNION ALL (SELECT handle FROM orders ORDER BY handle LIMIT 2) ORDER BY 1

TABLE users ORDER BY username LIMIT 2

SELECT * FROM users WHERE (username, age) IN (SELECT username, age FROM users WHERE id < 3) ORDER BY id

SELECT * FROM users WHERE (username, id) = ('bob', 2)

SELECT * FROM users WHERE ROW(username, email) IS DISTINCT FROM ROW('bob', 'bob@example.org') ORDER BY id

SELECT CASE username WHEN 'bob' THEN 1 WHEN 'alice' THEN 2 ELSE 3 END FROM users ORDER BY id

SELECT username COLLATE "C" FROM users ORDER BY username COLLATE "C"

SELECT username FROM users ORDER BY username USING >

SELECT username FROM users ORDER BY users.username, (SELECT 1)

SELECT upper(username) AS username FROM users ORDER BY username

SELECT upper(username) AS username FROM users GROUP BY username ORDER BY username

SELECT 'username' AS handle, username FROM users ORDER BY handle, username

SELECT username::varchar(3), username::"char", CAST(username AS bytea) FROM users WHERE id = 1

--! state-only: syntax
SELECT username FROM ONLY users * ORDER BY 1

SELECT username FROM users * ORDER BY 1

SELECT username FROM users AS u (a, username) ORDER BY 1

SELECT x.b FROM users AS x (a, b) ORDER BY x.b

SELECT u.username FROM users users, users u WHERE users.id = u.id ORDER BY 1

SELECT username.username FROM users AS username ORDER BY 1

SELECT username FROM users AS username ORDER BY 1

--! tag-only
--! refusable: whole row
SELECT handle FROM users AS handle ORDER BY 1

--! tag-only
SELECT users FROM users ORDER BY id

SELECT count(users) FROM users

SELECT count(users.*) FROM users

SELECT to_json(users.*) FROM users ORDER BY id

SELECT json_agg(users ORDER BY id) FROM users

SELECT row_to_json(x) FROM (SELECT username, id FROM users ORDER BY id) x

SELECT jsonb_build_object('u', u.username, 'all', to_jsonb(u) - 'created_at') FROM users u ORDER BY id

SELECT (u).username, (u).id FROM users u ORDER BY 2

--! state-only: syntax
SELECT (u.*).username FROM users u ORDER BY 1

--! refusable: a field of a row of a query
SELECT ((SELECT u FROM users u WHERE id = 1)).username

SELECT ROW(u.*) = ROW(v.*) FROM users u, users v WHERE u.id = v.id

SELECT xmin IS NULL, ctid IS NOT NULL, tableoid::regclass, username FROM users ORDER BY id

--! state-only: subquery must return one column
SELECT exists(SELECT FROM users WHERE username = 'bob'), (SELECT FROM users WHERE false) IS NULL

SELECT FROM users

SELECT 1 FROM users WHERE false GROUP BY username

SELECT u.username FROM users u WHERE EXISTS (SELECT 1 FROM orders WHERE username = u.username) ORDER BY 1

SELECT u.id FROM users u WHERE username IN (SELECT username FROM app.users) ORDER BY 1

SELECT username, (SELECT count(*) FROM orders o WHERE o.username = users.username) FROM users ORDER BY 1

SELECT public.users.username, app.users.username FROM public.users, app.users WHERE public.users.id = app.users.id ORDER BY 1

UPDATE members SET (age, name) = (SELECT 1, 'x', 3) WHERE id = 1

UPDATE members SET (age, name) = (SELECT '1') WHERE id = 1

--! shapes: old auto
UPDATE scores SET (score, player) = (SELECT * FROM (VALUES ('5', 'pp', 'x')) v(a, b, c)) WHERE id = 1

--! shapes: old auto
INSERT INTO scores (player, score) SELECT player, score FROM scores ORDER BY id DESC LIMIT 2 RETURNING *

--! shapes: old auto
INSERT INTO scores (player, score) SELECT DISTINCT player, score FROM scores ORDER BY 1, 2 RETURNING player, score

--! shapes: old auto
INSERT INTO scores (player, score) SELECT 'p', NULL LIMIT 1 RETURNING player, score

--! shapes: old auto
INSERT INTO scores (player, score) SELECT 'p', '7' UNION ALL SELECT player, score FROM scores RETURNING player, score

--! shapes: old auto
INSERT INTO scores (player, score) SELECT player, max(score) FROM scores GROUP BY player HAVING player < 'b' RETURNING player, score

--! shapes: new
INSERT INTO scores (player, score_int) SELECT player, max(score_int) FROM scores GROUP BY player HAVING player < 'b' RETURNING player, score_int

--! shapes: new
INSERT INTO scores (player, score_int) SELECT player, score_int + nextval('probe') FROM scores ORDER BY id RETURNING player, score_int

INSERT INTO members (name, age) TABLE orders

--! shapes: old auto
INSERT INTO members (name, age) SELECT * FROM (VALUES ('a', '41'), ('b', '42')) v ORDER BY 1 RETURNING *

--! shapes: old auto
INSERT INTO members (name, age) VALUES ('a', '41'), ('b', '42') ORDER BY 1 LIMIT 1 RETURNING *

INSERT INTO members (name, age) (SELECT 'x', '43') RETURNING *

INSERT INTO members SELECT id + 200, NULL, name FROM members ORDER BY id RETURNING *

--! shapes: old auto
INSERT INTO members (id, age, name) OVERRIDING SYSTEM VALUE SELECT id + 200, (100 + id)::text, name FROM members ORDER BY name RETURNING *

--! shapes: old auto
WITH s AS (SELECT id + 200, (100 + id)::text, name FROM members) INSERT INTO members SELECT * FROM s RETURNING *

--! shapes: new
WITH s AS (SELECT id + 200, 100 + id::int, name FROM members) INSERT INTO members SELECT * FROM s RETURNING *

INSERT INTO members (name, age) SELECT 'x', '43', 'y' FROM members ORDER BY 1

INSERT INTO members (name, age) SELECT 'x' FROM members ORDER BY 1

--! shapes: old auto
INSERT INTO members (name, age) SELECT DISTINCT 'x', '45' RETURNING *

--! params: 47
INSERT INTO members (name, age) SELECT 'x', $1 ORDER BY 1 LIMIT 1 RETURNING *

--! params: 47 | q
INSERT INTO members (age, name) SELECT $1, $2 FROM members ORDER BY id LIMIT 1 RETURNING *

--! shapes: old auto
INSERT INTO members (name, age) SELECT m.name || '2', m.age || '2' FROM members m JOIN orders o ON o.id = m.id WHERE m.age <> '-3' ORDER BY 1 ON CONFLICT (id) DO UPDATE SET age = excluded.age RETURNING *

--! group: code and rules

--! refusable: code
DO $$ BEGIN UPDATE users SET username = 'x' WHERE id = 1; END $$;;
SELECT id, username FROM users ORDER BY id

--! refusable: code
DO $$ BEGIN INSERT INTO users VALUES (77, 'x', 'y'); END $$;;
SELECT id, username, email FROM users ORDER BY id

DO $$ BEGIN UPDATE app.users SET username = 'x' WHERE id = 1; END $$;;
SELECT * FROM app.users ORDER BY id

--! refusable: code
DO $$ BEGIN EXECUTE 'UPDATE users SET username = ''x'' WHERE id = 1'; END $$;;
SELECT id, username FROM users ORDER BY id

DO $$ BEGIN RAISE NOTICE 'users'; END $$

DO $$ BEGIN PERFORM 'users'::regclass; END $$

--! refusable: code
CREATE FUNCTION made() RETURNS bigint LANGUAGE sql AS 'SELECT count(username) FROM users';;
SELECT made()

--! refusable: code
CREATE FUNCTION made() RETURNS void LANGUAGE sql AS $$ INSERT INTO users VALUES (77, 'x', 'y') $$;;
SELECT made();;
SELECT id, username, email FROM users ORDER BY id

--! refusable: code
CREATE FUNCTION made() RETURNS SETOF users LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT * FROM log; END $$

CREATE FUNCTION made(username text, users int) RETURNS int LANGUAGE sql AS 'SELECT 1';;
SELECT made('x', 1)

CREATE FUNCTION users(a int) RETURNS int LANGUAGE sql AS 'SELECT a';;
SELECT users(1)

--! refusable: code
CREATE FUNCTION made() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(username) FROM users; END;;
SELECT made()

--! refusable: rule
CREATE RULE made AS ON INSERT TO logins DO ALSO INSERT INTO users VALUES (88, new.ip, new.username);;
INSERT INTO logins VALUES ('aa', '2024-02-01', 'bb');;
SELECT username, email FROM users WHERE id = 88

--! refusable: rule
CREATE RULE made AS ON INSERT TO logins DO ALSO INSERT INTO log (message) SELECT row_to_json(users)::text FROM users;;
INSERT INTO logins VALUES ('aa', '2024-02-01', 'bb');;
SELECT message FROM log ORDER BY 1

CREATE RULE made AS ON DELETE TO users DO ALSO INSERT INTO log (message) VALUES (old.id::text);;
DELETE FROM users WHERE id = 1;;
SELECT message FROM log

CREATE RULE made AS ON DELETE TO users DO INSTEAD NOTHING;;
DELETE FROM users WHERE id = 1;;
SELECT count(*) FROM users

--! refusable: row type
CREATE TABLE made (u users, n int);;
INSERT INTO made (n) VALUES (1);;
SELECT * FROM made

SELECT exists(SELECT FROM users WHERE username = 'bob'), NOT EXISTS (SELECT FROM users WHERE username = 'nobody')

SELECT u.id FROM users u CROSS JOIN LATERAL (SELECT FROM users v WHERE v.username = 'bob') w ORDER BY 1

WITH x AS (SELECT FROM users WHERE username > 'c') SELECT count(*) FROM x

--! group: temporary tables

CREATE TEMP TABLE stage (id int, nick text);;
INSERT INTO stage VALUES (1, 'alice'), (2, 'nobody');;
SELECT username, nick FROM users JOIN stage USING (id) ORDER BY 1

CREATE TEMP TABLE stage (sid int, nick text);;
INSERT INTO stage VALUES (1, 'alice'), (2, 'nobody');;
SELECT username, nick FROM users, stage WHERE id = sid AND nick = username ORDER BY 1

CREATE TEMP TABLE stage (sid int, nick text);;
INSERT INTO stage VALUES (1, 'x1'), (2, 'x2');;
UPDATE users SET username = nick, email = username FROM stage WHERE id = sid RETURNING id, username, nick, email

--! shapes: old auto
CREATE TEMP TABLE stage (sid int, handle text);;
INSERT INTO stage VALUES (1, 'x1'), (2, 'x2');;
UPDATE users SET username = handle FROM stage WHERE id = sid RETURNING *

CREATE TEMP TABLE stage (sid int, username text);;
INSERT INTO stage VALUES (1, 'x1'), (2, 'x2');;
UPDATE users SET email = 'q' FROM stage WHERE users.id = sid AND username = 'x1'

--! shapes: old auto
CREATE TEMP TABLE stage (sid int, handle text);;
INSERT INTO stage VALUES (1, 'x1'), (2, 'x2');;
DELETE FROM users USING stage WHERE id = sid AND handle = 'x1' RETURNING users.*, stage.*

--! shapes: old auto
CREATE TEMP TABLE stage (id int, handle text);;
INSERT INTO stage VALUES (1, 'x1'), (2, 'x2');;
MERGE INTO users u USING stage s ON s.id = u.id WHEN MATCHED THEN UPDATE SET username = handle

CREATE TEMP TABLE stage (a bigint, b text, c text);;
INSERT INTO stage VALUES (201, 'x1', 'y1'), (202, 'x2', 'y2');;
ALTER TABLE stage DROP COLUMN b;;
INSERT INTO users TABLE stage RETURNING id, username

CREATE TEMP TABLE stage AS TABLE members;;
UPDATE stage SET id = id + 100, age = id + 500;;
INSERT INTO members TABLE stage RETURNING *

--! shapes: old auto
CREATE TEMP TABLE stage AS SELECT id + 100 AS id, NULL::text AS score, player FROM scores;;
INSERT INTO scores (id, score, player) (TABLE stage) RETURNING *
