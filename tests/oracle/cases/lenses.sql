--! group: quoted names
SELECT * FROM "User" ORDER BY "Id"

SELECT "Screen Name" FROM "User" ORDER BY "Id"

SELECT "Handle!" FROM "User" ORDER BY "Id"

SELECT "User"."Screen Name", "User"."order" FROM "User" ORDER BY 1

SELECT "User".* FROM public."User" ORDER BY 1

SELECT u."Handle!" AS "Screen Name" FROM "User" u ORDER BY u."Id"

SELECT "screen name" FROM "User"

SELECT "Screen Name" FROM "user"

SELECT U&"Screen\0020Name" FROM U&"\0055ser" ORDER BY 1

SELECT * FROM user

SELECT user, "Screen Name" FROM "User" WHERE "Id" = 1

SELECT max("Screen Name"), "order" FROM "User" GROUP BY "order" ORDER BY "order"

SELECT "Id", "Screen Name" FROM "User" GROUP BY "Id" ORDER BY 1

SELECT row_to_json("User") FROM "User" ORDER BY "Id"

INSERT INTO "User" ("Id", "Screen Name") VALUES (9, 'Zed')

INSERT INTO "User" ("Id", "Handle!") VALUES (9, 'Zed') RETURNING *
--! auto: INSERT INTO "User" ("Id", "Screen Name") VALUES (9, 'Zed') RETURNING *

INSERT INTO "User" ("Id") VALUES (9) RETURNING *

INSERT INTO "User" ("Id", "Screen Name") VALUES (9, DEFAULT) RETURNING "Screen Name"

INSERT INTO "User" ("Id", "Handle!") VALUES (9, DEFAULT) RETURNING "Handle!"
--! refusable in expanded

INSERT INTO "User" VALUES (9), (10)

INSERT INTO "User" VALUES (9, DEFAULT, 4), (10, 'x', DEFAULT) RETURNING *
--! refusable in expanded

INSERT INTO "User" ("Id", "Screen Name") VALUES (9, NULL)

INSERT INTO "User" ("Id", "Handle!") VALUES (9, NULL)

INSERT INTO "User" ("Id", "Screen Name") VALUES (1, 'up') ON CONFLICT ("Id") DO UPDATE SET "Screen Name" = EXCLUDED."Screen Name" || "User"."Screen Name" RETURNING "Screen Name"

UPDATE "User" SET "Screen Name" = 'x' WHERE "Id" = 1

UPDATE "User" SET "Screen Name" = "Screen Name" || '"' || "order" RETURNING *

UPDATE "User" SET "Handle!" = "Handle!" || 'x' RETURNING "Handle!"

UPDATE "User" SET "Screen Name" = DEFAULT RETURNING "Screen Name"

UPDATE "User" SET "Handle!" = DEFAULT RETURNING "Handle!"
--! refusable in expanded

UPDATE "User" u SET "order" = length(u."Screen Name") WHERE u."Screen Name" LIKE 'A%' RETURNING u.*

DELETE FROM "User" WHERE "Screen Name" = 'Cy' RETURNING *

UPDATE "User" SET "Screen Name" = $1 WHERE "Id" = $2
--! params: it's "q" | 1

COPY "User" ("Id", "Screen Name") FROM STDIN
--! except: soaking late: refused until the default is the old column's again
--! copy: 9\tcopied\n

COPY "User" ("Id") FROM STDIN
--! copy: 9\n

SELECT a."Screen Name", b.username FROM "User" a JOIN users b ON a."Id" = b.id ORDER BY 1

SELECT a."Handle!", b.handle FROM "User" a JOIN users b ON a."Id" = b.id ORDER BY 1

--! group: type change
SELECT * FROM scores ORDER BY id

SELECT score FROM scores ORDER BY id

SELECT score_int FROM scores ORDER BY id

SELECT id, score || '!' FROM scores ORDER BY id

SELECT id, score_int + 1 FROM scores ORDER BY id

SELECT score FROM scores ORDER BY score

SELECT score_int FROM scores ORDER BY score_int

SELECT id FROM scores ORDER BY score, id

SELECT id FROM scores ORDER BY score_int DESC NULLS LAST

