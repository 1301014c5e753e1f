-- Limits and the circuit breaker belong to a vendor's account, not to a process: so they live here.
ALTER TABLE destinations
    ADD COLUMN share         double precision NOT NULL DEFAULT 1 CHECK (share > 0 AND share <= 1),
    ADD COLUMN share_at      timestamptz,
    ADD COLUMN failing       integer NOT NULL DEFAULT 0 CHECK (failing >= 0),
    ADD COLUMN failing_since timestamptz,
    ADD COLUMN failing_lane  text,
    ADD COLUMN opened        integer NOT NULL DEFAULT 0 CHECK (opened >= 0),
    ADD COLUMN closed_at     timestamptz;
-- `share` of the configured limit is in use since `share_at`, when the vendor said that we call too much; it grows back with
-- time. `failing`: attempts in a row, over all lanes and processes, without an answer, the last one in `failing_lane`.
-- `opened`: how often in a row the circuit was opened; 0 is closed. `closed_at`: when it was last closed again.

-- What of a limit is in use now: back to all of it within five minutes at the latest. Said once for claims, turns and gauges.
CREATE FUNCTION share_now(share double precision, share_at timestamptz, moment timestamptz) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN share_at IS NULL THEN share
                ELSE least(1, share + greatest(0, extract(epoch FROM moment - share_at)::double precision) / 300) END;

-- When the next call may go, per vendor (hub.limits). Unlogged: a call must not wait for a disk, and after a crash of the
-- database every vendor has had a quiet moment.
CREATE UNLOGGED TABLE turns (
    name    text        PRIMARY KEY,
    next_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- How many lanes of a destination are under way, over all processes.
CREATE INDEX lanes_leased ON lanes (destination) WHERE lease_until IS NOT NULL;
