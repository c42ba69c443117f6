--! group: insert
INSERT INTO users (username) VALUES ('n1')

INSERT INTO users (handle) VALUES ('n1')

INSERT INTO users (id, username, email) VALUES (50, 'n1', 'e1')

INSERT INTO users (email, handle, age) VALUES ('e1', 'n1', 5)

INSERT INTO users (username, handle) VALUES ('n1', 'n1')
--! auto: INSERT INTO users (username) VALUES ('n1')
--! refusable: both names of one value

INSERT INTO public.users (username) VALUES ('n1'), ('n2'), ('n3')

INSERT INTO users (username, email) VALUES ('n1', NULL), ('n2', DEFAULT)

INSERT INTO users AS u (username) VALUES ('n1') RETURNING u.id, u.username

INSERT INTO users AS u (handle) VALUES ('n1') RETURNING u.id, u.handle

INSERT INTO users VALUES (50, 'n1')

INSERT INTO users VALUES (50, 'n1', 'e', 3, '{}', '{a}', '2024-01-01')

INSERT INTO users VALUES (50, 'n1', 'e', 3, '{}', '{a}', '2024-01-01', 'too many')

INSERT INTO users VALUES (DEFAULT, 'n1', DEFAULT), (DEFAULT, 'n2', 'e')

INSERT INTO users DEFAULT VALUES

INSERT INTO log DEFAULT VALUES

INSERT INTO users (id, username) OVERRIDING SYSTEM VALUE VALUES (60, 'n1')

INSERT INTO users (id, username) OVERRIDING USER VALUE VALUES (60, 'n1') RETURNING id

INSERT INTO users (username) VALUES ('n1') RETURNING *

INSERT INTO users (handle) VALUES ('n1') RETURNING *
--! auto: INSERT INTO users (username) VALUES ('n1') RETURNING *

INSERT INTO users (username) VALUES ('n1') RETURNING id, username AS u, upper(username), users.username

INSERT INTO users (handle) VALUES ('n1') RETURNING handle, upper(handle)

INSERT INTO users (username) VALUES ('n1') RETURNING users

INSERT INTO users (username) VALUES ('n1') RETURNING users.*, 1

INSERT INTO users (username) VALUES ('n1') RETURNING handle
--! auto: INSERT INTO users (username) VALUES ('n1') RETURNING username::varchar(100) AS handle

INSERT INTO users (username) VALUES ('n1') RETURNING (SELECT count(*) FROM users), (SELECT max(username) FROM users)

INSERT INTO users (username) VALUES ('n1') RETURNING row_to_json(users)

INSERT INTO users (username) VALUES ('n' || 1)

INSERT INTO users (username) VALUES (lower('N1')), (upper('n2'))

INSERT INTO users (username) VALUES ('v' || nextval('probe'))

INSERT INTO users (handle) VALUES ('v' || nextval('probe')) RETURNING handle
--! refusable in expanded

INSERT INTO users (username) VALUES ('v' || nextval('probe')), ('w'), ('x' || nextval('probe')) RETURNING username

INSERT INTO users (id, username) VALUES (nextval('probe'), shout('abc')) RETURNING id, username

INSERT INTO users (username) VALUES ((SELECT 'n' || count(*) FROM users))

INSERT INTO users (username) VALUES ((SELECT username || '2' FROM users WHERE id = 1)) RETURNING username

INSERT INTO users (username) VALUES (1)

INSERT INTO users (username) VALUES (1.50)

INSERT INTO users (username) VALUES (true)

INSERT INTO users (username) VALUES (now() - now())

INSERT INTO users (username) VALUES ('12'::char(5))

INSERT INTO users (username, age) VALUES ('n1', '7')

INSERT INTO users (username, created_at) VALUES ('n1', '2024-02-03') RETURNING created_at

INSERT INTO users (username, tags, bio) VALUES ('n1', ARRAY['a'], '{"a": 1}')

