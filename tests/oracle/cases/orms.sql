--! group: django
SELECT "users"."id", "users"."username", "users"."email", "users"."age" FROM "users" WHERE "users"."username" = 'alice' LIMIT 21

SELECT "users"."id", "users"."username", "users"."email" FROM "users" WHERE "users"."username" = $1 ORDER BY "users"."id" ASC LIMIT 1
--! params: alice

SELECT "users"."id", "users"."handle", "users"."email" FROM "users" WHERE UPPER("users"."handle"::text) LIKE UPPER('%AL%') ORDER BY "users"."handle" ASC

SELECT "users"."id", "users"."username" FROM "users" WHERE UPPER("users"."username"::text) = UPPER('ALICE')

SELECT 1 AS "a" FROM "users" WHERE "users"."username" = 'alice' LIMIT 1

SELECT COUNT(*) AS "__count" FROM "users" WHERE NOT ("users"."username" = 'alice' AND "users"."username" IS NOT NULL)

SELECT "users"."age", COUNT("users"."username") AS "n" FROM "users" GROUP BY "users"."age" HAVING COUNT("users"."username") > 0 ORDER BY "n" DESC, "users"."age" ASC

SELECT "users"."id", "users"."username", "users"."email", "users"."age", "users"."bio", "users"."tags", "users"."created_at", COUNT("orders"."id") AS "num" FROM "users" LEFT OUTER JOIN "orders" ON ("users"."id" = "orders"."user_id") GROUP BY "users"."id" ORDER BY "users"."id" ASC

INSERT INTO "users" ("username", "email", "age", "bio", "tags", "created_at") VALUES ('dj', 'dj@e', 3, '{}'::jsonb, '{}', '2024-01-01T00:00:00+00:00'::timestamptz) RETURNING "users"."id"

INSERT INTO "users" ("username", "email") SELECT * FROM UNNEST((ARRAY['b1', 'b2'])::varchar[], (ARRAY['e1', NULL])::text[]) RETURNING "users"."id"

INSERT INTO "users" ("username", "email") VALUES ('alice', 'x@e'), ('dj2', NULL) ON CONFLICT("username") DO UPDATE SET "email" = EXCLUDED."email" RETURNING "users"."id"

UPDATE "users" SET "username" = 'dj', "email" = NULL WHERE "users"."id" = 1

UPDATE "users" SET "username" = (CASE WHEN ("users"."id" = 1) THEN 'c1' WHEN ("users"."id" = 2) THEN 'c2' ELSE NULL END)::varchar(255) WHERE "users"."id" IN (1, 2)

UPDATE "users" SET "username" = CONCAT("users"."username", '_x') WHERE "users"."id" IN (SELECT U0."id" FROM "users" U0 INNER JOIN "orders" U1 ON (U0."id" = U1."user_id") WHERE U1."amount" > 10)

DELETE FROM "users" WHERE "users"."id" IN (1, 2)

SELECT "orders"."id", "orders"."username", "orders"."handle", "users"."id", "users"."username" FROM "orders" INNER JOIN "users" ON ("orders"."user_id" = "users"."id") WHERE "users"."username" = 'alice' ORDER BY "orders"."id" ASC

SELECT "orders"."id" FROM "orders" WHERE EXISTS(SELECT 1 AS "a" FROM "users" U0 WHERE (U0."id" = ("orders"."user_id") AND U0."username" = ("orders"."username")) LIMIT 1) ORDER BY 1

SELECT "users"."id", (SELECT U0."handle" AS "handle" FROM "orders" U0 WHERE U0."user_id" = ("users"."id") ORDER BY U0."id" ASC LIMIT 1) AS "first" FROM "users" ORDER BY "users"."id" ASC

SELECT "col1", "n" FROM (SELECT * FROM (SELECT "users"."username" AS "col1", ROW_NUMBER() OVER (ORDER BY "users"."id") AS "n" FROM "users") "qualify" WHERE "n" <= 2) "qualify_mask" ORDER BY "n"

SELECT DISTINCT "users"."username" AS "username" FROM "users" ORDER BY "users"."username" ASC

