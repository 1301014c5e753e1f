-- name: accept
-- Events, their deliveries and the woken lanes, in one statement and so in one transaction. Rows come as arrays; the
-- order of lanes is fixed so that two of these never wait for each other in a circle. A lane that is claimed keeps the end
-- of its lease as due time: whoever settles it looks again. Returns one row per event that was new.
WITH fresh AS (
    INSERT INTO events (id, kind, type, account, api_version, livemode, object_type, object_id, customer_id, rank,
                        created, received_at, disposition, note, body)
    SELECT e.id, e.kind, e.type, e.account, e.api_version, e.livemode, e.object_type, e.object_id, e.customer_id, e.rank,
           e.created, e.received_at, e.disposition, e.note, e.body
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[],
                $9::text[], $10::smallint[], $11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[], $15::bytea[])
         WITH ORDINALITY AS e (id, kind, type, account, api_version, livemode, object_type, object_id, customer_id, rank,
                               created, received_at, disposition, note, body, n)
    ORDER BY e.n
    ON CONFLICT (id) DO NOTHING
    RETURNING seq, id, object_id
), routed AS (
    SELECT f.seq, r.destination, r.lane, coalesce(f.object_id, f.id) AS object_id, r.due_at
    FROM unnest($16::text[], $17::text[], $18::text[], $19::timestamptz[]) AS r (id, destination, lane, due_at)
    JOIN fresh f USING (id)
), added AS (
    INSERT INTO deliveries (event_seq, destination, lane, object_id, due_at, created_at)
    SELECT seq, destination, lane, object_id, due_at, $20 FROM routed ORDER BY seq
), woken AS (
    INSERT INTO lanes (destination, key, due_at)
    SELECT destination, lane, min(due_at) FROM routed GROUP BY destination, lane ORDER BY destination, lane
    ON CONFLICT (destination, key) DO UPDATE SET due_at = least(lanes.due_at, EXCLUDED.due_at)
        WHERE lanes.lease_until IS NULL AND (lanes.due_at IS NULL OR lanes.due_at > EXCLUDED.due_at)
)
SELECT f.id, f.seq, (SELECT count(pg_notify('hub_wake', destination)) FROM (SELECT DISTINCT destination FROM routed) d)
FROM fresh f;

-- name: keep_rejected
-- Only the newest 1,000 are kept: a broken sender must not fill the disk.
WITH gone AS (
    DELETE FROM rejected_bodies WHERE id <= (SELECT max(id) - 1000 FROM rejected_bodies)
)
INSERT INTO rejected_bodies (received_at, reason, body) VALUES ($1, $2, $3) RETURNING id;

-- name: ready
SELECT 1;
