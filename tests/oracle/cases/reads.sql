--! group: plain
SELECT id, username FROM users ORDER BY id

SELECT handle FROM users ORDER BY id

SELECT username, handle FROM users ORDER BY id
--! auto: SELECT username, username::varchar(100) AS handle FROM users ORDER BY id

SELECT id FROM users WHERE username = 'alice'

SELECT id FROM users WHERE handle = 'alice'

SELECT email FROM users WHERE id = 1

SELECT count(*) FROM users

SELECT 1 FROM users WHERE username LIKE 'a%'

SELECT FROM users WHERE username = 'bob'

SELECT users.username FROM users WHERE users.id = 2

SELECT users.handle FROM users WHERE users.id = 2

SELECT public.users.username FROM public.users WHERE public.users.id = 2

SELECT public.users.handle FROM public.users WHERE public.users.id = 2

SELECT nowhere.public.users.username FROM users
--! refusable: which database is in use is not known to the rewriter

SELECT username FROM public.users ORDER BY username

SELECT handle FROM public.users ORDER BY handle

SELECT USERNAME, Users.Email FROM USERS WHERE UserName = 'bob'

SELECT "username" FROM "users" WHERE "username" = 'bob'

SELECT "handle" FROM "public"."users" WHERE "users"."handle" = 'bob'

SELECT "Username" FROM users

SELECT U&"\0075sername" FROM U&"\0075sers" WHERE id = 1

SELECT U&"h\0061ndle" FROM U&"users" WHERE id = 1

SELECT username AS handle FROM users WHERE id = 1

SELECT handle AS username FROM users WHERE id = 1

SELECT username handle FROM users WHERE id = 1

SELECT username u, upper(username) FROM users WHERE id < 3 ORDER BY 1

SELECT 'username' AS username, "username" || ' users' FROM users /* users.username */ WHERE id = 1 -- username

SELECT $$users.username$$ AS t, username FROM users WHERE id = 1

SELECT E'user\'s handle', username FROM users WHERE id = 1

SELECT username::text, username::varchar(3), CAST(username AS char(2)), cast(handle as text) FROM users WHERE id = 1
--! auto: SELECT username::text, username::varchar(3), CAST(username AS char(2)), cast(username::varchar(100) as text) AS handle FROM users WHERE id = 1

SELECT username::text, username::varchar(3), CAST(username AS char(2)) FROM users WHERE id = 1

SELECT length(username), lower(username), username || '!' , coalesce(username, 'x'), nullif(username, 'bob') FROM users WHERE id < 4 ORDER BY id

SELECT length(handle), lower(handle), handle || '!' , coalesce(handle, 'x'), nullif(handle, 'bob') FROM users WHERE id < 4 ORDER BY id

SELECT CASE username WHEN 'alice' THEN 1 ELSE 2 END FROM users ORDER BY id

SELECT CASE WHEN username > 'c' THEN username ELSE email END FROM users ORDER BY id

SELECT username COLLATE "C" FROM users ORDER BY username COLLATE "C" DESC

SELECT id FROM users ORDER BY username COLLATE "C" DESC, id

SELECT ARRAY[username, email] FROM users WHERE id = 1

SELECT (ARRAY[username])[1] FROM users WHERE id = 1

SELECT tags[1], bio->>'k', bio -> 'tag' FROM users WHERE username = 'alice'

SELECT username IS NULL, username IS NOT NULL, username IN ('alice', 'bob'), username BETWEEN 'a' AND 'c', username ~ '^a' FROM users ORDER BY id

SELECT handle IN ('alice', 'bob'), handle = ANY(ARRAY['alice', 'bob']) FROM users ORDER BY id

SELECT id FROM users WHERE username = ANY('{alice,bob}') ORDER BY id

SELECT id FROM users WHERE (username, age) = ('alice', 30)

SELECT id FROM users WHERE (handle, age) IN (('alice', 30), ('bob', 25)) ORDER BY id

SELECT id FROM users WHERE ROW(username, id) > ROW('bob', 1) ORDER BY id

SELECT DISTINCT username FROM users ORDER BY username

SELECT DISTINCT age FROM users ORDER BY age