SELECT "users"."username" FROM "users" WHERE "users"."id" = 1 FOR UPDATE OF "users"

DECLARE "_django_curs_1_sync_1" NO SCROLL CURSOR WITH HOLD FOR SELECT "users"."id", "users"."username" FROM "users" ORDER BY "users"."id" ASC;;
FETCH 3 FROM "_django_curs_1_sync_1"

--! group: sqlalchemy
SELECT users.id, users.username, users.email FROM users WHERE users.username = $1::VARCHAR
--! params: alice

SELECT users.id AS users_id, users.username AS users_username, users.email AS users_email FROM users WHERE users.id = $1::BIGINT
--! params: 1

SELECT users_1.id, users_1.handle AS users_1_handle FROM users AS users_1 LEFT OUTER JOIN orders AS orders_1 ON users_1.id = orders_1.user_id WHERE users_1.handle IN ($1::VARCHAR, $2::VARCHAR) ORDER BY orders_1.id
--! params: alice | bob

SELECT anon_1.users_id, anon_1.users_username FROM (SELECT users.id AS users_id, users.username AS users_username FROM users WHERE users.age > 20 ORDER BY users.id LIMIT 3) AS anon_1 JOIN orders ON orders.user_id = anon_1.users_id ORDER BY orders.id

SELECT count(*) AS count_1 FROM (SELECT users.id AS users_id, users.username AS users_username FROM users) AS anon_1

INSERT INTO users (username, email) VALUES ($1::VARCHAR, $2::VARCHAR) RETURNING users.id, users.created_at
--! params: sa | sa@e

INSERT INTO users (username, email, age) SELECT p0::VARCHAR, p1::VARCHAR, p2::INTEGER FROM (VALUES ($1::VARCHAR, $2::VARCHAR, $3::INTEGER, 0), ($4::VARCHAR, $5::VARCHAR, $6::INTEGER, 1)) AS imp_sen(p0, p1, p2, sen_counter) ORDER BY sen_counter RETURNING users.id, users.id AS id__1
--! params: sa1 | e1 | 1 | sa2 | e2 | 2

INSERT INTO users (username) VALUES ($1::VARCHAR) ON CONFLICT (username) DO UPDATE SET email = excluded.email, age = (users.age + $2::INTEGER) WHERE users.age > 1 RETURNING users.id
--! params: alice | 5

UPDATE users SET username=$1::VARCHAR WHERE users.id = $2::BIGINT
--! params: sa | 1

UPDATE users SET username=(users.username || $1::VARCHAR) WHERE users.username LIKE $2::VARCHAR RETURNING users.id, users.username
--! params: ! | a%

UPDATE users SET username=orders.handle FROM orders WHERE users.id = orders.user_id AND orders.id = $1::BIGINT
--! params: 1

DELETE FROM users WHERE users.id = $1::BIGINT
--! params: 1

WITH anon_1 AS (SELECT users.username AS username, sum(orders.amount) AS total FROM users JOIN orders ON orders.user_id = users.id GROUP BY users.username) SELECT anon_1.username, anon_1.total FROM anon_1 ORDER BY anon_1.total DESC

SELECT users.id, users.username FROM users WHERE (EXISTS (SELECT 1 FROM orders WHERE users.id = orders.user_id AND orders.username = users.username)) ORDER BY users.id

UPDATE users SET bio['k']=$1::JSONB, username=$2::VARCHAR WHERE users.id = 1
--! params: 5 | sa

--! group: activerecord
SELECT "users".* FROM "users" WHERE "users"."username" = $1 LIMIT $2
--! params: alice | 1

SELECT "users".* FROM "users" WHERE "users"."handle" = $1 LIMIT $2
--! params: alice | 1
--! auto: SELECT "users".* FROM "users" WHERE "users"."username" = $1 LIMIT $2

SELECT "users".* FROM "users" ORDER BY "users"."id" ASC LIMIT $1
--! params: 3

SELECT 1 AS one FROM "users" WHERE LOWER("users"."username") = LOWER($1) AND "users"."id" != $2 LIMIT $3
--! params: ALICE | 5 | 1

