-- A catalog row that changes gets another xmin; one that comes or goes changes the count.
SELECT concat_ws(' ',
  (SELECT count(*) || ':' || coalesce(sum(hashtext(concat(n.nspname, ' ', c.oid, ' ', c.xmin))), 0)
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {user}),
  (SELECT count(*) || ':' || coalesce(sum(hashtext(concat(a.attrelid, ' ', a.attnum, ' ', a.xmin))), 0)
   FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND {user}),
  (SELECT count(*) || ':' || coalesce(sum(hashtext(concat(d.oid, ' ', d.xmin))), 0)
   FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {user}),
  (SELECT count(*) || ':' || coalesce(sum(hashtext(concat(i.indexrelid, ' ', i.xmin))), 0)
   FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE i.indisprimary AND {user}),
  (SELECT count(*) || ':' || coalesce(sum(hashtext(concat(p.oid, ' ', p.xmin))), 0)
   FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype WHERE p.oid >= 16384 AND t.typtype = 'c'))
