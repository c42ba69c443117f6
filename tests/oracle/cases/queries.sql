--! group: ctes
WITH u AS (SELECT * FROM users) SELECT * FROM u ORDER BY id

WITH u AS (SELECT * FROM users) SELECT username FROM u ORDER BY id

WITH u AS (SELECT * FROM users) SELECT handle FROM u ORDER BY id
--! auto: old

WITH u AS (SELECT id, username FROM users) SELECT * FROM u ORDER BY id

WITH u (a, b) AS (SELECT id, username FROM users) SELECT b FROM u ORDER BY a

WITH u (handle) AS (SELECT username FROM users) SELECT handle FROM u ORDER BY 1

WITH users AS (SELECT 1 AS id, 'cte' AS username) SELECT * FROM users

WITH users AS (SELECT 1 AS id, 'cte' AS handle) SELECT handle FROM users

WITH users AS (SELECT * FROM users WHERE id < 3) SELECT * FROM users ORDER BY id

WITH users AS (SELECT * FROM public.users WHERE id < 3) SELECT username FROM users ORDER BY id

WITH users AS (SELECT id, username AS handle FROM users) SELECT handle FROM users ORDER BY id

WITH users AS (SELECT 1 AS id, 'cte' AS username) SELECT p.username, c.username FROM public.users p JOIN users c USING (id)

WITH a AS (SELECT username FROM users), b AS (SELECT * FROM a) SELECT * FROM b ORDER BY 1

WITH a AS MATERIALIZED (SELECT username FROM users) SELECT a.username FROM a ORDER BY 1

WITH a AS NOT MATERIALIZED (SELECT handle FROM users) SELECT a.handle FROM a ORDER BY 1

WITH RECURSIVE t (n, name) AS (SELECT 1, username::text FROM users WHERE id = 1 UNION ALL SELECT n + 1, u.username::text FROM t JOIN users u ON u.id = t.n + 1 WHERE n < 4) SELECT * FROM t ORDER BY n

WITH RECURSIVE users AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM users WHERE n < 3) SELECT * FROM users ORDER BY n

WITH RECURSIVE a AS (SELECT * FROM users), users AS (SELECT 5 AS id) SELECT count(*) FROM a

WITH a AS (SELECT * FROM users), users AS (SELECT 5 AS id) SELECT a.username, users.id FROM a, users ORDER BY 1

SELECT * FROM (WITH users AS (SELECT 2 AS x) SELECT x FROM users) s, users u WHERE u.id = s.x

SELECT (WITH users AS (SELECT 'in' AS username) SELECT username FROM users), username FROM users ORDER BY id

WITH o AS (SELECT user_id, sum(amount) AS s FROM orders GROUP BY user_id) SELECT u.username, o.s FROM users u LEFT JOIN o ON o.user_id = u.id ORDER BY u.id

WITH x AS (INSERT INTO log (message) SELECT username FROM users WHERE id < 3 RETURNING message) SELECT * FROM x ORDER BY 1

WITH x AS (UPDATE users SET age = 1 WHERE username = 'alice' RETURNING id, username) SELECT * FROM x

WITH x AS (UPDATE users SET username = 'zed' WHERE id = 1 RETURNING *) SELECT * FROM x

WITH x AS (UPDATE users SET handle = 'zed' WHERE id = 1 RETURNING handle) SELECT x.handle FROM x

WITH x AS (DELETE FROM users WHERE id = 5 RETURNING *) SELECT username, age FROM x

WITH x AS (INSERT INTO users (username) VALUES ('new1') RETURNING id, username) INSERT INTO log (message) SELECT username || id FROM x RETURNING message

WITH x AS (INSERT INTO users (handle) VALUES ('new1') RETURNING id, handle) INSERT INTO log (message) SELECT handle || id FROM x RETURNING message

WITH gone AS (DELETE FROM orders RETURNING user_id) UPDATE users SET age = 0 FROM gone WHERE users.id = gone.user_id RETURNING username

WITH src AS (SELECT id, username FROM users WHERE id = 2) UPDATE users SET username = src.username || '2' FROM src WHERE users.id = src.id RETURNING users.username

WITH s AS (SELECT 'w1' AS n) INSERT INTO users (username) SELECT n FROM s RETURNING username

WITH s AS (SELECT 3 AS n) DELETE FROM users USING s WHERE id = s.n RETURNING username

