--! group: captures
SELECT o.id FROM orders o WHERE EXISTS (SELECT 1 FROM users u WHERE u.id = o.user_id AND handle = 'A-1')

SELECT o.id FROM orders o WHERE EXISTS (SELECT 1 FROM users u WHERE u.id = o.user_id AND username = 'alice') ORDER BY 1

SELECT o.id FROM orders o WHERE o.id IN (SELECT users.id FROM users WHERE handle IS NOT NULL) ORDER BY 1

SELECT o.id FROM orders o WHERE o.id IN (SELECT users.id FROM users WHERE username = 'erin') ORDER BY 1

SELECT (SELECT count(*) FROM users WHERE username = 'alice') FROM orders ORDER BY id

SELECT (SELECT count(*) FROM users WHERE handle = 'alice') FROM orders ORDER BY id

SELECT (SELECT handle) FROM users ORDER BY 1

SELECT (SELECT username) FROM users ORDER BY 1

SELECT (SELECT username FROM log LIMIT 1) FROM users ORDER BY 1

SELECT o.id, s.c FROM orders o, LATERAL (SELECT count(*) AS c FROM users WHERE handle = 'bob') s ORDER BY 1

SELECT o.id, s.c FROM orders o, LATERAL (SELECT count(*) AS c FROM users WHERE username = 'bob') s ORDER BY 1

SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE handle = username) ORDER BY 1

SELECT id FROM users WHERE id IN (SELECT user_id FROM orders o WHERE users.username = o.username) ORDER BY 1

SELECT username FROM logins WHERE EXISTS (SELECT 1 FROM users u WHERE u.username = logins.username AND username = 'bob')

SELECT u.id FROM users u WHERE EXISTS (SELECT 1 FROM (SELECT 1 AS x) s WHERE username = 'bob')

SELECT u.id FROM users u WHERE EXISTS (SELECT 1 FROM (SELECT 1 AS x) s WHERE handle = 'bob')

SELECT handle FROM orders JOIN users ON users.id = orders.user_id ORDER BY orders.id

SELECT sum(amount) AS handle FROM orders JOIN users ON users.id = orders.user_id GROUP BY orders.handle ORDER BY 1

SELECT handle, count(*) FROM orders JOIN users ON users.id = orders.user_id GROUP BY handle ORDER BY handle

SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id AND handle = 'A-1'

UPDATE orders SET handle = 'x' FROM users WHERE users.id = user_id AND handle = 'A-1'

UPDATE users SET age = (SELECT count(*) FROM orders WHERE handle = 'A-1' AND username = 'alice') WHERE id = 1

UPDATE users SET age = 2 WHERE EXISTS (SELECT 1 FROM orders WHERE handle = 'A-1' AND user_id = users.id)

UPDATE users SET age = 2 WHERE EXISTS (SELECT 1 FROM log WHERE handle = 'alice') OR username = 'bob'
--! auto: UPDATE users SET age = 2 WHERE EXISTS (SELECT 1 FROM log WHERE username = 'alice') OR username = 'bob'

DELETE FROM users USING orders o WHERE o.user_id = users.id AND handle = 'A-1' RETURNING users.id

INSERT INTO log (message) SELECT handle FROM orders, users WHERE users.id = orders.user_id

DELETE FROM orders WHERE EXISTS (SELECT 1 FROM users WHERE users.id = orders.user_id AND handle = 'A-1') RETURNING id

SELECT count(*) FROM users u WHERE (SELECT max(x) FROM (SELECT username AS x FROM orders WHERE user_id = u.id) s) IS NOT NULL

--! group: aliases
SELECT users.username FROM users AS users WHERE users.id = 1

SELECT username.username FROM users AS username WHERE username.id = 1

SELECT username FROM users AS username WHERE id = 1

SELECT handle FROM users AS handle WHERE id = 1
--! auto: old
--! refusable: a whole row by a name of a column

SELECT handle.id FROM users AS handle WHERE id = 1

SELECT handle.handle FROM orders AS handle WHERE id = 1

SELECT handle FROM orders AS handle WHERE id = 1

SELECT handle FROM log AS handle

SELECT orders.username FROM users AS orders ORDER BY orders.id

SELECT orders.handle FROM users AS orders ORDER BY orders.id

SELECT users.handle FROM orders AS users ORDER BY users.id

SELECT users.username, u.username FROM orders AS users, users AS u WHERE u.id = users.user_id ORDER BY users.id

SELECT "users"."username" FROM "users" AS "users" ORDER BY 1

SELECT "U".username FROM users "U" ORDER BY 1

SELECT "a b"."username", "a b".* FROM users AS "a b" ORDER BY 1

SELECT username AS "handle", "handle" FROM (SELECT username, 'x' AS handle FROM users) q ORDER BY 1

SELECT users FROM (SELECT 1 AS users) s

SELECT username AS users FROM users ORDER BY users

SELECT id AS users FROM users ORDER BY users

SELECT users AS username FROM users WHERE id = 1

SELECT handle FROM (SELECT username AS handle FROM users) users ORDER BY 1

SELECT count(*) FROM (users) WHERE username = 'alice'
--! state-only: our reader's own words

SELECT u.id FROM users u ORDER BY u

SELECT generate_series(1, 2) AS username, id FROM users ORDER BY 2, 1 LIMIT 2

