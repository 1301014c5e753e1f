-- name: gauge_paused
SELECT name, coalesce(paused_until > $1, false) AS paused, opened > 0 AS circuit_open, share_now(share, share_at, $1) AS share
FROM destinations;

-- name: register_destination
-- At start: known by name and kind. Unusable settings pause it until the next start with better ones; a person's pause and
-- the hub's own stay as they are.
INSERT INTO destinations (name, kind, paused_until, reason, paused_by)
VALUES ($1, $2, CASE WHEN $3::text IS NOT NULL THEN 'infinity'::timestamptz END, $3,
        CASE WHEN $3::text IS NOT NULL THEN 'settings' END)
ON CONFLICT (name) DO UPDATE SET kind = EXCLUDED.kind,
    paused_until = CASE WHEN $3::text IS NOT NULL THEN EXCLUDED.paused_until
                        WHEN destinations.paused_by = 'settings' THEN NULL ELSE destinations.paused_until END,
    reason = CASE WHEN $3::text IS NOT NULL THEN EXCLUDED.reason
                  WHEN destinations.paused_by = 'settings' THEN NULL ELSE destinations.reason END,
    paused_by = CASE WHEN $3::text IS NOT NULL THEN EXCLUDED.paused_by
                     WHEN destinations.paused_by = 'settings' THEN NULL ELSE destinations.paused_by END
RETURNING paused_until;

-- name: summary
SELECT s.name, s.reason,
       count(*) FILTER (WHERE d.state = 'waiting') AS waiting, count(*) FILTER (WHERE d.state = 'claimed') AS claimed,
       count(*) FILTER (WHERE d.state = 'unknown') AS unknown, count(*) FILTER (WHERE d.state = 'held') AS held,
       count(*) FILTER (WHERE d.state = 'dead') AS dead, count(*) FILTER (WHERE d.state = 'done') AS done,
       count(*) FILTER (WHERE d.state = 'superseded') AS superseded
FROM destinations s LEFT JOIN deliveries d ON d.destination = s.name GROUP BY s.name, s.reason ORDER BY s.name;

-- name: states_by_destination
SELECT destination, state, count(*) AS n FROM deliveries GROUP BY destination, state ORDER BY destination, state;

-- name: open_work
SELECT count(*) FROM deliveries WHERE state IN ('waiting', 'claimed', 'unknown', 'held', 'dead')
  AND state IN ('waiting', 'claimed', 'unknown');

-- name: dead_letters_said
-- The oldest: what they say is usually what the others say too.
SELECT d.destination, e.type, d.object_id, d.code, d.cause FROM deliveries d JOIN events e ON e.seq = d.event_seq
WHERE d.state = 'dead' ORDER BY d.id LIMIT 20;

-- name: source_event_ids
SELECT id FROM events WHERE kind <> 'read';