SELECT "users"."id" AS t0_r0, "users"."username" AS t0_r1, "orders"."id" AS t1_r0, "orders"."handle" AS t1_r1 FROM "users" LEFT OUTER JOIN "orders" ON "orders"."user_id" = "users"."id" WHERE "orders"."handle" = $1
--! params: A-1

INSERT INTO "users" ("username", "email", "created_at") VALUES ($1, $2, $3) RETURNING "id"
--! params: ar | ar@e | 2024-01-01 00:00:00

INSERT INTO "users" ("username","email") VALUES ('alice', 'ar@e'), ('ar', NULL) ON CONFLICT ("username") DO UPDATE SET "email"=excluded."email" RETURNING "id"

INSERT INTO "users" ("username","email") VALUES ('alice', 'ar@e') ON CONFLICT DO NOTHING RETURNING "id"

UPDATE "users" SET "username" = $1, "age" = $2 WHERE "users"."id" = $3
--! params: ar | 9 | 1

UPDATE "users" SET "age" = COALESCE("users"."age", 0) + 1 WHERE "users"."username" = $1
--! params: alice

DELETE FROM "users" WHERE "users"."id" = $1
--! params: 1

SELECT COUNT(*) FROM "users" WHERE "users"."username" IN ('alice', 'bob')

SELECT "users"."username" FROM "users" INNER JOIN "orders" ON "orders"."user_id" = "users"."id" GROUP BY "users"."id" HAVING (COUNT("orders"."id") > 1)

SELECT DISTINCT "users"."username", "users"."id" AS alias_0 FROM "users" ORDER BY "users"."id" LIMIT $1
--! params: 2

SELECT "users"."age" AS "users_age", COUNT(*) AS "count_all", MAX("users"."username") AS "maximum_username" FROM "users" GROUP BY "users"."age" ORDER BY 1

--! group: hibernate
select u1_0.id,u1_0.age,u1_0.email,u1_0.username from users u1_0 where u1_0.username=$1
--! params: alice

select u1_0.id,u1_0.username,o1_0.user_id,o1_0.id,o1_0.handle from users u1_0 left join orders o1_0 on u1_0.id=o1_0.user_id where u1_0.id=$1 order by o1_0.id
--! params: 1

select u1_0.id,u1_0.handle from users u1_0 where u1_0.handle like $1 escape '' order by u1_0.id offset $2 rows fetch first $3 rows only
--! params: a% | 0 | 5

select u1_0.id,u1_0.username from users u1_0 where u1_0.id=$1 for no key update
--! params: 1

insert into users (age,email,username,id) values ($1,$2,$3,$4)
--! params: 1 | e | hib | 77

insert into users (age,email,username) values ($1,$2,$3) returning id
--! params: 1 | e | hib

update users set age=$1,email=$2,username=$3 where id=$4
--! params: 1 | e | hib | 1

update users set username=upper(username) where id in (select o1_0.user_id from orders o1_0 where o1_0.amount>$1)
--! params: 15

delete from users u1_0 where u1_0.username=$1
--! params: bob

--! group: prisma
SELECT "public"."users"."id", "public"."users"."username", "public"."users"."email" FROM "public"."users" WHERE ("public"."users"."username" = $1 AND 1=1) LIMIT $2 OFFSET $3
--! params: alice | 1 | 0

SELECT "public"."users"."id", "public"."users"."handle" FROM "public"."users" WHERE "public"."users"."handle" IN ($1,$2) ORDER BY "public"."users"."id" ASC OFFSET $3
--! params: alice | bob | 0

SELECT COUNT(*) AS "_count._all" FROM (SELECT "public"."users"."id" FROM "public"."users" WHERE "public"."users"."username" LIKE $1 OFFSET $2) AS "sub"
--! params: a% | 0

INSERT INTO "public"."users" ("username","email") VALUES ($1,$2) RETURNING "public"."users"."id", "public"."users"."username", "public"."users"."email"
--! params: pr | pr@e

INSERT INTO "public"."users" ("username","email") VALUES ($1,$2) ON CONFLICT ("username") DO UPDATE SET "email" = $3 WHERE ("public"."users"."username" = $4 AND 1=1) RETURNING "public"."users"."id", "public"."users"."username"
--! params: alice | pr@e | pr2@e | alice

