-- Version 3 of the schema crossfade: any key may stand in quarantine, and any role note it there.

-- A key may be longer than an entry of an index.
ALTER TABLE crossfade.quarantine DROP CONSTRAINT quarantine_pkey;
CREATE UNIQUE INDEX quarantine_by_key
    ON crossfade.quarantine (migration, hashtextextended(key, 0), hashtextextended(key, 1));

CREATE OR REPLACE FUNCTION crossfade.note_misfit(migration text, key text, error text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp
    AS $$
        INSERT INTO crossfade.quarantine (migration, key, error)
        SELECT m.name, $2, left($3, 1000) FROM crossfade.migrations m WHERE m.name = $1
        ON CONFLICT (migration, hashtextextended(key, 0), hashtextextended(key, 1))
        DO UPDATE SET error = excluded.error, noted_at = excluded.noted_at
    $$;

-- The sync trigger calls it as whoever writes. Where the default privileges of functions were revoked, nobody else could.
GRANT EXECUTE ON FUNCTION crossfade.note_misfit(text, text, text) TO PUBLIC;