WITH RECURSIVE t AS (SELECT id, username, 1 AS d FROM users WHERE id = 1 UNION ALL SELECT u.id, u.username, d + 1 FROM users u JOIN t ON u.id = t.id + 1 WHERE d < 3) SEARCH DEPTH FIRST BY id SET ord SELECT id, username, d FROM t ORDER BY id

--! group: set operations
SELECT username FROM users UNION SELECT username FROM orders ORDER BY 1

SELECT username FROM users UNION ALL SELECT handle FROM orders ORDER BY username

SELECT handle FROM users UNION SELECT handle FROM orders ORDER BY handle

SELECT username FROM users INTERSECT SELECT username FROM logins

SELECT username FROM users EXCEPT SELECT username FROM logins ORDER BY username

SELECT * FROM users WHERE id = 1 UNION ALL SELECT * FROM users WHERE id = 2 ORDER BY id

(SELECT username FROM users ORDER BY id LIMIT 1) UNION ALL (SELECT username FROM users ORDER BY id DESC LIMIT 1)

SELECT id, username FROM users UNION SELECT id, username FROM app.users ORDER BY 1, 2

SELECT 'x' AS username UNION SELECT username FROM users ORDER BY username

SELECT NULL AS a UNION SELECT username FROM users ORDER BY 1

TABLE users UNION ALL TABLE users ORDER BY id

SELECT username FROM users UNION SELECT email FROM users ORDER BY username NULLS FIRST

VALUES ('q') UNION SELECT username FROM users ORDER BY column1

SELECT username, 1 FROM users WHERE id = 1 UNION (SELECT handle, 2 FROM orders EXCEPT SELECT username, 2 FROM users) ORDER BY 2, 1

--! group: grouping
SELECT age, count(*) FROM users GROUP BY age ORDER BY age

SELECT username, count(*) FROM users GROUP BY username ORDER BY username

SELECT handle, count(*) FROM users GROUP BY handle ORDER BY handle

SELECT id, username, email FROM users GROUP BY id ORDER BY id

SELECT id, handle, email FROM users GROUP BY id ORDER BY id

SELECT u.id, u.username, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY u.id

SELECT u.*, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY u.id

SELECT u.username, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id HAVING count(o.id) > 0 ORDER BY count(o.id) DESC, u.username

SELECT u.username, sum(o.amount) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.username ORDER BY 2 DESC

SELECT users.username FROM users GROUP BY users.id ORDER BY users.email NULLS FIRST, 1

SELECT lower(username) AS l, count(*) FROM users GROUP BY l ORDER BY l

SELECT lower(username) AS username, count(*) FROM users GROUP BY username ORDER BY 1

SELECT length(username) AS n, array_agg(username ORDER BY username) FROM users GROUP BY 1 ORDER BY 1

SELECT length(handle) AS n, array_agg(handle ORDER BY handle) FROM users GROUP BY length(handle) ORDER BY 1

SELECT age AS username, count(*) FROM users GROUP BY age ORDER BY username

SELECT age AS handle, count(*) FROM users GROUP BY handle ORDER BY 1

SELECT email AS handle, count(*) FROM users GROUP BY handle ORDER BY 1

SELECT age, username FROM users GROUP BY age

SELECT id, username FROM users GROUP BY age

SELECT age, username, count(*) FROM users GROUP BY ROLLUP (age, username) ORDER BY age, username

SELECT age, username, grouping(age, username) FROM users GROUP BY CUBE (age, username) ORDER BY 3, age, username

SELECT username, count(*) FROM users GROUP BY GROUPING SETS ((username), ()) ORDER BY 1

SELECT count(DISTINCT username), min(username), max(username) FROM users

SELECT string_agg(username, ',' ORDER BY username DESC) FROM users WHERE age IS NOT NULL

SELECT string_agg(handle, ',' ORDER BY handle DESC) FILTER (WHERE handle < 'd') FROM users

SELECT bool_and(username <> ''), percentile_disc(0.5) WITHIN GROUP (ORDER BY username) FROM users

SELECT age, max(username) FILTER (WHERE id > 2) FROM users GROUP BY age ORDER BY age

SELECT count(*) FROM users HAVING count(*) > 1

SELECT json_object_agg(username, id ORDER BY id) FROM users

SELECT jsonb_agg(jsonb_build_object('username', username) ORDER BY id) FROM users

SELECT DISTINCT ON (age) age, username FROM users ORDER BY age, username

SELECT DISTINCT ON (age) username FROM users ORDER BY age, id DESC

SELECT DISTINCT ON (username) username, ip FROM logins ORDER BY username, ip DESC