UPDATE "public"."users" SET "username" = $1 WHERE ("public"."users"."id" = $2 AND 1=1) RETURNING "public"."users"."id", "public"."users"."username"
--! params: pr | 1

UPDATE "public"."users" SET "age" = ("public"."users"."age" + $1) WHERE ("public"."users"."username" = $2)
--! params: 1 | alice

DELETE FROM "public"."users" WHERE ("public"."users"."username" = $1 AND 1=1)
--! params: bob

SELECT "t0"."id", "t0"."username", "users_orders"."__prisma_data__" AS "orders" FROM "public"."users" AS "t0" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__" ORDER BY "__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('handle', "t1"."handle") AS "__prisma_data__" FROM (SELECT * FROM "public"."orders" AS "t1" WHERE "t0"."id" = "t1"."user_id") AS "t1") AS "t2") AS "users_orders" ON TRUE ORDER BY "t0"."id"

SELECT "t0"."id", "u"."__d" FROM "public"."orders" AS "t0" LEFT JOIN LATERAL (SELECT JSONB_BUILD_OBJECT('id', "t1"."id", 'username', "t1"."username") AS "__d" FROM (SELECT * FROM "public"."users" AS "t1" WHERE "t0"."user_id" = "t1"."id" LIMIT $1) AS "t1") AS "u" ON TRUE ORDER BY "t0"."id"
--! params: 1

--! group: sequelize
SELECT "id", "username", "email", "age" FROM "users" AS "User" WHERE "User"."username" = 'alice' LIMIT 1;

SELECT "User"."id", "User"."username", "Orders"."id" AS "Orders.id", "Orders"."handle" AS "Orders.handle" FROM "users" AS "User" LEFT OUTER JOIN "orders" AS "Orders" ON "User"."id" = "Orders"."user_id" ORDER BY "User"."id", "Orders"."id";

SELECT "User".*, "Orders"."id" AS "Orders.id" FROM (SELECT "User"."id", "User"."username" FROM "users" AS "User" ORDER BY "User"."id" LIMIT 2) AS "User" LEFT OUTER JOIN "orders" AS "Orders" ON "User"."id" = "Orders"."user_id" ORDER BY 1, 3;

INSERT INTO "users" ("id","username","email","created_at") VALUES (DEFAULT,$1,$2,$3) RETURNING "id","username","email","age","created_at";
--! params: sq | sq@e | 2024-01-01 00:00:00+00

INSERT INTO "users" ("username","email") VALUES ('alice','sq@e') ON CONFLICT ("username") DO UPDATE SET "username"=EXCLUDED."username","email"=EXCLUDED."email" RETURNING "id","username","email";

INSERT INTO "users" ("id","username") VALUES (DEFAULT,'s1'),(DEFAULT,'s2') RETURNING "id","username";

UPDATE "users" SET "username"=$1,"age"=$2 WHERE "id" = $3
--! params: sq | 1 | 1

UPDATE "users" SET "age"="age"+ 1 WHERE "username" = 'alice' RETURNING *

DELETE FROM "users" WHERE "username" = 'bob'

SELECT count(*) AS "count" FROM "users" AS "User" WHERE ("User"."username" LIKE 'a%' OR "User"."email" IS NULL);

--! group: gorm
SELECT * FROM "users" WHERE username = $1 ORDER BY "users"."id" LIMIT $2
--! params: alice | 1

SELECT * FROM "users" WHERE "users"."id" = $1 ORDER BY "users"."id" LIMIT 1
--! params: 1

SELECT * FROM "users" WHERE handle = $1 ORDER BY "users"."id" LIMIT 1
--! params: alice
--! auto: SELECT * FROM "users" WHERE username = $1 ORDER BY "users"."id" LIMIT 1

SELECT count(*) FROM "users" WHERE username IN ($1,$2)
--! params: alice | bob

SELECT "users"."id","users"."username","orders"."handle" FROM "users" left join orders on orders.user_id = users.id WHERE users.username <> $1 ORDER BY users.id, orders.id
--! params: bob