SELECT ALL username FROM users ORDER BY id LIMIT 2 OFFSET 1

SELECT username FROM users ORDER BY id FETCH FIRST 2 ROWS ONLY

SELECT username FROM users ORDER BY id FETCH FIRST 2 ROWS WITH TIES

SELECT username FROM users u ORDER BY u.username DESC NULLS LAST LIMIT 3

SELECT username FROM users ORDER BY length(username), username

SELECT username AS n FROM users ORDER BY n

SELECT lower(username) AS username FROM users ORDER BY username

SELECT lower(username) AS username FROM users ORDER BY upper(username)

SELECT age AS username FROM users ORDER BY username, id

SELECT age AS handle FROM users ORDER BY handle, id

SELECT id AS handle FROM users ORDER BY handle

SELECT id AS username FROM users ORDER BY username

SELECT username FROM users ORDER BY 1 DESC

SELECT username, count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT email AS e FROM users WHERE username <> 'bob' ORDER BY e NULLS FIRST

SELECT * FROM users WHERE false

select username from users where id=$1
--! params: 3

SELECT id FROM users WHERE username = $1
--! params: alice

SELECT id FROM users WHERE handle = $1
--! params: alice

SELECT id FROM users WHERE username = $1 OR email = $1 ORDER BY id
--! params: alice

SELECT $1, username FROM users WHERE id = $2
--! params: x | 1

SELECT id FROM users WHERE username = ANY($1) ORDER BY id
--! params: {alice,bob}

SELECT id FROM users WHERE username IN ($1, $2) AND age > $3 ORDER BY id
--! params: alice | bob | 26

SELECT id FROM users WHERE username LIKE $1 || '%'
--! params: al

SELECT id FROM users WHERE handle LIKE $1 || '%' AND length(handle) = $2
--! params: al | 5

SELECT id FROM users WHERE $1 IN (username, email) ORDER BY id
--! params: bob

SELECT coalesce(username, $1) FROM users WHERE id = 1
--! params: q

--! group: star
SELECT * FROM users ORDER BY id

SELECT users.* FROM users ORDER BY id

SELECT public.users.* FROM public.users ORDER BY id

SELECT u.* FROM users u ORDER BY u.id

SELECT u.* FROM users AS u ORDER BY username

SELECT u.*, u.username AS again FROM users u WHERE id = 1

SELECT *, handle AS again FROM users WHERE id = 1
--! auto: SELECT *, username::varchar(100) AS again FROM users WHERE id = 1

SELECT *, username AS again FROM users WHERE id = 1

SELECT 1 AS one, * FROM users WHERE username = 'bob'

SELECT *, * FROM users WHERE id = 1

SELECT * FROM users u, orders o WHERE o.user_id = u.id ORDER BY u.id, o.id

SELECT u.*, o.* FROM users u JOIN orders o ON o.user_id = u.id ORDER BY u.id, o.id

SELECT o.* FROM users u JOIN orders o ON o.user_id = u.id WHERE u.username = 'alice' ORDER BY o.id

SELECT * FROM (SELECT * FROM users) s ORDER BY id

SELECT * FROM (SELECT * FROM users) s (a, b, c) ORDER BY a

SELECT s.username FROM (SELECT * FROM users) s ORDER BY 1

SELECT s.handle FROM (SELECT * FROM users) s ORDER BY 1
--! auto: old

SELECT a, b FROM users AS u (a, b) ORDER BY a

SELECT * FROM users AS u (a, b) WHERE a = 1

SELECT username FROM users AS u (a, b)

SELECT u.a, u.email FROM users u (a) WHERE u.username = 'alice'

SELECT handle FROM users AS u (handle, b) WHERE b = 'bob'

TABLE users

TABLE public.users

TABLE ONLY users

(TABLE users) ORDER BY id

SELECT * FROM ONLY users ORDER BY id

SELECT username FROM ONLY users u WHERE u.id = 1

SELECT username FROM ONLY (users) WHERE id = 1

SELECT * FROM users * ORDER BY id

SELECT handle FROM users * WHERE id = 1

SELECT * FROM users TABLESAMPLE BERNOULLI (100) ORDER BY id