SELECT DISTINCT ON (u.username) u.username, l.ip FROM users u JOIN logins l USING (username) ORDER BY u.username, l.ip DESC

SELECT DISTINCT ON (lower(handle)) handle FROM users ORDER BY lower(handle)

--! group: windows
SELECT username, row_number() OVER (ORDER BY username) FROM users ORDER BY 2

SELECT username, rank() OVER (PARTITION BY age ORDER BY username) FROM users ORDER BY id

SELECT handle, lag(handle) OVER w, first_value(handle) OVER w FROM users WINDOW w AS (ORDER BY id) ORDER BY id

SELECT username, count(*) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW) FROM users ORDER BY id

SELECT u.*, sum(age) OVER (PARTITION BY length(username)) FROM users u ORDER BY id

SELECT age, sum(count(*)) OVER (ORDER BY age) FROM users GROUP BY age ORDER BY age

SELECT max(username) OVER (PARTITION BY age) AS username FROM users ORDER BY username, id

--! group: locking
SELECT * FROM users WHERE id = 1 FOR UPDATE

SELECT username FROM users WHERE id = 1 FOR UPDATE

SELECT handle FROM users WHERE id = 1 FOR NO KEY UPDATE

SELECT username FROM users WHERE username = 'alice' FOR SHARE

SELECT u.username FROM users u WHERE id = 1 FOR UPDATE OF u

SELECT users.handle FROM users WHERE id = 1 FOR KEY SHARE OF users

SELECT u.*, o.id FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 1 ORDER BY o.id FOR UPDATE OF u SKIP LOCKED

SELECT u.username FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 1 FOR UPDATE OF o NOWAIT

SELECT username FROM users ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED

SELECT * FROM users WHERE id = (SELECT id FROM users ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)

SELECT u.username FROM users u LEFT JOIN orders o ON o.user_id = u.id FOR UPDATE

SELECT count(*) FROM users FOR UPDATE

SELECT username FROM users GROUP BY username FOR UPDATE

SELECT username FROM users FOR UPDATE OF nothing

