--! group: types: reads
--! auto: old
SELECT * FROM members ORDER BY id

--! auto: old
SELECT age FROM members ORDER BY id

--! auto: old
SELECT m.age, members.name FROM members m, members ORDER BY m.id, members.id

--! auto: old
SELECT id, age || '!' FROM members ORDER BY id

--! auto: old
SELECT id, age + 1 FROM members ORDER BY id

--! auto: old
SELECT age FROM members ORDER BY age

--! auto: old
SELECT id FROM members ORDER BY age DESC NULLS LAST

--! auto: old
SELECT id FROM members WHERE age = '4'

--! auto: old
SELECT id FROM members WHERE age = 4

--! auto: old
SELECT id FROM members WHERE age > '30' ORDER BY id

--! auto: old
--! params: 4
SELECT id FROM members WHERE age = $1

--! auto: old
--! params: 4
SELECT id, age = $1 FROM members ORDER BY id

--! auto: old
SELECT id FROM members WHERE age IN ('4', '30') ORDER BY id

--! auto: old
SELECT id FROM members WHERE age IS NULL

--! auto: old
SELECT id FROM members WHERE age = 'abc'

--! auto: old
SELECT max(age), min(age), count(age) FROM members

--! auto: old
SELECT sum(age) FROM members

--! auto: old
SELECT name, max(age) FROM members GROUP BY name ORDER BY name

--! auto: old
SELECT id, age, name FROM members GROUP BY id ORDER BY id

--! auto: old
SELECT age, count(*) FROM members GROUP BY age ORDER BY age

--! auto: old
SELECT m::text FROM members m ORDER BY id

--! auto: old
SELECT row_to_json(m) FROM members m ORDER BY id

--! auto: old
SELECT to_jsonb(members) FROM members ORDER BY id

--! auto: old
SELECT a.age, b.age FROM members a JOIN members b USING (age) ORDER BY a.id

--! auto: old
SELECT count(*) FROM members NATURAL JOIN members b

--! auto: old
SELECT age FROM members UNION SELECT age FROM members ORDER BY 1

--! auto: old
SELECT age FROM users UNION ALL SELECT length(age::text) FROM members ORDER BY 1

--! auto: old
SELECT DISTINCT ON (name) name, age FROM members ORDER BY name, age DESC

--! auto: old
SELECT age, rank() OVER (ORDER BY age) FROM members ORDER BY 2

--! auto: old
SELECT age::integer FROM members ORDER BY 1

--! auto: old
SELECT CASE WHEN age IS NULL THEN 'none' ELSE age::text END FROM members ORDER BY id

--! auto: old
SELECT age FROM members WHERE id = 1 FOR UPDATE

--! auto: old
SELECT pg_typeof(age) FROM members WHERE id = 1

--! auto: old
SELECT u.age, m.age FROM users u JOIN members m ON u.id = m.id ORDER BY u.id

--! auto: old
SELECT u.username, (SELECT age FROM members m WHERE m.id = u.id) FROM users u ORDER BY u.id

--! auto: old
SELECT username, (SELECT max(age) FROM members) FROM users ORDER BY id

--! auto: old
SELECT age FROM users, members

--! auto: old
WITH m AS (SELECT age FROM members) SELECT * FROM m ORDER BY age

--! auto: old
WITH members AS (SELECT 1 AS age) SELECT age FROM members

--! auto: old
SELECT members.age FROM public.members ORDER BY members.id

--! auto: old
TABLE members ORDER BY id

--! auto: old
COPY members TO STDOUT

--! auto: old
COPY members (age, id) TO STDOUT

--! auto: old
SELECT "~crossfade_members-age_s_00000000" FROM members

--! group: types: writes
--! auto: old
INSERT INTO members (age) VALUES ('12') RETURNING *

--! auto: old
INSERT INTO members (age) VALUES (12) RETURNING age

--! auto: old
INSERT INTO members (age) VALUES (NULL) RETURNING age

--! auto: old
INSERT INTO members (name) VALUES ('new') RETURNING *

--! auto: old
INSERT INTO members DEFAULT VALUES RETURNING *
--! refusable in expanded