INSERT INTO "users" ("username","email","age") VALUES ($1,$2,$3) RETURNING "id","bio","created_at"
--! params: go | go@e | 5

INSERT INTO "users" ("username","email","id") VALUES ($1,$2,$3) ON CONFLICT ("id") DO UPDATE SET "username"="excluded"."username","email"="excluded"."email" RETURNING "id"
--! params: go | go@e | 1

UPDATE "users" SET "username"=$1,"email"=$2 WHERE "id" = $3
--! params: go | e | 1

UPDATE "users" SET "age"=age + $1 WHERE username = $2
--! params: 1 | alice

DELETE FROM "users" WHERE "users"."id" = $1
--! params: 1

--! group: ecto
SELECT u0."id", u0."username", u0."email", u0."age" FROM "users" AS u0 WHERE (u0."username" = $1)
--! params: alice

SELECT u0."id", u0."handle" FROM "users" AS u0 INNER JOIN "orders" AS o1 ON o1."user_id" = u0."id" WHERE (u0."handle" = ANY($1)) ORDER BY o1."id"
--! params: {alice,bob}

SELECT count(s0."id") FROM (SELECT su0."id" AS "id", su0."username" AS "username" FROM "users" AS su0 ORDER BY su0."id" LIMIT 3) AS s0

INSERT INTO "users" ("username","email","created_at") VALUES ($1,$2,$3) RETURNING "id"
--! params: ec | ec@e | 2024-01-01 00:00:00

INSERT INTO "users" AS u0 ("username","email") VALUES ($1,$2) ON CONFLICT ("username") DO UPDATE SET "email" = EXCLUDED."email" RETURNING "id"
--! params: alice | ec@e

INSERT INTO "users" ("username","email") VALUES ($1,$2),($3,DEFAULT) ON CONFLICT DO NOTHING
--! params: ec1 | e1 | ec2

UPDATE "users" SET "username" = $1 WHERE "id" = $2
--! params: ec | 1

UPDATE "users" AS u0 SET "age" = u0."age" + $1, "username" = $2 WHERE (u0."username" = $3)
--! params: 1 | ec | alice

UPDATE "users" AS u0 SET "username" = o1."handle" FROM "orders" AS o1 WHERE (o1."user_id" = u0."id") AND (o1."id" = $1)
--! params: 1

DELETE FROM "users" AS u0 WHERE (u0."username" = $1)
--! params: bob

DELETE FROM "users" AS u0 USING "orders" AS o1 WHERE (o1."user_id" = u0."id") AND (o1."handle" = $1) RETURNING u0."id", u0."username"
--! params: A-1

--! group: more of what ORMs send

SELECT "users"."id", "users"."username" FROM "users" INNER JOIN "orders" ON ("users"."id" = "orders"."user_id") WHERE "orders"."amount" > 10 ORDER BY "users"."id", "orders"."id" FOR NO KEY UPDATE OF "users" SKIP LOCKED

