--# Functions whose results are rows of a table under migration.

--! group: rows of functions
SELECT * FROM users_of_age(30) ORDER BY id

SELECT username FROM users_of_age(30) ORDER BY username

SELECT u.username, u.email FROM public.users_of_age(30) AS u ORDER BY u.id

SELECT handle FROM users_of_age(30)

SELECT u.* FROM users_of_age(30) u WHERE u.username <> 'carol'

SELECT count(*) FROM users_of_age(30)

SELECT count(username), max(users_of_age.username) FROM users_of_age(30)

SELECT t.b, t.a FROM users_of_age(30) AS t(a, b) ORDER BY 1

SELECT * FROM users_of_age(30) WITH ORDINALITY ORDER BY ordinality

SELECT username, ordinality FROM users_of_age(30) WITH ORDINALITY AS t ORDER BY 2

SELECT * FROM users_of_age(30) WITH ORDINALITY AS t(a, b, c) ORDER BY a

SELECT o.id, u.username FROM orders o JOIN one_user(o.user_id) u ON true ORDER BY o.id

SELECT o.id, u.* FROM orders o LEFT JOIN LATERAL one_user(o.user_id) u ON u.username <> 'bob' ORDER BY o.id

SELECT o.id, u.username FROM orders o, one_user(o.user_id) AS u WHERE u.age = o.user_id + 29

SELECT a.username, b.username FROM users_of_age(30) a JOIN users b USING (username) ORDER BY 1

SELECT * FROM users_of_age(30) a NATURAL JOIN users b ORDER BY 1

SELECT to_jsonb(u) FROM users_of_age(30) u ORDER BY u.id

SELECT row_to_json(u.*) FROM one_user(1) u

SELECT u.username FROM users u WHERE EXISTS (SELECT FROM users_of_age(u.age) o WHERE o.username > u.username) ORDER BY 1

--! params: 30
WITH c AS (SELECT users_of_age.* FROM "public"."users_of_age"($1) ) SELECT coalesce(json_agg(c), '[]') FROM c

--! params: 30
SELECT * FROM "public"."users_of_age"($1) AS "_0_root" ORDER BY id LIMIT 1

SELECT username, count(*) FROM users_of_age(30) GROUP BY username ORDER BY 1

SELECT id, username FROM users_of_age(30) GROUP BY id

SELECT ctid FROM users_of_age(30)

SELECT username FROM users_of_age(30) FOR UPDATE

--! shapes: old new
SELECT score, score_int FROM scores_from(1) ORDER BY id

SELECT * FROM scores_from(1) ORDER BY id

SELECT score FROM scores_from(1) WHERE score > '2' ORDER BY score

SELECT age FROM members_from(1) ORDER BY age LIMIT 2

SELECT * FROM members_from(1) ORDER BY id

INSERT INTO users (username, email) SELECT u.username || '2', u.email FROM users_of_age(30) u RETURNING username

UPDATE users SET username = f.username || '!' FROM users_of_age(30) f WHERE f.id = users.id RETURNING users.username

DELETE FROM users USING users_of_age(30) f WHERE f.username = users.username AND users.id = 1 RETURNING users.username

--! refusable: nothing lasts while old storage is on its way out
CREATE TEMP VIEW elders AS SELECT * FROM users_of_age(30);;
SELECT * FROM elders ORDER BY id

CREATE TEMP TABLE elders AS SELECT * FROM users_of_age(30);;
SELECT * FROM elders ORDER BY id

--! refusable: a row as a value
SELECT one_user(1)

--! refusable: a row as a value
SELECT (one_user(1)).username

--! refusable: a row as a value
SELECT (one_user(1)).*

--! refusable: a row as a value
SELECT to_jsonb(one_user(1))

--! refusable: a row as a value
SELECT * FROM ROWS FROM (one_user(1), generate_series(1, 2)) AS t

--! refusable: the row of an inline view is a record
SELECT x FROM users, mails_of(users) f(x) ORDER BY 1

--! refusable: the row of an inline view is a record
SELECT username, mails_of(u) FROM users u ORDER BY 1

--! refusable: another function of that name gives something else
SELECT username FROM some_user()

--! refusable: another function of that name gives something else
SELECT some_user(3)

SELECT users_of_age FROM (SELECT 1 AS users_of_age) x

SELECT 'users_of_age(30)'

COMMENT ON FUNCTION users_of_age(integer) IS 'those of that age';;
DROP FUNCTION users_of_age(integer)

--! refusable: its code takes columns by place
CREATE OR REPLACE FUNCTION users_of_age(integer) RETURNS SETOF users LANGUAGE sql AS 'SELECT * FROM users WHERE age < $1';;
SELECT username FROM users_of_age(30) ORDER BY 1

CREATE FUNCTION elders(integer) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users_of_age($1)';;
SELECT elders(30)

PREPARE elders AS SELECT * FROM users_of_age($1) ORDER BY id;;
EXECUTE elders(30);;
EXECUTE elders(25)

DECLARE c CURSOR FOR SELECT u.* FROM users_of_age(30) u ORDER BY id;;
FETCH ALL FROM c

COPY (SELECT * FROM users_of_age(30) ORDER BY id) TO STDOUT

--! tag-only
EXPLAIN (COSTS off) SELECT username FROM users_of_age(30)

--! group: the row type in another table
--! refusable: values would have the columns that are stored
CREATE TABLE notes (id int, author users);;
INSERT INTO notes SELECT 1, u FROM users u WHERE id = 1;;
SELECT * FROM notes

--! refusable: values would have the columns that are stored
CREATE TEMP TABLE notes (id int, authors public.users[], users int);;
SELECT * FROM notes

--! refusable: values would have the columns that are stored
CREATE TYPE pair AS (one users, other users)

--! refusable: values would have the columns that are stored
ALTER TABLE orders ADD COLUMN author users

CREATE TABLE notes (users int, author text DEFAULT 'users', CONSTRAINT users CHECK (users > 1));;
INSERT INTO notes VALUES (2);;
SELECT * FROM notes

--! refusable: it would have the columns that are stored
CREATE TABLE notes (LIKE users);;
INSERT INTO notes SELECT * FROM users;;
SELECT * FROM notes ORDER BY 1

--! refusable: it would have the columns that are stored
CREATE TEMP TABLE notes (more int) INHERITS (members);;
SELECT * FROM notes

--! refusable: it would fire behind the sync trigger
CREATE TRIGGER "~late" BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION public.as_it_is();;
UPDATE users SET age = age

CREATE TRIGGER early BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION public.as_it_is();;
UPDATE users SET age = age

--! refusable: values would have the columns that are stored
CREATE DOMAIN one_row AS users

--! refusable: values would have the columns that are stored
CREATE TYPE pair AS (id int);;
ALTER TYPE pair ADD ATTRIBUTE one users
