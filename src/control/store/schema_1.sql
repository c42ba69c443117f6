-- Version 1 of the schema crossfade: everything that the control plane knows. Run once, in one transaction.

-- Functions of the lens are called by the application's own roles; the tables are nobody's business but the owner's.
GRANT USAGE ON SCHEMA crossfade TO PUBLIC;

CREATE TABLE crossfade.migrations (
    name text PRIMARY KEY CHECK (name <> ''),
    spec text NOT NULL,
    -- The file resolved against the database: the lens and all that is derived once.
    lens jsonb NOT NULL,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    phase text NOT NULL,
    reads smallint NOT NULL DEFAULT 0 CHECK (reads BETWEEN 0 AND 100),
    -- The epoch of its latest change.
    epoch bigint NOT NULL DEFAULT 0,
    paused boolean NOT NULL DEFAULT false,
    -- The pace of the copy, in percent of what the throttle allows.
    speed smallint NOT NULL DEFAULT 100 CHECK (speed BETWEEN 1 AND 100),
    -- What was asked for and is not done yet.
    target text CHECK (target IN ('contracted', 'rolled_back')),
    -- Since when a write that does not fit the new shape is refused (from the first reads on), and the transaction
    -- number from which on every transaction knows it.
    strict_since bigint,
    -- What the coordinator waits for, for people.
    waiting text,
    error text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- A rolled-back migration leaves nothing behind; any other serves its old shape, and owns its table.
CREATE UNIQUE INDEX migrations_one_per_table ON crossfade.migrations (table_schema, table_name)
    WHERE phase <> 'rolled_back';

CREATE TABLE crossfade.epochs (
    epoch bigint PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    migration text NOT NULL,
    from_phase text,
    to_phase text NOT NULL,
    reads smallint NOT NULL,
    why text NOT NULL
);

CREATE TABLE crossfade.proxies (
    id text PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    address text NOT NULL,
    -- Kernel and process namespace: where two have the same, one can tell whether the other's process is gone.
    machine text NOT NULL,
    version text NOT NULL,
    started timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    lease_until timestamptz NOT NULL,
    epoch_acked bigint NOT NULL DEFAULT 0
);

CREATE TABLE crossfade.progress (
    migration text PRIMARY KEY REFERENCES crossfade.migrations ON DELETE CASCADE,
    -- The copy: the key of the last row that was done, in a transaction with that row.
    copy_key text[],
    copy_rows bigint NOT NULL DEFAULT 0,
    copy_rows_estimate bigint,
    copy_started_at timestamptz,
    copy_done_at timestamptz,
    -- The same walk again: what a writer left behind the cursor.
    sweep_key text[],
    sweep_done_at timestamptz,
    built_at timestamptz,
    -- The scan that is under way.
    scan_key text[],
    scan_rows bigint NOT NULL DEFAULT 0,
    scan_drift bigint NOT NULL DEFAULT 0,
    scan_misfits bigint NOT NULL DEFAULT 0,
    scan_started_at timestamptz,
    -- The latest scan that reached the end.
    scans bigint NOT NULL DEFAULT 0,
    drift_rows bigint,
    scanned_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- No foreign key: applications write here, and must not lock rows of the control plane.
CREATE TABLE crossfade.quarantine (
    migration text NOT NULL,
    key text NOT NULL,
    error text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (migration, key)
);

CREATE TABLE crossfade.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    migration text,
    who text NOT NULL,
    from_address text NOT NULL,
    what text NOT NULL,
    why text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_by_migration ON crossfade.audit (migration, id);

-- Called by the sync trigger in the application's own transactions. Of a migration that is not there nothing is noted.
CREATE FUNCTION crossfade.note_misfit(migration text, key text, error text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp
    AS $$
        INSERT INTO crossfade.quarantine (migration, key, error)
        SELECT m.name, left($2, 4000), left($3, 1000) FROM crossfade.migrations m WHERE m.name = $1
        ON CONFLICT ON CONSTRAINT quarantine_pkey
        DO UPDATE SET error = excluded.error, noted_at = excluded.noted_at
    $$;