SELECT id FROM users WHERE 'users' = 'users' AND username <> 'users.username' ORDER BY id

SELECT id/* username */FROM/**/users--c
WHERE/* nested /* handle */ */username='bob'

SELECT(username)FROM users WHERE(username)IN('bob')

SELECT*FROM users WHERE id=1

SELECT-id,username FROM users ORDER BY-id

select a.username,b.username from users a,users b where a.id=b.id and a.username='bob'

--! group: other tables
SELECT username, handle FROM orders ORDER BY id

SELECT * FROM orders ORDER BY id

SELECT username FROM logins ORDER BY ip

SELECT * FROM adults ORDER BY id

UPDATE orders SET username = handle, handle = username

INSERT INTO logins (username) VALUES ('users') RETURNING username

DELETE FROM logins WHERE username = 'bob'

SELECT 'users'::regclass

SELECT relname FROM pg_class WHERE relname = 'users' ORDER BY relnamespace::regnamespace::text

SELECT username FROM user_s

SELECT users() FROM log

SELECT pg_typeof(username) FROM users WHERE id = 1

SELECT pg_typeof(handle) FROM users WHERE id = 1

SELECT nextval('users_id_seq')

SELECT currval(pg_get_serial_sequence('users', 'id'))

SELECT has_table_privilege('users', 'select')

LOCK TABLE users IN ACCESS SHARE MODE

LOCK TABLE users

ANALYZE users

COMMENT ON TABLE users IS 'x'

CREATE INDEX made ON users (age)

CREATE INDEX made ON users (username)
--! refusable: an index on the migrating column

ALTER TABLE users ADD COLUMN extra int
--! refusable: DDL on the table

ALTER TABLE users DROP COLUMN age
--! refusable: DDL on the table

ALTER TABLE users RENAME COLUMN username TO login
--! refusable: DDL on the table

DROP TABLE users CASCADE
--! refusable: DDL on the table

GRANT SELECT ON users TO PUBLIC

DO $$ BEGIN PERFORM count(*) FROM users; END $$

--! group: DDL over the stored names
--! phases: contracted
--! shapes: old
CREATE INDEX made ON users (username, lower(username) DESC) WHERE username <> 'x';;
SELECT indexdef FROM pg_indexes WHERE indexname = 'made'

--! phases: contracted
--! shapes: old
CREATE UNIQUE INDEX IF NOT EXISTS made ON public.users USING btree (username);;
INSERT INTO users (username) VALUES ('bob')

--! phases: contracted
--! shapes: old
ALTER TABLE users ALTER COLUMN username SET DEFAULT 'dave', ALTER username DROP NOT NULL;;
INSERT INTO users (email) VALUES ('e') RETURNING username;;
INSERT INTO users (username) VALUES (NULL) RETURNING username

--! phases: contracted
--! shapes: old
ALTER TABLE ONLY public.users ADD CONSTRAINT made CHECK (username <> 'zed' AND users.id > 0);;
INSERT INTO users (username) VALUES ('zed')
--! refusable: a name with a dot

--! phases: contracted
--! shapes: old
ALTER TABLE users ADD CONSTRAINT made CHECK (username <> 'zed');;
INSERT INTO users (username) VALUES ('zed')

--! phases: contracted
--! shapes: old
COMMENT ON COLUMN public.users.username IS 'who';;
SELECT col_description('users'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'username'

--! phases: contracted
--! shapes: old
GRANT SELECT (username), UPDATE (username) ON users TO pg_monitor;;
SELECT attacl FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'username'

--! phases: contracted
--! shapes: old
--! refusable: its own name
CREATE INDEX ON users (username)

--! phases: contracted
--! shapes: old
ANALYZE users (username)

--! phases: contracted
--! shapes: old
ALTER TABLE users ALTER COLUMN nothing SET DEFAULT 'dave'

--! phases: contracted
--! shapes: old
--! refusable: it is stored converted
CREATE INDEX made ON members (age)

--! phases: contracted
--! shapes: old
--! refusable: a name may be another table's
GRANT SELECT (username) ON users, logins TO pg_monitor

--! phases: contracted
--! shapes: old
--! refusable: a name may be another table's
ALTER TABLE users ADD CONSTRAINT made FOREIGN KEY (username) REFERENCES logins (username)

--! group: a table that goes by another name
--! shapes: old auto
--! auto: old
UPDATE users AS u SET username = users.username || 'x' WHERE u.id = 1

--! auto: old
DELETE FROM users AS u WHERE users.username = 'x'

--! auto: old
UPDATE members AS m SET name = 'x' WHERE members.age = '1' RETURNING m.id

--! group: quoted names without blanks beside them
select"username"from"users"order by 1

select"username"from"users"where"id"=1

select o.id,"users"."username"from orders o left join"users"on"users".id=o.user_id order by 1

select email, o.id from "users"left join orders o on o.user_id=3 and username is not null order by 1, 2

select email from "users"full join orders o on o.user_id="users".id and username<>'bob'order by 1

select username"x"from users order by 1

select u.username"X"from"users"as"u"where"u"."username"<>'bob'order by"u"."username"

update"users"set"username"='zed'where"username"='bob'returning"username"

delete from"users"where"username"='nobody'

insert into"users"("username","email")values('new','new@example.org')returning"username"

table"users"order by 1