--! auto: old
INSERT INTO members (age, name) VALUES (DEFAULT, 'd'), ('5', DEFAULT) RETURNING *
--! refusable in expanded

--! auto: old
INSERT INTO members VALUES (50, '5')

--! auto: old
INSERT INTO members VALUES (50, 5, 'x') RETURNING age

--! auto: old
INSERT INTO members SELECT id + 50, NULL, name FROM members
--! refusable in expanded

--! auto: old
INSERT INTO members (age, name) SELECT '7', 'seven'

--! auto: old
INSERT INTO members (age) SELECT id::text FROM users WHERE id > 4
--! refusable in expanded

--! auto: old
INSERT INTO members (age) SELECT id FROM users WHERE id > 4
--! refusable in expanded

--! auto: old
INSERT INTO members (age) VALUES (nextval('probe')) RETURNING age
--! refusable in expanded

--! auto: old
INSERT INTO members (age) VALUES (nextval('probe')::text) RETURNING age
--! refusable in expanded

--! auto: old
--! params: 44
INSERT INTO members (age) VALUES ($1) RETURNING age

--! auto: old
--! params: 44
INSERT INTO members (age, name) VALUES ($1, $1)

--! auto: old
--! params: 44 | x
INSERT INTO members (age, name) VALUES ($1, $2)

--! auto: old
INSERT INTO members (id, age) VALUES (1, '99') ON CONFLICT (id) DO UPDATE SET age = excluded.age RETURNING age

--! auto: old
INSERT INTO members (id, age) VALUES (1, '99') ON CONFLICT (id) DO UPDATE SET age = members.age || excluded.age RETURNING age

--! auto: old
INSERT INTO members (id, age) VALUES (1, 99) ON CONFLICT (id) DO UPDATE SET age = members.age + excluded.age RETURNING age

--! auto: old
INSERT INTO members (age, name) VALUES ('4', 'again') ON CONFLICT (age) DO NOTHING RETURNING id

--! auto: old
INSERT INTO members (age, name) VALUES ('4', 'again') ON CONFLICT (age) DO UPDATE SET name = excluded.name RETURNING id, name

--! auto: old
INSERT INTO members (age) VALUES ('4')

--! auto: old
INSERT INTO members (age, age) VALUES ('4', '5')

--! auto: old
UPDATE members SET age = '42' WHERE id = 1 RETURNING age

--! auto: old
UPDATE members SET age = 42 WHERE id = 1

--! auto: old
UPDATE members SET age = NULL RETURNING id, age

--! auto: old
UPDATE members SET age = DEFAULT WHERE id = 1 RETURNING age
--! refusable in expanded

--! auto: old
UPDATE members SET age = age WHERE id < 3 RETURNING age

--! auto: old
UPDATE members SET age = age || '0' WHERE id < 3 RETURNING age

--! auto: old
UPDATE members SET age = age + 1000 WHERE id < 3 RETURNING age

--! auto: old
UPDATE members SET name = age WHERE id < 3 RETURNING name

--! auto: old
UPDATE members SET name = 'x' WHERE age = '4' RETURNING *

--! auto: old
UPDATE members SET (age, name) = ('8', 'eight') WHERE id = 1 RETURNING age, name

--! auto: old
UPDATE members SET (age, name) = (SELECT '8', 'eight') WHERE id = 1
--! refusable: several columns from a subquery, one of which must be converted
--! state-only: the place of an error is in the sub-select that stores both sides

--! auto: old
UPDATE members SET age = (SELECT '8') WHERE id = 1
--! refusable in expanded

--! auto: old
UPDATE members SET age = m.age || '1' FROM members m WHERE m.id = members.id AND members.id = 1 RETURNING members.age, m.age

--! auto: old
UPDATE members m SET age = users.age + 500 FROM users WHERE users.id = m.id AND m.id = 1

--! auto: old
--! params: 77
UPDATE members SET age = $1 WHERE id = 1

--! auto: old
--! params: 4 | 77
UPDATE members SET age = $2 WHERE age = $1 RETURNING age

