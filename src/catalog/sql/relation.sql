-- One relation as JSON (`schema::Relation`), of pg_class c in pg_namespace n.
jsonb_build_object(
  'oid', c.oid::bigint,
  'name', jsonb_build_object('schema', n.nspname, 'name', c.relname),
  'kind', c.relkind,
  'columns', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'name', a.attname,
      'number', a.attnum,
      'type_sql', format_type(a.atttypid, a.atttypmod),
      -- With -1, not NULL: `bpchar` and not `character`, which would be a cast to one character.
      'base_type_sql', format_type(a.atttypid, -1),
      'not_null', a.attnotnull,
      'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
      'generated', a.attgenerated <> '',
      'identity', a.attidentity <> '') ORDER BY a.attnum)
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
  'primary_key', coalesce((
    SELECT jsonb_agg(a.attname ORDER BY part.place)
    FROM pg_index i
    CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS part(place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[part.place]
    WHERE i.indrelid = c.oid AND i.indisprimary), '[]'))
