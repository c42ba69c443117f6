--! group: information_schema
SELECT table_name, column_name, data_type, character_maximum_length, character_octet_length, numeric_precision,
  numeric_precision_radix, numeric_scale, udt_schema, udt_name, is_nullable
FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2

SELECT column_name, column_default FROM INFORMATION_SCHEMA.COLUMNS WHERE table_name = 'User' ORDER BY 1

SELECT count(*) FROM information_schema.columns WHERE column_name IN ('username', 'handle') AND table_schema IN ('public', 'app')

SELECT information_schema.columns.column_name FROM information_schema.columns
WHERE information_schema.columns.table_name = 'users' AND table_schema = 'public' ORDER BY information_schema.columns.column_name

SELECT c.* FROM (SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public') AS c ORDER BY 1, 2

SELECT tc.table_name, tc.constraint_name, tc.constraint_type, kcu.column_name, kcu.position_in_unique_constraint
FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu
  USING (constraint_schema, constraint_name) WHERE tc.table_schema = 'public' ORDER BY 1, 2, 4

SELECT table_name, column_name, constraint_name FROM information_schema.constraint_column_usage
WHERE table_schema = 'public' ORDER BY 1, 2, 3

SELECT constraint_name, check_clause FROM information_schema.check_constraints
WHERE constraint_schema = 'public' AND constraint_name NOT LIKE '%\_not\_null' ORDER BY 1

SELECT regexp_replace(check_clause, '^(.*) IS NOT NULL$', '\1') FROM information_schema.check_constraints
WHERE constraint_schema = 'public' AND constraint_name LIKE '%\_not\_null' ORDER BY 1

SELECT trigger_name, event_manipulation, event_object_table FROM information_schema.triggers ORDER BY 1, 2

SELECT grantee, table_name, column_name, privilege_type FROM information_schema.column_privileges
WHERE table_schema = 'public' ORDER BY 1, 2, 3, 4

SELECT table_name, column_name, udt_name FROM information_schema.column_udt_usage WHERE table_schema = 'public' ORDER BY 1, 2

--! params: users
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1 ORDER BY column_name

--! group: pg_attribute
--! except: soaking late: the default is on the new column for a moment
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attlen, a.attbyval, a.attalign, a.attstorage,
  a.atthasdef, a.attcollation::regcollation
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2

SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = 'public.users'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname

SELECT pg_catalog.pg_attribute.attname FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class
  ON pg_catalog.pg_class.oid = pg_catalog.pg_attribute.attrelid
WHERE pg_catalog.pg_class.relname = 'scores' AND pg_catalog.pg_attribute.attnum > 0 AND NOT pg_catalog.pg_attribute.attisdropped
ORDER BY pg_catalog.pg_attribute.attname

SELECT a.attname, a.tableoid::regclass FROM pg_attribute a WHERE a.attrelid = 'public.users'::regclass AND a.attnum = 1

SELECT count(a), count(a.*) FROM pg_attribute AS a WHERE a.attrelid IN ('public.users'::regclass, 'public.scores'::regclass)
  AND a.attnum > 0 AND NOT attisdropped

SELECT c.relname, c.relkind, count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relname IN ('users', 'scores', 'User') AND a.attnum > 0 AND NOT a.attisdropped GROUP BY c.oid ORDER BY c.relname

SELECT d.adrelid::regclass, a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute a
  ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum) WHERE d.adrelid IN ('users'::regclass, '"User"'::regclass) ORDER BY 1, 2

SELECT a.attname, (SELECT pg_get_expr(d.adbin, d.adrelid, true) FROM pg_attrdef d WHERE d.adrelid = a.attrelid
  AND d.adnum = a.attnum AND a.atthasdef) FROM ONLY pg_attribute a WHERE a.attrelid = '"User"'::regclass AND a.attnum > 0
  AND NOT a.attisdropped ORDER BY a.attname

--! group: indexes and constraints
SELECT c.relname, i.indisunique, pg_get_indexdef(i.indexrelid), pg_catalog.pg_get_indexdef(i.indexrelid, 1, true)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE t.relnamespace = 'public'::regnamespace ORDER BY 1

SELECT c.relname, array_agg(a.attname::text ORDER BY k.n) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, n)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid IN ('users'::regclass, 'scores'::regclass) GROUP BY c.relname ORDER BY 1

SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2

SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace ORDER BY relname

SELECT pg_get_indexdef(indexrelid), count(*) FROM pg_index WHERE indrelid = 'public.users'::regclass
GROUP BY pg_get_indexdef(indexrelid) ORDER BY pg_get_indexdef(indexrelid)

SELECT conname, contype, pg_get_constraintdef(oid), pg_get_constraintdef(oid, true) FROM pg_constraint
WHERE conrelid IN ('users'::regclass, '"User"'::regclass) AND contype <> 'n' ORDER BY 1

SELECT con.conname, (SELECT array_agg(att.attname::text ORDER BY att.attname) FROM pg_attribute att
  WHERE att.attrelid = con.conrelid AND att.attnum = ANY (con.conkey)) AS names
FROM pg_constraint con WHERE con.conrelid = 'public.users'::regclass AND con.contype IN ('p', 'u', 'c') ORDER BY 1

SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.users'::regclass AND NOT tgisinternal

--! group: other statements over catalogs
EXPLAIN (COSTS off) SELECT 1 FROM (SELECT 1) AS pg_class

WITH columns AS (SELECT 1 AS column_name) SELECT * FROM columns

WITH pg_attribute AS (SELECT 'x'::text AS attname) SELECT attname FROM pg_attribute

PREPARE asked (name) AS SELECT attname FROM pg_attribute WHERE attrelid = 'public.users'::regclass AND attname <> $1
  AND attnum > 0 AND NOT attisdropped ORDER BY 1;;
EXECUTE asked ('id')

--! simple
COPY (SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'scores' ORDER BY 1) TO STDOUT

DECLARE asked CURSOR FOR SELECT attname FROM pg_attribute WHERE attrelid = 'public.users'::regclass AND attnum > 0
  AND NOT attisdropped ORDER BY 1;;
FETCH ALL FROM asked

INSERT INTO log (message) SELECT column_name FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = 'users' ORDER BY 1 RETURNING message

SELECT u.id, a.attname FROM users u JOIN pg_attribute a ON a.attrelid = 'public.users'::regclass AND a.attname = 'email'
WHERE u.id = 1

--! shapes: old
SELECT username, (SELECT count(*) FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'username')
FROM users WHERE id < 3 ORDER BY id

SELECT pg_get_serial_sequence('public.users', 'id'), pg_get_serial_sequence(table_schema || '.' || table_name, column_name)
FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'users' ORDER BY column_name

SELECT nope FROM pg_attribute

SELECT pg_get_indexdef(1)

SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relnatts <>
  (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)

SELECT ct.relname, pg_catalog.pg_get_indexdef(i.indexrelid, generate_series(1, i.indnatts)::int, false) IS NOT NULL
FROM pg_class ct JOIN pg_index i ON i.indrelid = ct.oid WHERE ct.relname = 'users' ORDER BY 1, 2