INSERT INTO users (username, tags[1]) VALUES ('n1', 'x') RETURNING tags

INSERT INTO users (username) VALUES (E'tab\there'), (U&'\0061x'), ($$dollar$$), ('a' 
 'b')

INSERT INTO users (username) VALUES ($1)
--! params: p1

INSERT INTO users (handle) VALUES ($1) RETURNING id, handle
--! params: p1

INSERT INTO users (username, email) VALUES ($1, $1)
--! params: p1

INSERT INTO users (username, email, age) VALUES ($1, $2, $3), ($4, $5, $6) RETURNING id
--! params: p1 | e1 | 1 | p2 | NULL | NULL

INSERT INTO users (username) VALUES ($1 || 'x')
--! params: p1

INSERT INTO users (username) VALUES (lower($1))
--! params: P1

INSERT INTO users (username) VALUES ($1::text)
--! params: p1

INSERT INTO users (username) VALUES ($1::varchar(2))
--! params: p123

INSERT INTO users (username) VALUES (coalesce($1, 'anon'))
--! params: NULL

INSERT INTO users VALUES ($1, $2, $3)
--! params: 70 | p1 | e1

INSERT INTO users (username) VALUES ($1)
--! params: alice

INSERT INTO users (username) VALUES ($1)
--! params: NULL

INSERT INTO users (username, age) VALUES ('n1', $1)
--! params: abc

--! group: insert select
INSERT INTO users (username) SELECT 'n1'

INSERT INTO users (username, email) SELECT 's' || id, NULL FROM generate_series(1, 3) id

INSERT INTO users (username) SELECT username || '_copy' FROM users ORDER BY id

INSERT INTO users (handle) SELECT handle || '_copy' FROM users ORDER BY id
--! refusable in expanded

INSERT INTO users (username) SELECT username || '_copy' FROM users ORDER BY username DESC LIMIT 2 RETURNING username

INSERT INTO users (username) SELECT username || nextval('probe') FROM users

INSERT INTO users (username) SELECT DISTINCT handle || '!' FROM orders WHERE handle IS NOT NULL

INSERT INTO users (username, age) SELECT u.username || o.id, u.age FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id

INSERT INTO users SELECT id + 200, username || '2', email || '2' FROM users

INSERT INTO users SELECT * FROM (SELECT id + 200, username || '2' FROM users) s
--! refusable in expanded

INSERT INTO users SELECT id + 200, 'x' || username FROM app.users

INSERT INTO users (id, username, email, age, bio, tags, created_at) SELECT id + 200, username || '2', email || '2', age, bio, tags, created_at FROM users

INSERT INTO users (username) SELECT 'u' UNION ALL SELECT 'v' UNION ALL SELECT handle || 'w' FROM orders WHERE id = 1

INSERT INTO users (username) TABLE logins

INSERT INTO users (username) (SELECT 'n1')

INSERT INTO users (username) VALUES ('n1') UNION VALUES ('n2')

INSERT INTO users (username) SELECT * FROM unnest(ARRAY['u1', 'u2'])

INSERT INTO users (username, email) SELECT * FROM UNNEST(($1)::varchar[], ($2)::text[]) RETURNING id, username
--! params: {u1,u2} | {e1,e2}

INSERT INTO users (username, email) SELECT $1::varchar, $2 WHERE NOT EXISTS (SELECT 1 FROM users WHERE username = $1)
--! params: s1 | e1

INSERT INTO users (username) SELECT $1
--! params: s1

INSERT INTO users (username) WITH a AS (SELECT 'cte' AS n) SELECT n FROM a

INSERT INTO log (message) SELECT username FROM users ORDER BY id

INSERT INTO log (message) SELECT handle FROM users ORDER BY id

INSERT INTO orders (username, handle) SELECT username, email FROM users RETURNING *

INSERT INTO orders (username, handle) VALUES ('a', 'b') RETURNING username, handle

