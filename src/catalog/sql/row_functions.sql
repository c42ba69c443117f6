-- Functions of the user's that give rows of a table, as JSON (`schema::RowFunction`). Those of the system have lower OIDs
-- ("FirstNormalObjectId" in PostgreSQL's access/transam.h).
SELECT jsonb_build_object(
  'name', jsonb_build_object('schema', fn.nspname, 'name', p.proname),
  'table', jsonb_build_object('schema', n.nspname, 'name', c.relname),
  'alone', bool_and(NOT EXISTS (
    SELECT 1 FROM pg_proc other WHERE other.proname = p.proname AND other.prorettype <> p.prorettype)))
FROM pg_proc p
JOIN pg_namespace fn ON fn.oid = p.pronamespace
JOIN pg_class c ON c.reltype = p.prorettype AND c.relkind IN ('r', 'p')
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.oid >= 16384 AND p.prokind IN ('f', 'w')
GROUP BY fn.nspname, p.proname, n.nspname, c.relname