SELECT username FROM users TABLESAMPLE SYSTEM (100) REPEATABLE (1) ORDER BY id

SELECT handle FROM users AS u TABLESAMPLE BERNOULLI (100) WHERE handle > 'c' ORDER BY id

SELECT count(*) FROM users TABLESAMPLE BERNOULLI (100)

SELECT exists(SELECT * FROM users)

SELECT count(u.*) FROM users u

SELECT count(*) FILTER (WHERE username > 'b') FROM users

SELECT COUNT(users) FROM users

--! group: system columns
SELECT tableoid::regclass, username FROM users WHERE id = 1

SELECT count(ctid), count(xmin) FROM users WHERE username <> 'bob'

SELECT u.ctid IS NOT NULL, u.handle FROM users u WHERE id = 1

SELECT ctid IS NULL AS none, username FROM users WHERE id = 1

SELECT u.tableoid::regclass FROM users u WHERE u.username = 'alice'

SELECT xmax, cmin, cmax FROM users WHERE username = 'alice'
--! tag-only

SELECT username FROM users WHERE ctid = (SELECT ctid FROM users WHERE id = 1)

--! group: whole row
SELECT u FROM users u ORDER BY id

SELECT users FROM users WHERE id = 1

SELECT u::text FROM users u WHERE id = 1

SELECT users::text FROM users WHERE username = 'bob'

SELECT row_to_json(u) FROM users u ORDER BY id

SELECT to_jsonb(users) FROM users WHERE id = 1

SELECT to_jsonb(u.*) FROM users u WHERE id = 1

SELECT row_to_json(u.*)->>'username' FROM users u WHERE id = 1

SELECT row_to_json(u)->>'handle' FROM users u WHERE id = 1

SELECT (u).username FROM users u WHERE id = 1

SELECT (u).handle FROM users u WHERE id = 1
--! auto: old

SELECT (u.*).username FROM users u WHERE id = 1

SELECT (u).* FROM users u WHERE id = 1

SELECT u IS NULL, u IS NOT NULL FROM users u ORDER BY id

SELECT json_agg(u ORDER BY u.id) FROM users u

SELECT json_agg(row_to_json(u)) FROM (SELECT id, username FROM users ORDER BY id) u

SELECT array_agg(u.username ORDER BY u.id) FROM users u

SELECT row(u.*)::text FROM users u WHERE id = 1

SELECT row(u.username, u.id) FROM users u WHERE id = 1

SELECT u = u FROM users u WHERE id = 1

SELECT id FROM users u WHERE u = (SELECT v FROM users v WHERE v.id = 2)

SELECT hstore FROM users AS hstore WHERE id = 1

SELECT username FROM users WHERE users IS NOT NULL ORDER BY id

SELECT count(DISTINCT u) FROM users u

SELECT username(u) FROM users u WHERE id = 1
--! state-only: the message names the row type
--! refusable: functional notation for a column

SELECT u.username, row_to_json(o) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 1 ORDER BY o.id

SELECT coalesce(u.username, 'none'), row_to_json(u) FROM orders o LEFT JOIN users u ON u.id = o.user_id ORDER BY o.id

--! group: joins
SELECT u.username, o.handle FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id

SELECT u.handle, o.handle FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id

SELECT u.username, o.username FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id

SELECT username FROM users u JOIN orders o ON o.user_id = u.id
--! auto: old

SELECT handle FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id

SELECT o.id FROM users u JOIN orders o ON o.user_id = u.id WHERE handle = 'A-1'

SELECT o.id FROM users u, orders o WHERE u.id = o.user_id AND handle LIKE 'A%' ORDER BY handle

SELECT amount, email FROM users JOIN orders ON orders.user_id = users.id WHERE users.username = 'alice' ORDER BY amount

SELECT a.username, b.username FROM users a JOIN users b ON a.age = b.age AND a.id < b.id ORDER BY a.id

SELECT a.username, b.handle FROM users a JOIN users b ON a.id = b.id WHERE a.id = 1
--! auto: SELECT a.username, b.username::varchar(100) AS handle FROM users a JOIN users b ON a.id = b.id WHERE a.id = 1

SELECT a.handle, b.handle FROM users a CROSS JOIN users b WHERE a.id = 1 AND b.id < 3 ORDER BY b.id