INSERT INTO app.users (id, username, handle) SELECT id + 100, username, 'h' FROM users

INSERT INTO app.users (id, username, handle) VALUES (9, 'u', 'h') RETURNING *

INSERT INTO log (message) VALUES ((SELECT username FROM users WHERE id = 1)), ('INSERT INTO users')

--! group: on conflict
INSERT INTO users (username) VALUES ('alice') ON CONFLICT DO NOTHING

INSERT INTO users (username) VALUES ('alice'), ('n1') ON CONFLICT DO NOTHING RETURNING id, username

INSERT INTO users (username) VALUES ('alice') ON CONFLICT (username) DO NOTHING

INSERT INTO users (handle) VALUES ('alice') ON CONFLICT (handle) DO NOTHING

INSERT INTO users (username, age) VALUES ('alice', 99) ON CONFLICT (username) DO UPDATE SET age = excluded.age

INSERT INTO users (handle, age) VALUES ('alice', 99) ON CONFLICT (handle) DO UPDATE SET age = excluded.age RETURNING handle, age

INSERT INTO users (username, age) VALUES ('alice', 99) ON CONFLICT (username) DO UPDATE SET age = users.age + EXCLUDED.age RETURNING *

INSERT INTO users (id, username) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET username = excluded.username

INSERT INTO users (id, handle) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET handle = excluded.handle RETURNING id, handle

INSERT INTO users (id, username) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET username = excluded.username || users.username RETURNING username

INSERT INTO users (id, username) VALUES (1, 'r1'), (90, 'r2') ON CONFLICT (id) DO UPDATE SET username = EXCLUDED.username, email = EXCLUDED.username RETURNING id, username, email

INSERT INTO users (id, username) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET (username, age) = (excluded.username, 5)

INSERT INTO users (id, username) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET username = 'lit' WHERE users.username = 'alice'

INSERT INTO users (id, username) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET age = 1 WHERE excluded.username <> users.username RETURNING id

INSERT INTO users (id, handle) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET age = 1 WHERE excluded.handle <> users.handle RETURNING id

INSERT INTO users AS u (id, username) VALUES (1, 'renamed') ON CONFLICT (id) DO UPDATE SET username = u.username || excluded.username RETURNING u.username

INSERT INTO users (username, age) VALUES ('ALICE', 7) ON CONFLICT (lower(username)) DO UPDATE SET age = 7

INSERT INTO users (handle, age) VALUES ('ALICE', 7) ON CONFLICT (lower(handle)) DO UPDATE SET age = 7

INSERT INTO users (username, age) VALUES ('alice', 7) ON CONFLICT ON CONSTRAINT users_username_key DO UPDATE SET age = 7

INSERT INTO users (username, age) VALUES ('alice', 7) ON CONFLICT ON CONSTRAINT users_username_key DO NOTHING

INSERT INTO users (handle, age) VALUES ('alice', 7) ON CONFLICT ON CONSTRAINT users_username_key DO NOTHING

INSERT INTO users (username, email) VALUES ('n1', 'alice@example.org') ON CONFLICT (email) WHERE email IS NOT NULL DO UPDATE SET username = excluded.username RETURNING id, username

INSERT INTO users (username) VALUES ('alice') ON CONFLICT (email) DO NOTHING

INSERT INTO users (username) VALUES ('alice') ON CONFLICT (nope) DO NOTHING

INSERT INTO users (username) VALUES ('alice'), ('n1') ON CONFLICT (username) DO UPDATE SET username = 'up' || nextval('probe') RETURNING username

INSERT INTO users (username) VALUES ('v' || nextval('probe')) ON CONFLICT (username) DO NOTHING

INSERT INTO users (username) SELECT username FROM logins ON CONFLICT DO NOTHING

INSERT INTO users (username) SELECT DISTINCT username FROM logins ON CONFLICT (username) DO UPDATE SET age = 3 RETURNING username, age