SELECT id FROM scores WHERE score = '7'

SELECT id FROM scores WHERE score_int = 7

SELECT id FROM scores WHERE score_int = '7'

SELECT id FROM scores WHERE score > '5' ORDER BY id

SELECT id FROM scores WHERE score_int > 5 ORDER BY id

SELECT id FROM scores WHERE score = 7

SELECT id FROM scores WHERE score = $1
--! params: 7

SELECT id FROM scores WHERE score_int = $1
--! params: 7

SELECT id FROM scores WHERE score_int IS NULL

SELECT max(score), min(score), count(score) FROM scores

SELECT sum(score_int), avg(score_int) FROM scores

SELECT sum(score) FROM scores

SELECT player, sum(score_int) FROM scores GROUP BY player ORDER BY player

SELECT player, max(score) FROM scores GROUP BY player ORDER BY player

SELECT id, score, player FROM scores GROUP BY id ORDER BY id

SELECT score, count(*) FROM scores GROUP BY score ORDER BY score

SELECT s::text FROM scores s ORDER BY id

SELECT row_to_json(s) FROM scores s ORDER BY id

SELECT a.score, b.score FROM scores a JOIN scores b USING (score) ORDER BY a.id

SELECT a.id FROM scores a JOIN scores b USING (score_int) ORDER BY a.id
--! refusable: USING over a name of the other shape

SELECT score FROM scores UNION SELECT player FROM scores ORDER BY 1

SELECT score_int FROM scores UNION SELECT id FROM scores ORDER BY 1

SELECT DISTINCT ON (player) player, score FROM scores ORDER BY player, score DESC

SELECT score, rank() OVER (ORDER BY score) FROM scores ORDER BY 2

SELECT score::integer FROM scores ORDER BY 1

SELECT CASE WHEN score IS NULL THEN 'none' ELSE score END FROM scores ORDER BY id

SELECT score FROM scores WHERE id = 1 FOR UPDATE

SELECT pg_typeof(score) FROM scores WHERE id = 1

INSERT INTO scores (score) VALUES ('12') RETURNING *

INSERT INTO scores (score_int) VALUES (12) RETURNING score_int

INSERT INTO scores (score_int) VALUES ('12') RETURNING id, score_int + 1

INSERT INTO scores (score) VALUES (12) RETURNING score

INSERT INTO scores (score_int) VALUES (12.4) RETURNING score_int

INSERT INTO scores (score_int) VALUES ('abc')

INSERT INTO scores (score) VALUES ('abc') RETURNING *
--! phases: before ramping
--! shapes: old auto

INSERT INTO scores (score) VALUES (NULL) RETURNING score

INSERT INTO scores (player) VALUES ('new') RETURNING *

INSERT INTO scores DEFAULT VALUES RETURNING *

INSERT INTO scores (score, player) VALUES (DEFAULT, 'd'), ('5', DEFAULT) RETURNING *

INSERT INTO scores (score_int, player) VALUES (DEFAULT, 'd'), (5, DEFAULT) RETURNING score_int, player
--! refusable in expanded

INSERT INTO scores VALUES (50, '5')

INSERT INTO scores VALUES (50, 5)

INSERT INTO scores (score, player) SELECT score, player || '2' FROM scores

INSERT INTO scores (score_int, player) SELECT score_int + 1, player || '2' FROM scores

INSERT INTO scores (score) SELECT id FROM users

INSERT INTO scores (score) VALUES (nextval('probe')) RETURNING score

INSERT INTO scores (score_int) VALUES (nextval('probe')) RETURNING score_int
--! refusable in expanded

INSERT INTO scores (score) VALUES ($1) RETURNING score
--! params: 15

INSERT INTO scores (score_int) VALUES ($1) RETURNING score_int
--! params: 15

INSERT INTO scores (score, player) VALUES ($1, $1)
--! params: 15

INSERT INTO scores (score_int, player) VALUES ($1, $2)
--! params: 15 | p

INSERT INTO scores (score_int) VALUES ($1 + 1)
--! params: 15

INSERT INTO scores (id, score) VALUES (1, '99') ON CONFLICT (id) DO UPDATE SET score = excluded.score RETURNING score