UPDATE users SET age = age + 1 WHERE id = (SELECT id FROM users WHERE username > 'b' ORDER BY username LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, username

--! group: explain
EXPLAIN (COSTS OFF) SELECT username FROM users
--! tag-only

EXPLAIN SELECT * FROM users WHERE handle = 'x'
--! tag-only

EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM users WHERE username = 'x'
--! tag-only

EXPLAIN UPDATE users SET username = 'x' WHERE id = 1
--! tag-only

EXPLAIN ANALYZE INSERT INTO users (username) VALUES ('ex')
--! tag-only

EXPLAIN VERBOSE DELETE FROM users WHERE handle = 'bob'
--! tag-only

--! group: made from a query
CREATE TEMP TABLE made AS SELECT * FROM users;;
SELECT * FROM made ORDER BY id

CREATE TABLE made AS SELECT id, username FROM users;;
SELECT * FROM made ORDER BY id

CREATE TABLE made AS SELECT handle FROM users WITH DATA;;
SELECT handle FROM made ORDER BY 1

CREATE TABLE made (a, b) AS SELECT id, username FROM users;;
SELECT a, b FROM made ORDER BY a

CREATE TABLE made AS TABLE users;;
SELECT * FROM made ORDER BY id

CREATE TABLE made AS SELECT username FROM users WITH NO DATA;;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'made'::regclass AND attnum > 0 ORDER BY attnum

SELECT id, username INTO TEMP made FROM users WHERE id < 3;;
SELECT * FROM made ORDER BY id

SELECT * INTO made FROM users;;
SELECT * FROM made ORDER BY id

CREATE MATERIALIZED VIEW made AS SELECT count(*) FROM users;;
SELECT * FROM made
--! refusable: a view binds to the storage

CREATE VIEW made AS SELECT id, username FROM users;;
SELECT * FROM made ORDER BY id
--! refusable: a view binds to the storage

CREATE VIEW made AS SELECT id, age FROM users;;
SELECT * FROM made ORDER BY id
--! refusable: a view binds to the storage

CREATE TEMP VIEW made AS SELECT * FROM users;;
SELECT * FROM made ORDER BY id
--! refusable: a view binds to the storage

CREATE TEMP TABLE users (id int, username text, handle text);;
INSERT INTO users VALUES (1, 'temp', 'h');;
SELECT * FROM users;;
SELECT username, handle FROM users;;
SELECT username FROM pg_temp.users

CREATE TEMP TABLE users AS SELECT 1 AS x;;
SELECT * FROM users;;
SELECT username FROM public.users ORDER BY id

CREATE TEMP TABLE users (id int, username text);;
UPDATE users SET username = 'x';;
SELECT username FROM users;;
DROP TABLE users;;
SELECT username FROM users ORDER BY id;;
UPDATE users SET username = 'xx' WHERE id = 1

CREATE TEMP VIEW users AS SELECT 'v'::text AS username;;
SELECT * FROM users

--! group: search path
SET LOCAL search_path = app;;
SELECT * FROM users ORDER BY id;;
SELECT username, handle FROM users ORDER BY id;;
SELECT username FROM public.users ORDER BY id

SET search_path = app, public;;
SELECT * FROM users ORDER BY id;;
UPDATE users SET username = 'x' WHERE id = 1;;
SELECT o.handle FROM orders o ORDER BY id

SET search_path = public, app;;
SELECT * FROM users ORDER BY id;;
SELECT handle FROM app.users ORDER BY id

SELECT set_config('search_path', 'app', true);;
SELECT handle FROM users ORDER BY id;;
RESET search_path;;
SELECT username FROM users ORDER BY id

SAVEPOINT s;;
SET LOCAL search_path = app;;
SELECT handle FROM users ORDER BY id;;
ROLLBACK TO s;;
SELECT username FROM users ORDER BY id

SET search_path = '';;
SELECT username FROM public.users ORDER BY id;;
SELECT username FROM users

SET search_path = app;;
SELECT o.id FROM public.orders o WHERE EXISTS (SELECT 1 FROM public.users u WHERE u.username = o.username) ORDER BY 1

--! group: cursors
DECLARE c CURSOR FOR SELECT * FROM users ORDER BY id;;
FETCH 2 FROM c;;
FETCH ALL FROM c;;
CLOSE c

DECLARE c SCROLL CURSOR FOR SELECT username FROM users ORDER BY id;;
FETCH LAST FROM c;;
FETCH PRIOR FROM c;;
MOVE FIRST IN c;;
FETCH RELATIVE 1 FROM c

DECLARE users CURSOR FOR SELECT handle FROM users ORDER BY id;;
FETCH NEXT FROM users;;
CLOSE users

DECLARE c CURSOR FOR SELECT * FROM users FOR UPDATE;;
FETCH 1 FROM c;;
UPDATE users SET username = 'current' WHERE CURRENT OF c

DECLARE c CURSOR FOR SELECT id FROM users WHERE username = 'bob' FOR UPDATE;;
FETCH 1 FROM c;;
DELETE FROM users WHERE CURRENT OF c

DECLARE c BINARY CURSOR WITH HOLD FOR SELECT id FROM users WHERE username = 'bob';;
FETCH 1 FROM c;;
CLOSE c

--! group: prepared in sql
PREPARE p AS SELECT username FROM users WHERE id = $1;;
EXECUTE p(1);;
EXECUTE p(2);;
DEALLOCATE p

PREPARE p (bigint) AS SELECT * FROM users WHERE id = $1;;
EXECUTE p(1)

PREPARE users AS SELECT handle FROM users ORDER BY id;;
EXECUTE users

PREPARE p (text, bigint) AS UPDATE users SET username = $1 WHERE id = $2;;
EXECUTE p('prepped', 1);;
SELECT username FROM users ORDER BY id

PREPARE p AS INSERT INTO users (username, email) VALUES ($1, $2) RETURNING id, username;;
EXECUTE p('prepped', 'e');;
EXECUTE p('prepped2', NULL)

PREPARE p AS DELETE FROM users WHERE username = $1;;
EXECUTE p('bob')

PREPARE p AS SELECT id FROM users WHERE username = $1 OR handle = $1
--! auto: PREPARE p AS SELECT 1

CREATE TABLE made AS SELECT 1 AS id;;
PREPARE p AS SELECT username FROM users WHERE id = $1;;
CREATE TEMP TABLE t2 AS EXECUTE p(1);;
SELECT * FROM t2

--! group: several statements
SELECT username FROM users WHERE id = 1; SELECT handle FROM orders WHERE id = 1; SELECT 1
--! simple

UPDATE users SET username = 'm' WHERE id = 1; SELECT username FROM users WHERE id = 1; SELECT * FROM users ORDER BY id
--! simple

INSERT INTO users (username) VALUES ('m1'); INSERT INTO users (username) VALUES ('m2'); SELECT count(*) FROM users;
--! simple

; SELECT username FROM users WHERE id = 1;;
;
--! simple

SELECT username FROM users WHERE id = 1;

SELECT handle FROM users WHERE id = 1; SELECT username FROM users WHERE id = 1
--! simple
--! auto: SELECT username::varchar(100) AS handle FROM users WHERE id = 1; SELECT username FROM users WHERE id = 1

/* users */ SELECT 1

-- SELECT username FROM users

--! group: errors
SELECT nope FROM users

SELECT u.nope FROM users u

SELECT username, nope FROM users

SELECT handle, nope FROM users

SELECT x.username FROM users u

SELECT users.username FROM users u
--! state-only: the server cannot know that the view stands for a table

SELECT handle FROM users u JOIN app.users a ON a.id = u.id JOIN orders o ON true

SELECT username FROM users u, app.users a

SELECT id FROM users u, orders o

SELECT username FROM nosuch.users

SELECT username FROM users WHERE username = 1

SELECT handle FROM users WHERE handle = 1

SELECT username + 1 FROM users

SELECT age + username FROM users

SELECT lower(age) FROM users

SELECT username FROM users ORDER BY 5

SELECT sum(username) FROM users

SELECT username::integer FROM users WHERE id = 1

SELECT handle::integer FROM users WHERE id = 1

SELECT 1/0, username FROM users

SELECT username FROM users WHERE
--! state-only: our reader's own words

SELECT username FROM users GROUP BY nope

SELEC username FROM users
--! state-only: our reader's own words

SELECT username FROM users WHERE id = 'abc'

SELECT max(username) FROM users WHERE max(id) = 1

SELECT users.nope.x FROM users

SELECT "Handle" FROM users

SELECT DISTINCT username FROM users ORDER BY id

SELECT u.username FROM users u, users u

SELECT * FROM users JOIN orders USING (nope)

SELECT * FROM users JOIN orders USING (handle)
--! refusable: a star over USING of the other shape
--! auto: old

SELECT * FROM logins JOIN orders USING (handle)

UPDATE users SET nope = 1

UPDATE users SET username = nope

UPDATE users SET handle = username
--! auto: UPDATE users SET username = username

INSERT INTO users (nope) VALUES (1)

INSERT INTO users (username, username) VALUES ('a', 'b')

INSERT INTO users (username) VALUES ('a', 'b')

INSERT INTO users (username, email) VALUES ('a')

INSERT INTO users (username) VALUES (NULL)

INSERT INTO users (handle) VALUES (NULL)

INSERT INTO users (email) VALUES ('no name')

INSERT INTO users (username) VALUES ('alice')

INSERT INTO users (handle) VALUES ('alice')

INSERT INTO users (username, age) VALUES ('neg', -1)

INSERT INTO users VALUES (1, 'dup')

UPDATE users SET username = 'alice' WHERE id = 2

UPDATE users SET handle = 'alice' WHERE id = 2

UPDATE users SET username = NULL WHERE id = 2

UPDATE users SET handle = NULL WHERE id = 2

UPDATE users SET username = 'a', username = 'b'

UPDATE users u SET users.username = 'a'

UPDATE users SET username = repeat('x', 300) WHERE id = 1
--! phases: before ramping

INSERT INTO users (username) VALUES (repeat('x', 300))
--! phases: before ramping
--! shapes: old auto

UPDATE users SET handle = repeat('x', 150) WHERE id = 1

INSERT INTO users (handle) VALUES (repeat('x', 150))

UPDATE users SET username = repeat('x', 150) WHERE id = 1
--! phases: before ramping

DELETE FROM users WHERE nope = 1

DELETE FROM users u WHERE users.id = 1

--! group: output names
SELECT (CASE WHEN username = 'bob' THEN 1 ELSE 0 END)::varchar(20), CAST(CASE WHEN id = 1 THEN 1 END AS double precision), (CASE id WHEN 1 THEN 'a' ELSE 'b' END COLLATE "C")::text FROM users ORDER BY 1, 2, 3

SELECT ((CASE WHEN username = 'bob' THEN 1 ELSE 0 END)::int)::timestamp IS NULL, CASE WHEN true THEN 1 ELSE 2::bigint END, (CASE WHEN true THEN 1 ELSE id END)::text, (CASE WHEN true THEN username ELSE 'x'::text END)::character varying(7)[] IS NULL FROM users WHERE false

INSERT INTO users (username) VALUES ('n') RETURNING (CASE WHEN username = 'n' THEN 1 ELSE 0 END)::numeric(5, 2), (CASE WHEN true THEN 'b' ELSE 'a' END)::pg_catalog."char"
