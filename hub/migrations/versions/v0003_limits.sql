-- Limits and the circuit breaker belong to a vendor's account, not to a process: so they live here.
ALTER TABLE destinations
    ADD COLUMN share     double precision NOT NULL DEFAULT 1 CHECK (share > 0 AND share <= 1),
    ADD COLUMN share_at  timestamptz,
    ADD COLUMN failing   integer NOT NULL DEFAULT 0 CHECK (failing >= 0),
    ADD COLUMN failing_since timestamptz,
    ADD COLUMN opened    integer NOT NULL DEFAULT 0 CHECK (opened >= 0);
-- `share` of the configured limit is in use since `share_at`, when the vendor said that we call too much; it grows back with
-- time. `failing`: attempts in a row, over all lanes and processes, without an answer that was one. `opened`: how often in a row
-- the circuit was opened; 0 is closed.

-- When the next call may go, per vendor (hub.limits).
CREATE TABLE turns (
    name    text        PRIMARY KEY,
    next_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- How many lanes of a destination are under way, over all processes.
CREATE INDEX lanes_leased ON lanes (destination) WHERE lease_until IS NOT NULL;
