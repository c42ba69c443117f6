-- Version 2 of the schema crossfade: epochs under which no proxy starts a transaction.

-- The rules of such an epoch are those of the one before it; only that nothing begins under them differs.
ALTER TABLE crossfade.epochs ADD COLUMN held boolean NOT NULL DEFAULT false;

ALTER TABLE crossfade.migrations
    -- Since when its present epoch is held; NULL while it is not.
    ADD COLUMN held_since timestamptz,
    -- What was: how many holds, when the last one ended, how long it and the longest one were.
    ADD COLUMN holds bigint NOT NULL DEFAULT 0,
    ADD COLUMN hold_ended_at timestamptz,
    ADD COLUMN hold_last_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN hold_longest_ms bigint NOT NULL DEFAULT 0;