SELECT * FROM users a JOIN users b USING (id) WHERE id = 1

SELECT * FROM users a JOIN users b USING (username) WHERE a.id = 1

SELECT * FROM users a JOIN users b USING (handle) WHERE a.id = 1
--! refusable: USING over a name of the other shape

SELECT username, ip FROM users JOIN logins USING (username) ORDER BY ip

SELECT username, ip FROM users LEFT JOIN logins USING (username) ORDER BY username, ip

SELECT username, u.username AS l, logins.username AS r FROM users u FULL JOIN logins USING (username) ORDER BY 1, ip

SELECT * FROM users JOIN logins USING (username) ORDER BY ip

SELECT j.username FROM users JOIN logins USING (username) AS j ORDER BY ip

SELECT * FROM users NATURAL JOIN logins ORDER BY ip, id

SELECT users.id, ip FROM users NATURAL LEFT JOIN logins ORDER BY 1, 2

SELECT * FROM orders NATURAL JOIN logins ORDER BY id, ip

SELECT * FROM users NATURAL JOIN orders

SELECT count(*) FROM users NATURAL JOIN users b

SELECT u.username FROM orders o RIGHT JOIN users u ON u.id = o.user_id WHERE o.id IS NULL ORDER BY u.id

SELECT u.username, o.amount FROM users u FULL OUTER JOIN orders o ON o.user_id = u.id ORDER BY u.id, o.id

SELECT u.username, x.n FROM users u CROSS JOIN generate_series(1, 2) AS x(n) WHERE u.id < 3 ORDER BY u.id, n

SELECT j.id, j.username FROM (users u JOIN logins l USING (username)) AS j ORDER BY j.ip

SELECT * FROM (users u CROSS JOIN (SELECT 1 AS one) x) WHERE u.id = 1

SELECT u.username FROM (users u JOIN orders o ON u.id = o.user_id) JOIN logins l ON l.username = u.username ORDER BY 1

SELECT users.username FROM users, app.users AS au WHERE users.id = au.id ORDER BY users.id

SELECT public.users.username, app.users.username FROM public.users, app.users WHERE public.users.id = app.users.id ORDER BY 1

SELECT public.users.*, app.users.* FROM public.users JOIN app.users ON public.users.id = app.users.id ORDER BY 1

SELECT users.username FROM app.users ORDER BY id

SELECT handle, username FROM app.users ORDER BY id

SELECT * FROM app.users ORDER BY id

SELECT a.id, u.username FROM adults a JOIN users u ON u.id = a.id ORDER BY 1

SELECT u.username FROM users u JOIN orders o ON u.username = o.username ORDER BY o.id

SELECT u.id FROM users u JOIN orders o ON u.handle = o.handle ORDER BY o.id

SELECT u.id, o.id FROM users u JOIN orders o ON handle = u.username
--! phases: shielded

SELECT email, handle FROM users JOIN orders o ON true WHERE o.id = 1 AND users.id = 1

--! group: lateral
SELECT u.username, l.amount FROM users u, LATERAL (SELECT amount FROM orders o WHERE o.user_id = u.id ORDER BY amount DESC LIMIT 1) l ORDER BY u.id

SELECT u.username, l.* FROM users u LEFT JOIN LATERAL (SELECT o.username FROM orders o WHERE o.username = u.username LIMIT 1) l ON true ORDER BY u.id

SELECT o.id, l.username FROM orders o, LATERAL (SELECT username FROM users u WHERE u.id = o.user_id) l ORDER BY o.id

SELECT o.id, l.* FROM orders o CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = o.user_id) l ORDER BY o.id

SELECT o.id, l.handle FROM orders o CROSS JOIN LATERAL (SELECT handle FROM users u WHERE u.id = o.user_id) l ORDER BY o.id

SELECT u.id, t FROM users u, unnest(u.tags) AS t ORDER BY 1, 2

SELECT u.username, t FROM users u, LATERAL unnest(ARRAY[u.username, u.email]) WITH ORDINALITY AS t(v, n) ORDER BY u.id, n

SELECT username, e.key FROM users, jsonb_each(bio) e ORDER BY id, key