INSERT INTO users (id, username) VALUES (1, 'n1') ON CONFLICT (id) DO UPDATE SET username = (SELECT username || '9' FROM users WHERE id = 2)

INSERT INTO users (id, username) VALUES (1, 'n1') ON CONFLICT (id) DO UPDATE SET username = DEFAULT

INSERT INTO users (username, email) VALUES ($1, $2) ON CONFLICT (username) DO UPDATE SET email = excluded.email RETURNING id
--! params: alice | new@e

INSERT INTO users (id, username) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET username = $2
--! params: 1 | pz

INSERT INTO users (username, age) VALUES ('alice', 1) ON CONFLICT (username) DO UPDATE SET age = 1 WHERE username = 'alice'

INSERT INTO users (username, age) VALUES ('alice', 1) ON CONFLICT (username COLLATE "default") DO NOTHING

INSERT INTO users (username, age) VALUES ('alice', 1) ON CONFLICT (username) DO UPDATE SET age = 1 WHERE handle = 'x'
--! auto: INSERT INTO users (username, age) VALUES ('alice', 1) ON CONFLICT (username) DO UPDATE SET age = 1 WHERE users.username = 'x'
--! refusable: not a plain name of the shape

INSERT INTO app.users (id, username) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET handle = excluded.username

--! group: update
UPDATE users SET username = 'x' WHERE id = 1

UPDATE users SET handle = 'x' WHERE id = 1

UPDATE users SET age = 1

UPDATE users SET age = age + 1 WHERE username = 'alice'

UPDATE users SET age = age + 1 WHERE handle = 'alice' RETURNING handle

UPDATE users SET username = username || 'x'

UPDATE users SET handle = handle || 'x'

UPDATE users SET username = username

UPDATE users SET handle = handle WHERE id = 1

UPDATE users SET username = upper(username) RETURNING id, username

UPDATE users SET username = email, email = username WHERE id = 1 RETURNING username, email

UPDATE users SET handle = email, email = handle WHERE id = 1 RETURNING handle, email

UPDATE users SET (username, email) = (email, username) WHERE id = 1

UPDATE users SET (username, age) = ('x', 3) WHERE id = 1

UPDATE users SET (age, username) = ROW(3, 'x') WHERE id = 1

UPDATE users SET (handle, age) = ('x', 3) WHERE id = 1 RETURNING *
--! auto: UPDATE users SET (username, age) = ('x', 3) WHERE id = 1 RETURNING *

UPDATE users SET (username) = ROW('x') WHERE id = 1

UPDATE users SET (username, age) = (SELECT 'x', 3) WHERE id = 1

UPDATE users SET (username, age) = (SELECT o.handle, 3 FROM orders o WHERE o.id = users.id) WHERE id IN (1, 2)

UPDATE users SET (handle, age) = (SELECT 'q' || handle, 3 FROM orders o WHERE o.id = 1) WHERE id = 1
--! refusable in expanded
--! auto: UPDATE users SET (username, age) = (SELECT 'q' || handle, 3 FROM orders o WHERE o.id = 1) WHERE id = 1

UPDATE users SET username = (SELECT max(username) || 'z' FROM users) WHERE id = 1

UPDATE users SET username = (SELECT handle FROM orders o WHERE o.user_id = users.id ORDER BY id LIMIT 1) WHERE id = 1

UPDATE users SET username = 'v' || nextval('probe')

UPDATE users SET handle = 'v' || nextval('probe') RETURNING handle
--! refusable in expanded

UPDATE users SET username = shout(username) WHERE id < 3 RETURNING username

UPDATE users SET username = DEFAULT WHERE id = 1

UPDATE users SET age = DEFAULT, username = 'x' WHERE id = 1

UPDATE users SET tags[1] = 'x', username = 'y' WHERE id = 1 RETURNING tags, username

UPDATE users SET tags[1] = username WHERE id = 1 RETURNING tags

