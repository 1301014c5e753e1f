-- name: seq_received_at
-- The first place from which on nothing was received before $1. Places are given in the
-- order of acceptance, so times rise with them, but for some minutes: halving finds the place in some thirty looks at the
-- primary key, and no index on the time need be kept.
WITH RECURSIVE halved (low, high) AS (
    SELECT coalesce(min(seq), 0), coalesce(max(seq), -1) + 1 FROM events
    UNION ALL
    SELECT CASE WHEN e.received_at < $1 THEN e.seq + 1 ELSE h.low END, CASE WHEN e.received_at < $1 THEN h.high ELSE m.middle END
    FROM halved h CROSS JOIN LATERAL (SELECT (h.low + h.high) / 2 AS middle) m
    CROSS JOIN LATERAL (SELECT x.seq, x.received_at FROM events x WHERE x.seq >= m.middle ORDER BY x.seq LIMIT 1) e
    WHERE h.low < h.high
)
SELECT max(low) FROM halved;

-- name: places_after
-- Where a step of so many events ends; null if there are none. $1 after, $2 up to, $3 events in a step
SELECT max(s.seq) FROM (SELECT seq FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) s;

-- name: settled_history
-- What a step would remove. $1 before, $2 after, $3 up to
SELECT count(DISTINCT h.seq) AS bodies, count(d.id) AS deliveries,
       coalesce(sum((SELECT count(*) FROM attempts a WHERE a.delivery_id = d.id)), 0)::bigint AS attempts
FROM hub_settled_history($1, $2, $3) AS h (seq) LEFT JOIN deliveries d ON d.event_seq = h.seq;

-- name: prune
-- $1 before, $2 after, $3 up to
SELECT bodies, deliveries, attempts, batches FROM hub_prune($1, $2, $3);

-- name: prune_notes
SELECT hub_prune_notes($1);

-- name: prune_rejected
-- $1 before
WITH gone AS (
    DELETE FROM rejected_bodies WHERE received_at < $1 RETURNING 1
)
SELECT count(*) FROM gone;

-- name: old_rejected
-- $1 before
SELECT count(*) FROM rejected_bodies WHERE received_at < $1;

-- name: last_pruning
-- The last one, and when one last began with the first event and came to its end.
SELECT id, before, began_after, reached, bodies, deliveries, attempts, batches, started_at, finished_at,
       (SELECT max(w.started_at) FROM prunings w WHERE w.began_after = 0 AND w.finished_at IS NOT NULL) AS whole_at
FROM prunings ORDER BY id DESC LIMIT 1;

-- name: begin_pruning
INSERT INTO prunings (before, began_after, reached, started_at) VALUES ($1, $2, $2, $3) RETURNING id;

-- name: advance_pruning
-- In the transaction of the step itself. $1 id, $2 reached, $3 bodies, $4 deliveries, $5 attempts, $6 batches: of this step
UPDATE prunings SET reached = $2, bodies = bodies + $3, deliveries = deliveries + $4, attempts = attempts + $5,
    batches = batches + $6 WHERE id = $1;

-- name: end_pruning
UPDATE prunings SET finished_at = $2 WHERE id = $1;