SELECT u.id, x FROM users u, LATERAL (VALUES (u.username), (u.email)) v(x) ORDER BY 1, 2

SELECT l.x FROM users u, LATERAL (SELECT u.handle AS x) l ORDER BY 1

--! group: subqueries
SELECT (SELECT username FROM users WHERE id = 1)

SELECT (SELECT handle FROM users WHERE id = 1)

SELECT o.id, (SELECT username FROM users u WHERE u.id = o.user_id) FROM orders o ORDER BY o.id

SELECT o.id, (SELECT u.username FROM users u WHERE u.id = o.user_id) AS handle FROM orders o ORDER BY handle, o.id

SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM users WHERE handle = 'alice') ORDER BY id

SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM users WHERE handle = username) ORDER BY id

SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM users u WHERE u.username = o.username) ORDER BY id

SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM users WHERE username = o.handle) ORDER BY id

SELECT id FROM orders o WHERE EXISTS (SELECT FROM users WHERE users.username = username) ORDER BY id

SELECT id FROM orders WHERE username IN (SELECT username FROM users) ORDER BY id

SELECT id FROM orders WHERE handle IN (SELECT username FROM users) ORDER BY id

SELECT id FROM orders WHERE handle IN (SELECT handle FROM users) ORDER BY id

SELECT id FROM orders WHERE username NOT IN (SELECT handle FROM users WHERE handle IS NOT NULL) ORDER BY id

SELECT id FROM orders WHERE user_id = (SELECT id FROM users WHERE username = 'bob')

SELECT id FROM orders WHERE (username, user_id) IN (SELECT username, id FROM users) ORDER BY id

SELECT username FROM users WHERE id IN (SELECT user_id FROM orders WHERE handle LIKE 'A%')

SELECT username FROM users u WHERE EXISTS (SELECT 1 FROM orders WHERE username = u.username) ORDER BY 1

SELECT u.id FROM users u WHERE EXISTS (SELECT 1 FROM logins WHERE handle = 'alice') ORDER BY 1

SELECT u.id FROM users u WHERE EXISTS (SELECT 1 FROM log WHERE username = 'alice') ORDER BY 1

SELECT u.id FROM users u WHERE NOT EXISTS (SELECT 1 FROM log WHERE handle = 'alice') ORDER BY 1

SELECT u.id FROM users u WHERE u.username = (SELECT max(o.username) FROM orders o WHERE username = u.username) ORDER BY 1

SELECT username, (SELECT count(*) FROM orders o WHERE o.user_id = users.id) AS n FROM users ORDER BY n DESC, id

SELECT id FROM users WHERE username > ALL (SELECT username FROM logins) ORDER BY id

SELECT id FROM users WHERE username = SOME (SELECT username FROM logins) ORDER BY id

SELECT ARRAY(SELECT username FROM users ORDER BY id)

SELECT ARRAY(SELECT handle FROM users ORDER BY id)

SELECT x.username FROM (SELECT id, username FROM users WHERE id < 3) x ORDER BY id

SELECT x.* FROM (SELECT u.*, 1 AS one FROM users u) x WHERE x.username = 'alice'

SELECT x.h FROM (SELECT handle AS h FROM users) x ORDER BY h

SELECT n FROM (SELECT username FROM users) x (n) ORDER BY n

SELECT (SELECT (SELECT username FROM users v WHERE v.id = u.id) FROM users u WHERE u.id = o.user_id) FROM orders o ORDER BY o.id

SELECT max(username) FROM users HAVING max(username) > (SELECT min(username) FROM users)

SELECT * FROM (VALUES ((SELECT username FROM users WHERE id = 1))) v

VALUES ((SELECT username FROM users WHERE id = 1), (SELECT handle FROM orders WHERE id = 1))

SELECT CASE WHEN EXISTS (SELECT 1 FROM users WHERE username = 'bob') THEN 'y' END

SELECT username FROM (SELECT 'sub' AS username) users

SELECT users.username FROM (SELECT 'sub' AS username, 'h' AS handle) AS users

SELECT o.handle FROM orders o WHERE o.id = (SELECT min(id) FROM users WHERE handle = 'A-1')