SELECT "users"."id", RANK() OVER (PARTITION BY "users"."age" ORDER BY "users"."username" DESC) AS "place", FIRST_VALUE("users"."username") OVER (PARTITION BY "users"."age" ORDER BY "users"."id" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS "first" FROM "users" ORDER BY "users"."id"

SELECT "users"."id" FROM "users" WHERE ("users"."bio" #>> '{tag}') = 'red' AND "users"."bio" @> '{"k": 1}'::jsonb AND "users"."tags" && ARRAY['admin']::text[] AND "users"."username"::text ILIKE $1
--! params: %a%

SELECT ("users"."bio" -> 'tag') AS "bio__tag", ARRAY_AGG("users"."username" ORDER BY "users"."username") AS "names" FROM "users" GROUP BY 1 ORDER BY 1 NULLS FIRST

SELECT u0."id", u0."username", o1."handle" FROM "users" AS u0 LEFT OUTER JOIN "orders" AS o1 ON o1."user_id" = u0."id" WHERE (u0."username" = ANY($1)) ORDER BY u0."id", o1."id"
--! params: {alice,bob}

INSERT INTO "users" AS u0 ("username","email") VALUES ($1,$2) ON CONFLICT ("username") DO UPDATE SET "email" = EXCLUDED."email", "age" = coalesce(u0."age", 0) + 1 RETURNING "id","age"
--! params: alice | ecto@e

UPDATE "users" AS u0 SET "username" = u0."username" || $1 FROM "orders" AS o1 WHERE (o1."user_id" = u0."id") AND (o1."id" = $2) RETURNING u0."id", u0."username"
--! params: -e | 3

DELETE FROM "users" AS u0 USING "orders" AS o1 WHERE (o1."user_id" = u0."id") AND (u0."username" = $1) RETURNING u0."id"
--! params: bob

SELECT sub."username", sub."n" FROM (SELECT u0."username" AS "username", count(o1."id") AS "n" FROM "users" AS u0 INNER JOIN "orders" AS o1 ON o1."user_id" = u0."id" GROUP BY u0."username") AS sub WHERE sub."n" > 1 ORDER BY 1

with cte as (select users.id, users.username from users where users.age > $1) update users set email = cte.username from cte where cte.id = users.id returning users.id, users.email
--! params: 29

insert into users (username, email) select * from unnest($1::varchar[], $2::text[]) on conflict (username) do update set email = excluded.email where users.email is distinct from excluded.email returning id, username
--! params: {alice,new1} | {a@n,NULL}

update users set username = v.username from (values (1::bigint, 'k1'), (2, 'k2')) as v(id, username) where users.id = v.id returning users.id, users.username

select "users"."username" as "name", coalesce("o"."total", 0) as "total" from "users" left join lateral (select sum("amount") as "total" from "orders" where "orders"."user_id" = "users"."id" and "orders"."username" = "users"."username") as "o" on true order by "users"."id"

SELECT "User"."id" AS "User_id", "User"."username" AS "User_username" FROM "users" "User" WHERE (("User"."username" = $1)) AND ( "User"."id" IN (1, 2) )
--! params: alice

SELECT DISTINCT "distinctAlias"."User_id" AS "ids_User_id", "distinctAlias"."User_username" FROM (SELECT "User"."id" AS "User_id", "User"."username" AS "User_username" FROM "users" "User" LEFT JOIN "orders" "Order" ON "Order"."user_id"="User"."id") "distinctAlias" ORDER BY "distinctAlias"."User_username" ASC, "User_id" ASC LIMIT 2

INSERT INTO "users"("id", "username", "email", "age", "bio", "created_at") VALUES (DEFAULT, $1, $2, DEFAULT, DEFAULT, DEFAULT) RETURNING "id", "age", "bio", "created_at"
--! params: typeorm | t@e

SAVEPOINT active_record_1;;
INSERT INTO "users" ("username") VALUES ('sp1') RETURNING "id";;
ROLLBACK TO SAVEPOINT active_record_1;;
SELECT "users".* FROM "users" WHERE "users"."username" = 'sp1'

SELECT "users"."id" FROM "users" WHERE "users"."username" > 'b' AND "users"."id" NOT IN (SELECT "orders"."user_id" FROM "orders" WHERE "orders"."user_id" IS NOT NULL) ORDER BY "users"."username" COLLATE "C" DESC LIMIT 3 OFFSET 1

SELECT CASE WHEN "users"."username" IN ('alice', 'bob') THEN 'known' WHEN "users"."username" LIKE 'g%' THEN 'g' ELSE "users"."username" END AS "label", COUNT(*) FILTER (WHERE "users"."age" > 20) AS "n" FROM "users" GROUP BY "label" ORDER BY "label"

select u1_0.username, listagg.s from users u1_0 join (select o1_0.user_id, string_agg(o1_0.handle, ',' order by o1_0.id) from orders o1_0 group by o1_0.user_id) listagg(user_id, s) on listagg.user_id = u1_0.id order by 1

delete from users where username in ($1, $2) returning username, (select count(*) from users x where x.username = users.username)
--! params: alice | bob

SELECT EXISTS (SELECT 1 FROM "users" WHERE "username" = 'alice' UNION ALL SELECT 1 FROM "orders" WHERE "username" = 'nobody') AS "one"