UPDATE users SET bio['k'] = '5' WHERE username = 'alice' RETURNING bio

UPDATE users SET username = CASE WHEN id = 1 THEN 'one' ELSE username END

UPDATE users SET username = CASE id WHEN 1 THEN 'one' WHEN 2 THEN 'two' END WHERE id IN (1, 2)

UPDATE users SET username = 12 WHERE id = 1

UPDATE users SET username = 1.5::numeric(3,1) WHERE id = 1

UPDATE users SET username = 'abc'::char(10) WHERE id = 1

UPDATE users SET username = now() - now() WHERE id = 1

UPDATE users SET username = (now() = now())::text || 'x' WHERE id = 1 RETURNING username = (now() = now())::text || 'x'

UPDATE users SET username = current_user WHERE id = 1

UPDATE ONLY users SET username = 'x' WHERE id = 1

UPDATE users * SET username = 'x' WHERE id = 1

UPDATE public.users SET username = 'x' WHERE public.users.id = 1 RETURNING public.users.username

UPDATE public.users SET handle = 'x' WHERE public.users.handle = 'alice' RETURNING users.handle

UPDATE users AS u SET username = u.username || u.email WHERE u.username = 'alice' RETURNING u.*

UPDATE users u SET handle = u.handle || u.email WHERE u.handle = 'alice' RETURNING u.handle

UPDATE users SET username = o.handle || o.id FROM orders o WHERE o.id = 1 AND o.user_id = users.id RETURNING users.username, o.handle

UPDATE users SET handle = o.handle || o.id FROM orders o WHERE o.id = 1 AND o.user_id = users.id RETURNING users.handle, o.handle

UPDATE users SET age = 1 FROM orders WHERE orders.user_id = users.id AND handle = 'A-1'

UPDATE users SET age = 1 FROM orders WHERE orders.user_id = users.id AND username = 'alice'

UPDATE users SET username = b.username || 'b' FROM users b WHERE b.id = users.id + 1 RETURNING users.id, users.username, b.username

UPDATE users a SET username = b.username || 'b' FROM users b WHERE b.username > a.username AND b.id = a.id + 1

UPDATE users SET age = 0 FROM logins l WHERE l.username = users.username RETURNING *

UPDATE users SET username = v.n FROM (VALUES (1, 'one'), (2, 'two')) AS v (id, n) WHERE v.id = users.id RETURNING users.id, username

UPDATE users SET username = x.username || '!' FROM (SELECT id, username FROM users) x WHERE x.id = users.id

UPDATE orders SET username = users.username FROM users WHERE users.id = orders.user_id RETURNING orders.*

UPDATE orders SET handle = users.handle FROM users WHERE users.id = orders.user_id RETURNING orders.id, orders.handle

UPDATE orders SET handle = u.username FROM users u WHERE u.id = user_id AND u.username = 'bob' RETURNING handle

UPDATE orders SET handle = 'h', username = (SELECT username FROM users WHERE id = user_id) RETURNING *

UPDATE orders o SET handle = handle || 'x' WHERE EXISTS (SELECT 1 FROM users WHERE handle = 'alice')

UPDATE orders o SET handle = handle || 'x' WHERE username IN (SELECT username FROM users)

UPDATE app.users SET username = 'x', handle = username WHERE id = 1 RETURNING *

UPDATE users SET username = 'x' WHERE id = 1 RETURNING *

UPDATE users SET username = 'x' WHERE id = 1 RETURNING users

UPDATE users SET username = 'x' WHERE id = 1 RETURNING row_to_json(users), users.*, username || 'y' AS handle

UPDATE users SET username = 'x' WHERE id = 1 RETURNING handle
--! auto: UPDATE users SET username = 'x' WHERE id = 1 RETURNING username::varchar(100) AS handle

UPDATE users SET age = 3 WHERE id = 1 RETURNING *

UPDATE users SET age = 3 WHERE id = 1 RETURNING username AS "Name", ctid IS NOT NULL

