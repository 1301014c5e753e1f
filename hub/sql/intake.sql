-- name: accept
-- Events, their deliveries and the woken lanes, in one statement and so in one transaction. Rows come as one JSON array and
-- not as an array per column: encoding twenty arrays was the web process's largest single cost. Lanes
-- come last, for many share one: until there two of these do not wait for each other. Their order is fixed, so that it is
-- never in a circle. A lane that is claimed keeps the end of its lease as due time: whoever settles it looks again. Only
-- lanes whose due time came nearer wake anybody: for the others it was done, and a commit that notifies waits for every
-- other such commit. An object that names no customer (a payment, a dispute) is its customer's to whom it belongs, as far as
-- that is known by now: so it comes after its invoice, in the same lane. Returns one row per event that was new.
-- $1 events, $2 their bodies in the same order, $3 routes, $4 now; times in JSON are Unix seconds
WITH fresh AS (
    INSERT INTO events (id, kind, type, account, api_version, livemode, object_type, object_id, customer_id, rank,
                        created, received_at, disposition, note, body)
    SELECT e.id, e.kind, e.type, e.account, e.api_version, e.livemode, e.object_type, e.object_id,
           CASE WHEN e.customer_id IS NULL AND e.via IS NOT NULL THEN
               (SELECT v.customer_id FROM events v WHERE v.object_id = e.via AND v.customer_id IS NOT NULL
                ORDER BY v.rank DESC, v.created DESC, v.seq DESC LIMIT 1)
           ELSE e.customer_id END, e.rank,
           to_timestamp(e.created), to_timestamp(e.received_at), e.disposition, e.note, e.body
    FROM ROWS FROM (
        json_to_recordset($1::json) AS (
            id text, kind text, type text, account text, api_version text, livemode boolean, object_type text,
            object_id text, customer_id text, via text, rank smallint, created double precision, received_at double precision,
            disposition text, note text),
        unnest($2::bytea[])
    ) WITH ORDINALITY AS e (id, kind, type, account, api_version, livemode, object_type, object_id, customer_id, via,
                            rank, created, received_at, disposition, note, body, n)
    ORDER BY e.n
    ON CONFLICT (id) DO NOTHING
    RETURNING seq, id, object_id, customer_id
), routed AS (
    SELECT f.seq, r.destination, coalesce(f.object_id, f.id) AS object_id, to_timestamp(r.due_at) AS due_at,
           CASE WHEN r.follow THEN coalesce(f.customer_id, r.lane) ELSE r.lane END COLLATE "C" AS lane
    FROM json_to_recordset($3::json) AS r (id text, destination text COLLATE "C", lane text COLLATE "C", due_at double precision,
                                            follow boolean)
    JOIN fresh f USING (id)
), added AS (
    INSERT INTO deliveries (event_seq, destination, lane, object_id, due_at, created_at)
    SELECT seq, destination, lane, object_id, due_at, $4 FROM routed ORDER BY seq
    RETURNING destination, lane, due_at
), woken AS (
    INSERT INTO lanes (destination, key, due_at)
    SELECT destination, lane, min(due_at) FROM added GROUP BY destination, lane ORDER BY destination, lane
    ON CONFLICT (destination, key) DO UPDATE SET due_at = least(lanes.due_at, EXCLUDED.due_at)
        WHERE lanes.lease_until IS NULL AND (lanes.due_at IS NULL OR lanes.due_at > EXCLUDED.due_at)
    RETURNING destination
)
SELECT f.id, f.seq, (SELECT count(pg_notify('hub_wake', destination)) FROM (SELECT DISTINCT destination FROM woken) d)
FROM fresh f;

-- name: keep_rejected
-- Only the newest 1,000 are kept: a broken sender must not fill the disk.
WITH gone AS (
    DELETE FROM rejected_bodies WHERE id <= (SELECT max(id) - 1000 FROM rejected_bodies)
)
INSERT INTO rejected_bodies (received_at, reason, body) VALUES ($1, $2, $3) RETURNING id;

-- name: ready
SELECT 1;