INSERT INTO scores (id, score) VALUES (1, '99') ON CONFLICT (id) DO UPDATE SET score = scores.score || excluded.score RETURNING score

INSERT INTO scores (id, score_int) VALUES (1, 99) ON CONFLICT (id) DO UPDATE SET score_int = scores.score_int + excluded.score_int RETURNING score_int

UPDATE scores SET score = '42' WHERE id = 1 RETURNING score

UPDATE scores SET score = 42 WHERE id = 1

UPDATE scores SET score_int = 42 WHERE id = 1 RETURNING score_int

UPDATE scores SET score_int = '42' WHERE id = 1

UPDATE scores SET score_int = 'abc' WHERE id = 1

UPDATE scores SET score = 'abc' WHERE id = 1 RETURNING score
--! phases: before ramping
--! shapes: old auto

UPDATE scores SET score = score || '0' WHERE score <> '100' RETURNING *

UPDATE scores SET score_int = score_int * 2 + 1 RETURNING id, score_int

UPDATE scores SET score = NULL

UPDATE scores SET score_int = NULL WHERE score_int > 5

UPDATE scores SET score = DEFAULT RETURNING score

UPDATE scores SET score_int = DEFAULT RETURNING score_int
--! refusable in expanded

UPDATE scores SET score = (SELECT max(id) FROM users) WHERE id = 1 RETURNING score

UPDATE scores SET (score, player) = ('1', 'x') WHERE id = 1 RETURNING *

UPDATE scores SET (score_int, player) = (SELECT 1, 'x') WHERE id = 1 RETURNING score_int
--! refusable in expanded

UPDATE scores SET score = nextval('probe') WHERE id < 3 RETURNING score

UPDATE scores SET score = $1 WHERE score = $2
--! params: 8 | 7

UPDATE scores SET score_int = $1 WHERE score_int = $2
--! params: 8 | 7

UPDATE scores SET score_int = score_int + $1 WHERE id = $2 RETURNING score_int
--! params: 8 | 1

UPDATE scores SET score = $1, player = $1 WHERE id = $2
--! params: 8 | 1

UPDATE scores SET score = b.score FROM scores b WHERE b.id = scores.id + 1 RETURNING scores.id, scores.score, b.score

UPDATE scores SET player = score WHERE score IS NOT NULL RETURNING player

UPDATE scores SET score = CASE WHEN score IS NULL THEN '0' ELSE score END

UPDATE scores SET score = length(player) RETURNING score

DELETE FROM scores WHERE score = '7' RETURNING *

DELETE FROM scores WHERE score_int < 8 RETURNING score_int

WITH x AS (UPDATE scores SET score = '5' RETURNING *) SELECT score || '!' FROM x ORDER BY 1

MERGE INTO scores s USING (VALUES (1, '5'), (90, '6')) v (id, x) ON s.id = v.id WHEN MATCHED THEN UPDATE SET score = v.x WHEN NOT MATCHED THEN INSERT (id, score) VALUES (v.id, v.x)
--! refusable: MERGE into the table

COPY scores (score) FROM STDIN
--! refusable: a value that must be converted
--! copy: 3\n4\n

COPY scores (score_int) FROM STDIN
--! refusable: a value that must be converted
--! copy: 3\n4\n

COPY scores FROM STDIN
--! copy: 90\t3\tp\n
--! refusable: a value that must be converted

COPY scores TO STDOUT

COPY scores (score) TO STDOUT

COPY scores (score_int, id) TO STDOUT (FORMAT csv, HEADER)

SELECT s.score, u.username FROM scores s JOIN users u ON u.id = s.id ORDER BY 2

SELECT s.score_int, u.handle FROM scores s JOIN users u ON u.id = s.score_int ORDER BY 2

WITH x AS (UPDATE users SET username = 'multi' WHERE id = 1 RETURNING id) UPDATE scores SET score = x.id FROM x RETURNING score

WITH a AS (INSERT INTO users (username) VALUES ('m1') RETURNING id), b AS (INSERT INTO "User" ("Id", "Screen Name") SELECT id, 'm' FROM a RETURNING "Screen Name") INSERT INTO scores (score, player) SELECT '3', "Screen Name" FROM b RETURNING *