UPDATE users SET id = id + 1000

UPDATE users SET username = 'same', email = 'same' WHERE username LIKE 'a%'

UPDATE users SET username = NULLIF('a', 'b') WHERE id = 1

UPDATE users SET username = $1 WHERE id = $2
--! params: p | 1

UPDATE users SET handle = $1 WHERE id = $2 RETURNING handle
--! params: p | 1

UPDATE users SET username = $1, email = $1 WHERE id = $2
--! params: p | 1

UPDATE users SET username = $1 || username WHERE username = $2
--! params: p | alice

UPDATE users SET username = $1 WHERE username = $1
--! params: alice

UPDATE users SET username = coalesce($1, username), age = $2 WHERE id = 1
--! params: NULL | 4

UPDATE users SET username = CASE WHEN $1::int > 1 THEN $2 ELSE $3 END WHERE id = 1
--! params: 2 | a | b

UPDATE users SET username = lower($1::text) WHERE id = 1
--! params: ABC

UPDATE users SET (username, age) = ($1, $2) WHERE id = 1
--! params: t | 7

UPDATE users SET username = $1 WHERE id = 1
--! params: NULL

UPDATE users SET username = ($1) WHERE id = $2::bigint
--! params: pp | 2

UPDATE users SET username = replace(username, $1, $2) WHERE id = 1
--! params: a | b

--! group: delete
DELETE FROM users WHERE id = 5

DELETE FROM users WHERE username = 'alice'

DELETE FROM users WHERE handle = 'alice' RETURNING *
--! auto: DELETE FROM users WHERE username = 'alice' RETURNING *

DELETE FROM users WHERE username = 'alice' RETURNING *

DELETE FROM users WHERE handle = 'alice' RETURNING id, handle

DELETE FROM users

DELETE FROM ONLY users WHERE username > 'b' RETURNING username

DELETE FROM users AS u WHERE u.username = 'bob' RETURNING u.*

DELETE FROM public.users WHERE users.username = 'bob' RETURNING public.users.id

DELETE FROM users USING orders o WHERE o.user_id = users.id AND o.handle = 'carol' RETURNING users.username, o.handle

DELETE FROM users USING orders WHERE orders.user_id = users.id AND handle = 'carol' RETURNING email

DELETE FROM users u USING users b WHERE b.username = 'bob' AND u.age = b.age RETURNING u.username, b.username

DELETE FROM users USING logins NATURAL JOIN orders WHERE users.id = orders.user_id

DELETE FROM users WHERE username IN (SELECT username FROM logins) RETURNING username

DELETE FROM users WHERE id IN (SELECT user_id FROM orders WHERE username = users.username) RETURNING id

DELETE FROM users WHERE NOT EXISTS (SELECT 1 FROM orders WHERE username = users.username) RETURNING username

DELETE FROM orders WHERE user_id IN (SELECT id FROM users WHERE username = 'alice') RETURNING handle

DELETE FROM orders USING users WHERE users.id = user_id AND users.handle = 'alice' RETURNING orders.*

DELETE FROM orders WHERE EXISTS (SELECT 1 FROM users WHERE handle = 'alice')

DELETE FROM app.users WHERE username = 'alice' RETURNING *

DELETE FROM users WHERE username = $1 RETURNING id
--! params: bob

DELETE FROM users WHERE handle = ANY($1) RETURNING id
--! params: {bob,alice}

TRUNCATE users CASCADE

TRUNCATE TABLE ONLY users RESTART IDENTITY CASCADE

TRUNCATE users

--! group: merge
MERGE INTO users u USING logins l ON u.username = l.username AND l.ip = '10.0.0.1' WHEN MATCHED THEN UPDATE SET age = 1

MERGE INTO users u USING (SELECT DISTINCT username FROM logins) l ON u.username = l.username WHEN MATCHED THEN UPDATE SET username = u.username || '1' WHEN NOT MATCHED THEN INSERT (username) VALUES (l.username)
--! refusable: MERGE into the table

