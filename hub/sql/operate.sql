-- name: lane_of
-- Never changes, so it may be read before the lane is locked.
SELECT destination, lane FROM deliveries WHERE id = $1;

-- name: locked_delivery
-- To be read only under the lock of its lane: who claims, seals or settles holds that lock too.
SELECT id, state, due_at, lease_until, settled_at, superseded_by, held_by, batch_id, note FROM deliveries WHERE id = $1;

-- name: locked_batch
-- A sealed batch is what its deliveries are: all of them move together. $1 batch
SELECT id, state, due_at, lease_until, settled_at, superseded_by, held_by, batch_id, note FROM deliveries
WHERE batch_id = $1 ORDER BY id;

-- name: held_behind
-- $1 destination, $2 lane, $3 ids of those that hold
SELECT id FROM deliveries
WHERE destination = $1 AND lane = $2 AND state IN ('waiting', 'claimed', 'unknown', 'held', 'dead')
  AND state = 'held' AND held_by = ANY ($3::bigint[]) ORDER BY id;

-- name: requeue
-- Due at once. Where a write may have landed it is looked for first: after an unknown outcome, and after a budget was used
-- up, which lost claims do too. `failures` is history and stays; a dead letter's time budget begins anew. Its `fix` is
-- taken as followed. $1 ids, $2 now, $3 note
UPDATE deliveries d
SET state = CASE WHEN d.state = 'unknown' THEN 'unknown'
                 WHEN d.batch_id IS NOT NULL THEN 'waiting'
                 WHEN d.state = 'dead' AND d.code = 'budget_used_up' THEN 'unknown'
                 WHEN d.state IN ('dead', 'held') AND EXISTS (
                     SELECT FROM attempts a WHERE a.delivery_id = d.id AND a.outcome IN ('unknown', 'lost')) THEN 'unknown'
                 ELSE 'waiting' END,
    due_at = $2, settled_at = NULL, held_by = NULL, fix = NULL, note = $3,
    first_failure_at = CASE WHEN d.state <> 'dead' THEN d.first_failure_at END
WHERE d.id = ANY ($1::bigint[]) AND d.state IN ('dead', 'held', 'waiting', 'unknown')
RETURNING d.id;

-- name: skip
-- $1 ids, $2 now, $3 reason
UPDATE deliveries d SET state = 'skipped', due_at = NULL, held_by = NULL, settled_at = $2, note = $3
WHERE d.id = ANY ($1::bigint[]) AND d.state IN ('dead', 'held', 'waiting', 'unknown')
RETURNING d.id;

-- name: event_of_delivery
SELECT e.type, e.object_type, d.object_id, e.body FROM deliveries d JOIN events e ON e.seq = d.event_seq WHERE d.id = $1;

-- name: unsettled_of
-- Others of the same object that write now, or may have written. $1 destination, $2 lane, $3 object, $4 but this one
SELECT id, state, due_at, superseded_by, note FROM deliveries
WHERE destination = $1 AND lane = $2 AND object_id = $3 AND id <> $4
  AND state IN ('waiting', 'claimed', 'unknown', 'held', 'dead') AND state IN ('claimed', 'unknown') ORDER BY id;

-- name: add_link
-- A link that is there stays: what was written is known better than what is said. $1 destination, $2 object, $3 record, $4 key,
-- $5 vendor id, $6 digest, $7 mapping, $8 now
INSERT INTO links (destination, object_id, record, key, vendor_id, digest, mapping, linked_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING;

-- name: correct_link
-- Only what a person said before, and only if it still says what this one has seen. $1 destination, $2 object, $3 record,
-- $4 vendor id, $5 the one before, $6 digest of what was only said, $7 now
UPDATE links SET vendor_id = $4, linked_at = $7
WHERE destination = $1 AND object_id = $2 AND record = $3 AND vendor_id = $5 AND digest = $6;

-- name: link_now
SELECT key, vendor_id, digest FROM links WHERE destination = $1 AND object_id = $2 AND record = $3;

-- name: settle_linked
-- $1 id, $2 now, $3 note
UPDATE deliveries d
SET state = 'done', due_at = NULL, held_by = NULL, code = NULL, cause = NULL, fix = NULL, note = $3,
    settled_at = CASE WHEN d.state = 'done' THEN d.settled_at ELSE $2 END
WHERE d.id = $1 AND d.state IN ('dead', 'held', 'waiting', 'unknown', 'done');

-- name: wake_lane
-- Due when its earliest open delivery is. While it is leased the due time is the end of the lease, and whoever holds it
-- looks again when done. $1 destination, $2 lane
WITH woken AS (
    UPDATE lanes l
    SET due_at = (SELECT min(coalesce(d.due_at, d.lease_until)) FROM deliveries d
                  WHERE d.destination = l.destination AND d.lane = l.key
                    AND d.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead') AND d.state NOT IN ('held', 'dead'))
    WHERE l.destination = $1 AND l.key = $2 AND l.lease_until IS NULL
)
SELECT pg_notify('hub_wake', $1);

-- name: locked_destination
-- $1 name, $2 now
SELECT paused_until > $2 AS paused, paused_by, reason FROM destinations WHERE name = $1 FOR UPDATE;

-- name: destination_pause
-- $1 name, $2 now
SELECT reason FROM destinations WHERE name = $1 AND paused_until > $2;

-- name: pause_destination
-- $1 name, $2 reason
UPDATE destinations SET paused_until = 'infinity', reason = $2, paused_by = 'operator' WHERE name = $1;

-- name: resume_destination
-- A person knows better: the circuit is closed with it. $1 name, $2 now
WITH resumed AS (
    UPDATE destinations SET paused_until = NULL, reason = NULL, paused_by = NULL, failing = 0, failing_since = NULL,
        failing_lane = NULL, closed_at = CASE WHEN opened > 0 THEN $2 ELSE closed_at END, opened = 0
    WHERE name = $1
)
SELECT pg_notify('hub_wake', $1);