--! auto: old
UPDATE members SET age = '1', age = '2'

--! auto: old
DELETE FROM members WHERE age = '4' RETURNING *

--! auto: old
DELETE FROM members USING users WHERE users.age::text = members.age::text RETURNING members.id

--! auto: old
WITH gone AS (DELETE FROM members WHERE age = '4' RETURNING age) SELECT * FROM gone

--! auto: old
MERGE INTO members USING (VALUES (1, '61'), (60, '62')) AS v(id, age) ON members.id = v.id WHEN MATCHED THEN UPDATE SET name = v.age WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.age)
--! refusable: MERGE into the table

--! auto: old
--! copy: 60\t61\tx\n
COPY members FROM STDIN
--! refusable: a value that must be converted

--! auto: old
--! copy: 60\t61\n
COPY members (id, age) FROM STDIN
--! refusable: a value that must be converted

--! shapes: old
--! copy: 60\t61\tx\n61\t\N\ty\n62\t7\tz\n
COPY members FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 61\t60\n7\t61\n
COPY public.members (age, id) FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: x\ty\n
COPY members (name) FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: id,age,name\n60,61,x\n61,"7","y, z"\n62,,""\n
COPY members FROM STDIN WITH (FORMAT csv, HEADER, FORCE_NULL (name))
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 60,"",x\n
COPY members (id, age, name) FROM STDIN WITH (FORMAT csv, FORCE_NULL (age), NULL '');
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 60;61\n62;63\n
COPY members (id, age) FROM STDIN DELIMITER ';' -- to the end
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 60\t61\n61\t7\n62\t8\n
COPY members (id, age) FROM STDIN WHERE age <> '7' AND id < 62 OR id = 60
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 60\t61\n60\t61\n
COPY members (id, age) FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 1\t61\n
COPY members (id, age) FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: \N\t61\n
COPY members (id, age) FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: PGCOPY\n\xff\x0d\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x3c\x00\x00\x00\x0261\xff\xff
COPY members (id, age) FROM STDIN (FORMAT binary)
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 60\t\N\t\N\n
COPY members FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: 60\t61\tx\tmore\n
COPY members FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
--! copy: x\t61\tx\n
COPY members FROM STDIN
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
COPY members (age, age) FROM STDIN
--! copy: 60\t61\n
--! except: soaking late: refused until the default is the old column's again

--! shapes: old
COPY members (age, years) FROM STDIN
--! copy: 60\t61\n

--! phases: shielded expanded dual_writing verified ramping soaking rolling_back
--! shapes: old auto
--! auto: old
INSERT INTO members (age) VALUES ('abc') RETURNING *
--! except: soaking late: what does not fit is refused, as in contracting

--! phases: shielded expanded dual_writing verified ramping soaking rolling_back
--! shapes: old auto
--! auto: old
INSERT INTO members (age) VALUES ('042') RETURNING age
--! except: soaking late: what does not fit is refused, as in contracting

--! phases: shielded expanded dual_writing verified ramping soaking rolling_back
--! shapes: old auto
--! auto: old
UPDATE members SET age = 'abc' WHERE id = 1 RETURNING age
--! except: soaking late: what does not fit is refused, as in contracting

--! phases: shielded expanded dual_writing verified ramping soaking rolling_back
--! shapes: old auto
--! auto: old
UPDATE members SET age = age || 'x' RETURNING age
--! except: soaking late: what does not fit is refused, as in contracting

--! phases: shielded expanded dual_writing verified ramping soaking rolling_back
--! shapes: old auto
--! auto: old
--! params: abc
UPDATE members SET age = $1 WHERE id = 1 RETURNING *
--! except: soaking late: what does not fit is refused, as in contracting

--! shapes: new
INSERT INTO members (age) VALUES ('abc')

--! shapes: new
UPDATE members SET age = 'abc' WHERE id = 1

--! shapes: new
UPDATE members SET (age, name) = (SELECT 8, 'eight') WHERE id = 1 RETURNING *

--! shapes: new
UPDATE members SET age = (SELECT max(u.age) + 500 FROM users u) WHERE id = 1 RETURNING age