MERGE INTO users u USING (VALUES (1, 'one'), (99, 'new')) v (id, n) ON u.id = v.id WHEN MATCHED THEN UPDATE SET handle = v.n WHEN NOT MATCHED THEN INSERT (id, handle) VALUES (v.id, v.n)
--! refusable: MERGE into the table

MERGE INTO users USING app.users a ON users.id = a.id WHEN MATCHED AND users.username = 'alice' THEN DELETE WHEN NOT MATCHED THEN DO NOTHING
--! refusable: MERGE into the table

MERGE INTO users USING (VALUES (100)) v (id) ON users.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'merged')
--! refusable: MERGE into the table

MERGE INTO orders o USING users u ON o.user_id = u.id AND u.username = 'alice' WHEN MATCHED THEN UPDATE SET handle = u.username

MERGE INTO orders o USING users ON o.user_id = users.id AND users.handle = 'alice' WHEN MATCHED THEN DELETE

MERGE INTO orders o USING (SELECT * FROM users WHERE username = 'bob') u ON o.user_id = u.id WHEN MATCHED THEN UPDATE SET username = u.email WHEN NOT MATCHED THEN INSERT (handle) VALUES (u.username)

MERGE INTO app.users a USING public.users p ON a.id = p.id WHEN MATCHED THEN UPDATE SET username = p.username

--! group: copy
COPY users (id, username) FROM STDIN
--! copy: 71\n

COPY users (id, username) FROM STDIN
--! copy: 70\tcopied\n71\tcopied2\n

COPY users (username) FROM STDOUT
--! copy: eve\n

COPY users (username) FROM STDIN
--! copy: copied\n

COPY users (email, handle) FROM STDIN
--! copy: e\tcopied\n
--! refusable in expanded

COPY users FROM STDIN
--! refusable in expanded
--! copy: 70\tcopied\t\\N\t5\t{}\t{}\t2024-01-01 00:00:00+00\n

COPY public.users (username, email) FROM STDIN WITH (FORMAT csv, HEADER)
--! copy: username,email\nc1,e1\n"c,2",\n

COPY users (username) FROM STDIN CSV
--! copy: c1\nc2\n

COPY users (username, age) FROM STDIN (FORMAT csv, FORCE_NOT_NULL (username), NULL 'x')
--! copy: c1,x\n

COPY users (username) FROM STDIN WHERE username <> 'c2'
--! copy: c1\nc2\n

COPY users (id, username) FROM STDIN WHERE id > 70
--! copy: 70\tc1\n71\tc2\n

COPY users (username) FROM STDIN
--! copy: alice\n
--! state-only: the rows are in the detail

COPY users (nope) FROM STDIN
--! copy: x\n

COPY users (username) FROM STDIN (FORMAT binary)
--! copy: PGCOPY\n\xff\x0d\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02bc\xff\xff

COPY users (username) TO STDOUT

COPY users (id, username) TO STDIN WITH DELIMITER E'\t' NULL AS E'\\N'

--! refusable: COPY BINARY of a query cannot be written
--! tag-only
COPY BINARY users TO STDOUT

COPY (SELECT username FROM users ORDER BY id) TO /* either way */ STDIN

COPY users TO STDOUT

COPY (SELECT * FROM users ORDER BY id) TO STDOUT

COPY (SELECT username, handle FROM orders) TO STDOUT (FORMAT csv, HEADER)

COPY users (id, username) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE (username))

COPY users (id, handle) TO STDOUT CSV HEADER

COPY users TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)

COPY (UPDATE users SET username = 'c' WHERE id = 1 RETURNING id, username) TO STDOUT

COPY app.users TO STDOUT

COPY orders (handle, username) TO STDOUT

COPY orders (handle, username) FROM STDIN
--! copy: a\tb\n

COPY users (username, nope) TO STDOUT
