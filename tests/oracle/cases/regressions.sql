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
--! except: rolling_back late: the default is on the new column until the column is dropped

INSERT INTO scores (score, player) SELECT NULL, 'x' RETURNING score
--! except: rolling_back late: the default is on the new column until the column is dropped

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
