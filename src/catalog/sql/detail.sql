-- One table as JSON (`schema::TableDetail`). Columns that only newer versions have are read through to_jsonb.
SELECT jsonb_build_object(
  'relation', {relation},
  'server_version', current_setting('server_version_num')::int,
  'inherits', c.relispartition
    OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid OR h.inhparent = c.oid),
  'typed', c.reloftype <> 0,
  'publications', coalesce((
    SELECT jsonb_agg(DISTINCT p.pubname) FROM pg_publication_tables p
    WHERE p.schemaname = n.nspname AND p.tablename = c.relname), '[]'),
  'columns', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'number', a.attnum,
      'collation', CASE WHEN a.attcollation <> t.typcollation THEN
        (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation co
         JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) END,
      'deterministic', coalesce((SELECT co.collisdeterministic FROM pg_collation co WHERE co.oid = a.attcollation), true),
      'statistics', nullif((to_jsonb(a) ->> 'attstattarget')::int, -1),
      'storage', CASE WHEN a.attstorage <> t.typstorage THEN
        CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END,
      'compression', CASE to_jsonb(a) ->> 'attcompression' WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
      'options', coalesce(to_jsonb(a.attoptions), '[]'),
      'comment', col_description(c.oid, a.attnum),
      'grants', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
          'privilege', g.privilege_type,
          'grantee', CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
          'grantable', g.is_grantable) ORDER BY g.grantee, g.privilege_type)
        FROM aclexplode(a.attacl) g), '[]'),
      'owned_sequence', (
        SELECT format('%I.%I', sn.nspname, s.relname)
        FROM pg_depend dep JOIN pg_class s ON s.oid = dep.objid AND s.relkind = 'S'
        JOIN pg_namespace sn ON sn.oid = s.relnamespace
        WHERE dep.classid = 'pg_class'::regclass AND dep.refclassid = 'pg_class'::regclass
          AND dep.refobjid = c.oid AND dep.refobjsubid = a.attnum AND dep.deptype = 'a' LIMIT 1),
      'foreign_type', t.typtype = 'c'
        OR t.typtype = 'b' AND t.typelem = 0 AND t.typnamespace <> 'pg_catalog'::regnamespace)
      ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
  'indexes', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'name', ic.relname,
      'method', am.amname,
      'unique', i.indisunique,
      'nulls_not_distinct', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
      'primary', i.indisprimary,
      'valid', i.indisvalid,
      'replica_identity', i.indisreplident,
      'clustered', i.indisclustered,
      'keys', (
        SELECT jsonb_agg(jsonb_build_object(
          'column', a.attname,
          'expression', CASE WHEN i.indkey[part.place] = 0 THEN pg_get_indexdef(ic.oid, part.place + 1, false) END,
          'collation', CASE WHEN i.indcollation[part.place] <> 0
              AND (a.attnum IS NULL OR a.attcollation <> i.indcollation[part.place]) THEN
            (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation co
             JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = i.indcollation[part.place]) END,
          'opclass', CASE WHEN NOT oc.opcdefault OR ia.attoptions IS NOT NULL THEN
            (SELECT format('%I.%I', ocn.nspname, oc.opcname) FROM pg_namespace ocn WHERE ocn.oid = oc.opcnamespace) END,
          'opclass_options', coalesce(to_jsonb(ia.attoptions), '[]'),
          'descending', (i.indoption[part.place] & 1) <> 0,
          'nulls_first', (i.indoption[part.place] & 2) <> 0) ORDER BY part.place)
        FROM generate_series(0, i.indnkeyatts - 1) AS part(place)
        JOIN pg_opclass oc ON oc.oid = i.indclass[part.place]
        LEFT JOIN pg_attribute ia ON ia.attrelid = ic.oid AND ia.attnum = part.place + 1
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[part.place] AND a.attnum > 0),
      'include', coalesce((
        SELECT jsonb_agg(a.attname ORDER BY part.place)
        FROM generate_series(i.indnkeyatts, i.indnatts - 1) AS part(place)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[part.place]), '[]'),
      'predicate', pg_get_expr(i.indpred, i.indrelid),
      'options', coalesce(to_jsonb(ic.reloptions), '[]'),
      'tablespace', (SELECT quote_ident(ts.spcname) FROM pg_tablespace ts WHERE ts.oid = ic.reltablespace),
      'comment', obj_description(ic.oid, 'pg_class'),
      'constraint', (SELECT con.conname FROM pg_constraint con
        WHERE con.conindid = ic.oid AND con.conrelid = c.oid AND con.contype IN ('p', 'u', 'x')),
      'uses', coalesce((
        SELECT jsonb_agg(DISTINCT used.num) FROM (
          SELECT i.indkey[part.place]::int AS num FROM generate_series(0, i.indnatts - 1) AS part(place)
          UNION ALL
          SELECT dep.refobjsubid FROM pg_depend dep
          WHERE dep.classid = 'pg_class'::regclass AND dep.objid = ic.oid
            AND dep.refclassid = 'pg_class'::regclass AND dep.refobjid = c.oid) used
        WHERE used.num > 0), '[]')) ORDER BY ic.oid)
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
    WHERE i.indrelid = c.oid), '[]'),
  'constraints', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'name', con.conname,
      'kind', con.contype,
      'columns', coalesce((
        SELECT jsonb_agg(a.attname ORDER BY k.place) FROM unnest(con.conkey) WITH ORDINALITY AS k(num, place)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num), '[]'),
      'expression', CASE WHEN con.contype = 'c' THEN pg_get_expr(con.conbin, con.conrelid) END,
      'deferrable', con.condeferrable,
      'deferred', con.condeferred,
      'validated', con.convalidated,
      'no_inherit', con.connoinherit,
      'not_enforced', NOT coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true),
      'foreign', CASE WHEN con.contype = 'f' THEN jsonb_build_object(
        'table', (SELECT jsonb_build_object('schema', fn.nspname, 'name', f.relname) FROM pg_class f
          JOIN pg_namespace fn ON fn.oid = f.relnamespace WHERE f.oid = con.confrelid),
        'columns', (
          SELECT jsonb_agg(a.attname ORDER BY k.place) FROM unnest(con.confkey) WITH ORDINALITY AS k(num, place)
          JOIN pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.num),
        'match_type', con.confmatchtype,
        'on_update', con.confupdtype,
        'on_delete', con.confdeltype,
        'on_delete_columns', coalesce((
          SELECT jsonb_agg(a.attname) FROM jsonb_array_elements_text(
            CASE jsonb_typeof(to_jsonb(con) -> 'confdelsetcols')
              WHEN 'array' THEN to_jsonb(con) -> 'confdelsetcols' ELSE '[]' END) AS k(num)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num::int), '[]')) END,
      'comment', obj_description(con.oid, 'pg_constraint')) ORDER BY con.conname COLLATE "C")
    FROM pg_constraint con WHERE con.conrelid = c.oid AND con.conparentid = 0), '[]'),
  'referenced_by', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'table', (SELECT jsonb_build_object('schema', fn.nspname, 'name', f.relname) FROM pg_class f
        JOIN pg_namespace fn ON fn.oid = f.relnamespace WHERE f.oid = con.conrelid),
      'name', con.conname,
      'columns', (
        SELECT jsonb_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a JOIN pg_index i ON i.indexrelid = con.conindid
        WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))) ORDER BY con.conname COLLATE "C")
    FROM pg_constraint con WHERE con.confrelid = c.oid AND con.contype = 'f' AND con.conparentid = 0), '[]'),
  'triggers', coalesce((
    SELECT jsonb_agg(jsonb_build_object(
      'name', tg.tgname,
      'definition', pg_get_triggerdef(tg.oid),
      'function', tg.tgfoid::regproc::text,
      'source', (SELECT p.prosrc FROM pg_proc p WHERE p.oid = tg.tgfoid),
      'changes_rows', (tg.tgtype & 3) = 3 AND (tg.tgtype & 20) <> 0,
      'enabled', tg.tgenabled,
      'of_columns', to_jsonb(tg.tgattr::int2[])) ORDER BY tg.tgname COLLATE "C")
    FROM pg_trigger tg WHERE tg.tgrelid = c.oid AND NOT tg.tgisinternal), '[]'),
  'dependents', coalesce((
    SELECT jsonb_agg(DISTINCT jsonb_build_object('kind', found.kind, 'name', found.name, 'column', found.attname))
    FROM (
      SELECT a.attname,
        CASE
          WHEN dep.classid = 'pg_rewrite'::regclass THEN CASE
            WHEN r.rulename <> '_RETURN' THEN 'rule'
            WHEN rc.relkind = 'm' THEN 'materialized_view' ELSE 'view' END
          WHEN dep.classid = 'pg_policy'::regclass THEN 'policy'
          WHEN dep.classid = 'pg_trigger'::regclass THEN 'trigger'
          WHEN dep.classid = 'pg_publication_rel'::regclass THEN 'publication'
          WHEN dep.classid = 'pg_attrdef'::regclass THEN 'generated_column'
          WHEN dep.classid = 'pg_proc'::regclass THEN 'function'
          WHEN dep.classid = 'pg_statistic_ext'::regclass THEN 'statistics'
          WHEN dep.classid = 'pg_class'::regclass AND dep.objid = c.oid THEN 'generated_column'
          WHEN dep.classid = 'pg_class'::regclass THEN 'sequence'
          ELSE 'other' END AS kind,
        CASE WHEN dep.classid = 'pg_rewrite'::regclass AND r.rulename = '_RETURN'
          THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0)
          ELSE pg_describe_object(dep.classid, dep.objid, dep.objsubid) END AS name
      FROM pg_depend dep
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = dep.refobjsubid
      LEFT JOIN pg_rewrite r ON dep.classid = 'pg_rewrite'::regclass AND r.oid = dep.objid
      LEFT JOIN pg_class rc ON rc.oid = r.ev_class
      LEFT JOIN pg_class own ON dep.classid = 'pg_class'::regclass AND own.oid = dep.objid
      LEFT JOIN pg_attrdef ad ON dep.classid = 'pg_attrdef'::regclass AND ad.oid = dep.objid
      LEFT JOIN pg_trigger tg ON dep.classid = 'pg_trigger'::regclass AND tg.oid = dep.objid
      WHERE dep.refclassid = 'pg_class'::regclass AND dep.refobjid = c.oid AND dep.refobjsubid > 0
        AND dep.classid <> 'pg_constraint'::regclass
        -- Before 15 a generated column depends as a column of the table, later as its default does.
        AND (dep.classid <> 'pg_class'::regclass OR own.relkind = 'S' OR dep.objid = c.oid AND dep.objsubid > 0)
        AND (dep.classid <> 'pg_attrdef'::regclass OR ad.adrelid <> c.oid OR ad.adnum <> dep.refobjsubid)
        AND coalesce(NOT tg.tgisinternal, true)
        AND coalesce(tg.tgname !~ '^[!~]crossfade_', true)) found), '[]'),
  'names_taken', coalesce((
    SELECT jsonb_agg(o.relname) FROM pg_class o WHERE o.relnamespace = n.oid AND o.relname LIKE '~crossfade\_%'), '[]'))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
