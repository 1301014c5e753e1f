-- name: claim
-- Lanes that are due and free, each with its due deliveries in order. One statement: SKIP LOCKED makes rivals take other
-- lanes, the lease makes the claim ours, `claim` is the fence that settling needs. A delivery found still claimed belongs
-- to a worker that died or hung: the lost claim counts as a failure, and it is taken alone so that, should it be what
-- kills workers, it takes no neighbour along. While the circuit is not closed nothing is claimed but the probe ($8), no time
-- budget runs, and those of before begin anew: an outage is nobody's fault. What the destination's row says is asked for in
-- subqueries, which cost nothing where there is no row to give.
-- What was lost again after it had failed may be what kills workers: such a lane is claimed first and with no other.
-- $1 destination, $2 now, $3 lease in seconds, $4 most lanes, $5 most deliveries a lane, $6 is it a ledger, $7 with bodies,
-- $8 is it a probe
WITH suspect AS MATERIALIZED (
    SELECT s.key FROM lanes s
    WHERE s.destination = $1 AND s.lease_until <= $2
      AND (SELECT x.id FROM deliveries x -- not EXISTS, which may become a look at every open delivery
           WHERE x.destination = $1 AND x.lane = s.key AND x.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead')
             AND x.state = 'claimed' AND x.failures > 0 LIMIT 1) IS NOT NULL
    ORDER BY s.due_at, s.key LIMIT 1
), due AS (
    SELECT destination, key FROM lanes
    WHERE destination = $1 AND due_at <= $2 AND (lease_until IS NULL OR lease_until <= $2)
      AND (NOT EXISTS (SELECT FROM suspect) OR key = (SELECT key FROM suspect))
      AND NOT EXISTS (SELECT FROM destinations p
                      WHERE p.name = $1 AND (p.paused_until > $2 OR (p.opened > 0 AND NOT $8::boolean)))
    ORDER BY due_at LIMIT $4
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE lanes l SET lease_until = $2 + $3 * interval '1 second', due_at = $2 + $3 * interval '1 second', claim = l.claim + 1
    FROM due WHERE l.destination = due.destination AND l.key = due.key
    RETURNING l.key, l.claim
), picked AS (
    SELECT d.id, due.key, d.state AS was, d.failures
    FROM due CROSS JOIN LATERAL (
        SELECT x.id, x.state, x.failures FROM deliveries x
        WHERE x.destination = $1 AND x.lane = due.key
          AND x.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead')
          AND (x.state = 'claimed' OR (x.state IN ('waiting', 'unknown') AND x.due_at <= $2))
        ORDER BY x.state <> 'claimed', x.id LIMIT $5
    ) d
), chosen AS (
    SELECT id, key, was FROM picked p
    WHERE NOT EXISTS (SELECT FROM picked o WHERE o.key = p.key AND o.was = 'claimed')
       OR p.id = (SELECT min(o.id) FROM picked o WHERE o.key = p.key AND o.was = 'claimed')
), claimed AS (
    UPDATE deliveries d
    SET state = 'claimed', claim = d.claim + 1, due_at = NULL, lease_until = $2 + $3 * interval '1 second',
        failures = d.failures + (c.was = 'claimed')::int,
        first_failure_at = CASE WHEN c.was = 'claimed' THEN coalesce(d.first_failure_at, $2) ELSE d.first_failure_at END
    FROM chosen c WHERE d.id = c.id AND d.state = c.was
    RETURNING d.id, d.lane, d.claim, d.failures, d.first_failure_at, d.object_id, d.event_seq, d.destination, c.was
), lost AS (
    INSERT INTO attempts (delivery_id, claim, started_at, duration_ms, outcome, reason)
    SELECT id, claim - 1, $2, 0, 'lost', 'its worker ended or hung; what it sent is not known' FROM claimed WHERE was = 'claimed'
)
SELECT coalesce((SELECT share_now(p.share, p.share_at, $2) FROM destinations p WHERE p.name = $1), 1) AS share,
       l.key AS lane, l.claim AS lane_claim, c.id, c.claim, c.failures, c.object_id AS document, c.was,
       CASE WHEN c.first_failure_at IS NOT NULL THEN
           greatest(c.first_failure_at, (SELECT CASE WHEN p.opened > 0 THEN $2 ELSE p.closed_at END
                                         FROM destinations p WHERE p.name = $1)) END AS first_failure_at,
       e.seq, e.id AS event_id, e.kind, e.type, e.account, e.api_version, e.livemode, e.object_type, e.object_id,
       e.customer_id, e.rank, e.created, e.received_at, e.disposition, e.note,
       CASE WHEN $7 THEN e.body ELSE ''::bytea END AS body,
       CASE WHEN $6 THEN (
           SELECT max(b.due_at) FROM deliveries b
           WHERE b.destination = $1 AND b.lane = c.lane AND b.object_id = c.object_id AND b.id < c.id
             AND b.state IN ('waiting', 'unknown') AND b.due_at > $2) END AS blocked_until,
       CASE WHEN $6 THEN (
           SELECT min(b.id) FROM deliveries b
           WHERE b.destination = $1 AND b.lane = c.lane AND b.object_id = c.object_id AND b.id < c.id
             AND b.state = 'dead') END AS held_by
FROM leased l
LEFT JOIN claimed c ON c.lane = l.key
LEFT JOIN events e ON e.seq = c.event_seq
ORDER BY l.key, c.id;

-- name: lock_lanes
-- Before anything else in a settlement: what follows then sees every delivery accepted for these lanes so far, and none
-- can be added unseen between looking and releasing. $1 destinations, $2 keys
SELECT 1 FROM lanes l
JOIN (SELECT DISTINCT destination, key FROM unnest($1::text[], $2::text[]) AS u (destination, key)) u USING (destination, key)
ORDER BY l.destination, l.key FOR UPDATE OF l;

-- name: open_lanes
-- Those that deliveries are about to be moved into, before any lane is locked: so that all can be locked in order.
-- $1 destinations, $2 keys
INSERT INTO lanes (destination, key)
SELECT DISTINCT destination, key FROM unnest($1::text[], $2::text[]) AS u (destination, key) ORDER BY destination, key
ON CONFLICT (destination, key) DO NOTHING;

-- name: move_deliveries
-- Into another lane, which is locked; it wakes unless somebody has it, who will look again. $1 destinations, $2 keys, $3 ids
WITH moved AS (
    UPDATE deliveries d SET lane = u.key FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (destination, key, id)
    WHERE d.id = u.id
    RETURNING d.destination, d.lane, d.due_at
), woken AS (
    UPDATE lanes l SET due_at = least(l.due_at, m.due_at)
    FROM (SELECT destination, lane, min(due_at) AS due_at FROM moved GROUP BY destination, lane) m
    WHERE l.destination = m.destination AND l.key = m.lane AND l.lease_until IS NULL
    RETURNING l.destination
)
SELECT pg_notify('hub_wake', destination) FROM (SELECT DISTINCT destination FROM woken) w;

-- name: settle
-- Only who holds the claim may settle it: a late worker matches no row. Returns the ids that were ours, with what the
-- claim was about, and which destinations had failed before: only for those an answer is news. $1 ids, $2 claims, $3 states, $4 due, $5 added failures, $6 codes, $7 causes, $8 fixes, $9 notes,
-- $10 superseded_by, $11 held_by, $12 now
UPDATE deliveries d
SET state = u.state, due_at = u.due_at, lease_until = NULL, failures = d.failures + u.failed,
    first_failure_at = CASE WHEN u.failed > 0 THEN coalesce(d.first_failure_at, $12) ELSE d.first_failure_at END,
    code = coalesce(u.code, CASE WHEN u.state IN ('done', 'superseded') THEN NULL ELSE d.code END),
    cause = coalesce(u.cause, CASE WHEN u.state IN ('done', 'superseded') THEN NULL ELSE d.cause END),
    fix = coalesce(u.fix, CASE WHEN u.state IN ('done', 'superseded') THEN NULL ELSE d.fix END),
    note = u.note, superseded_by = u.superseded_by, held_by = u.held_by,
    settled_at = CASE WHEN u.state IN ('done', 'superseded', 'dead', 'skipped') THEN $12::timestamptz END
FROM (
    SELECT i.id, i.claim, i.failed, i.code, i.cause, i.fix, i.note, i.superseded_by,
           CASE WHEN f.freed THEN 'waiting' ELSE i.state END AS state, CASE WHEN f.freed THEN $12 ELSE i.due_at END AS due_at,
           CASE WHEN NOT f.freed THEN i.held_by END AS held_by
    FROM unnest($1::bigint[], $2::int[], $3::text[], $4::timestamptz[], $5::int[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::bigint[], $11::bigint[])
         AS i (id, claim, state, due_at, failed, code, cause, fix, note, superseded_by, held_by)
    CROSS JOIN LATERAL (
        SELECT i.state = 'held' AND NOT EXISTS (
            SELECT FROM deliveries h WHERE h.id = i.held_by AND h.state = 'dead') AS freed
    ) f
) u
WHERE d.id = u.id AND d.claim = u.claim AND d.state = 'claimed'
RETURNING d.id, (SELECT array_agg(p.name) FROM destinations p WHERE p.failing > 0 OR p.opened > 0) AS ailing;

-- name: log_attempts
INSERT INTO attempts (delivery_id, batch_id, claim, started_at, duration_ms, outcome, code, reason, http_status, request_id,
                      answer)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::timestamptz[], $5::int[], $6::text[], $7::text[], $8::text[],
                     $9::int[], $10::text[], $11::jsonb[]);

-- name: write_links
INSERT INTO links (destination, object_id, record, key, vendor_id, digest, mapping, status, linked_at)
SELECT u.*, $9 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) AS u
ON CONFLICT (destination, object_id, record) DO UPDATE
SET key = EXCLUDED.key, vendor_id = EXCLUDED.vendor_id, digest = EXCLUDED.digest, mapping = EXCLUDED.mapping,
    status = EXCLUDED.status, linked_at = EXCLUDED.linked_at;

-- name: doubt_links
-- What comes later of the object is written, whatever was written before. What a person said stays. $1 destinations,
-- $2 objects, $3 in place of a digest
UPDATE links l SET digest = $3 FROM unnest($1::text[], $2::text[]) AS u (destination, object_id)
WHERE l.destination = u.destination AND l.object_id = u.object_id AND l.digest NOT IN ('linked', 'forgotten');

-- name: resolve_dead
-- A state destination: what was delivered now is newer than what died before. $1 destination, $2 lanes, $3 objects, $4 by, $5 now
UPDATE deliveries d SET state = 'superseded', superseded_by = u.by, settled_at = $5
FROM unnest($2::text[], $3::text[], $4::bigint[]) AS u (lane, object_id, by)
WHERE d.destination = $1 AND d.lane = u.lane AND d.object_id = u.object_id AND d.state = 'dead' AND d.id <> u.by;

-- name: release_lanes
-- The claim is over: due again when the earliest open delivery is, or never. One that is still claimed was lost with its
-- worker and waits for its turn: due since its lease ended. $1 destinations, $2 keys, $3 lane claims
WITH released AS (
    UPDATE lanes l
    SET lease_until = NULL,
        due_at = (SELECT min(coalesce(d.due_at, d.lease_until)) FROM deliveries d
                  WHERE d.destination = l.destination AND d.lane = l.key
                    AND d.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead') AND d.state NOT IN ('held', 'dead'))
    FROM unnest($1::text[], $2::text[], $3::int[]) AS u (destination, key, claim)
    WHERE l.destination = u.destination AND l.key = u.key AND l.claim = u.claim
    RETURNING l.destination, l.due_at
)
SELECT count(*) FROM released;

-- name: give_back
-- Shutdown: claims whose work was not begun return at once, uncounted. $1 ids, $2 claims, $3 now, $4 state to return to
UPDATE deliveries d SET state = u.state, due_at = $3, lease_until = NULL
FROM unnest($1::bigint[], $2::int[], $4::text[]) AS u (id, claim, state)
WHERE d.id = u.id AND d.claim = u.claim AND d.state = 'claimed';

-- name: next_due
-- Null while it is paused: then there is nothing to wake for but the end of the pause, and polling sees that. Null also
-- while as much is under way as may be, over all processes. $1 destination, $2 now, $3 its concurrency, if it has one
SELECT min(due_at) AS due_at FROM lanes
WHERE destination = $1 AND due_at IS NOT NULL AND lease_until IS NULL
  AND NOT EXISTS (
      SELECT FROM destinations p
      WHERE p.name = $1 AND (p.paused_until > $2 OR (
          (p.opened > 0 OR $3::int IS NOT NULL)
          AND (SELECT count(*) FROM lanes o WHERE o.destination = $1 AND o.lease_until > $2)
              >= CASE WHEN p.opened > 0 THEN 1 ELSE floor(greatest(1, $3 * share_now(p.share, p.share_at, $2))) END)));

-- name: lock_destination
-- Who counts what is under way, or decides about the circuit, holds this row. $1 name, $2 now
SELECT share_now(share, share_at, $2) AS share, paused_until > $2 AS paused, paused_until, paused_by, reason,
       failing, failing_since, failing_lane, opened, closed_at
FROM destinations WHERE name = $1 FOR UPDATE;

-- name: is_half_open
-- Asked only when nothing was claimed. $1 destination, $2 now
SELECT opened > 0 AND coalesce(paused_until <= $2, true) FROM destinations WHERE name = $1;

-- name: count_leased
-- A statement of its own after the lock: it sees what whoever held the lock before has claimed. $1 destination, $2 now
SELECT count(*) FROM lanes WHERE destination = $1 AND lease_until > $2;

-- name: set_circuit
-- Under the lock of `lock_destination`. Closed again, all processes are woken. $1 name, $2 failing, $3 since, $4 lane,
-- $5 opened, $6 closed at, $7 paused until, $8 reason, $9 paused by, $10 wake
WITH turned AS (
    UPDATE destinations SET failing = $2, failing_since = $3, failing_lane = $4, opened = $5, closed_at = $6,
                            paused_until = $7, reason = $8, paused_by = $9
    WHERE name = $1
)
SELECT CASE WHEN $10::boolean THEN pg_notify('hub_wake', $1) END;

-- name: cut_share
-- Half of what is in use now; once a second, because calls that are under way together fail together, for one reason.
-- $1 name, $2 now, $3 the least
UPDATE destinations SET share = greatest($3, share_now(share, share_at, $2) / 2), share_at = $2
WHERE name = $1 AND (share_at IS NULL OR share_at <= $2::timestamptz - interval '1 second')
RETURNING share;

-- name: take_turn
-- One statement, one row per vendor: `next_at` is when the next call would be due if none were ever early. Up to $4 calls
-- may be early after a quiet moment. No row: the turn would come later than the caller can wait, and was not taken.
-- $1 name, $2 now, $3 seconds from call to call, $4 burst, $5 patience in seconds
WITH pace AS (
    SELECT $3 / coalesce((SELECT share_now(share, share_at, $2) FROM destinations WHERE name = $1), 1)
           * interval '1 second' AS step
)
INSERT INTO turns AS t (name, next_at) SELECT $1, $2 - ($4::int - 2) * step FROM pace
ON CONFLICT (name) DO UPDATE SET next_at = greatest(t.next_at + (SELECT step FROM pace), EXCLUDED.next_at)
WHERE t.next_at <= $2::timestamptz + $5 * interval '1 second'
RETURNING extract(epoch FROM t.next_at - (SELECT step FROM pace) - $2)::double precision AS wait;

-- name: turn_wait
-- $1 name, $2 now
SELECT extract(epoch FROM next_at - $2)::double precision AS wait FROM turns WHERE name = $1;

-- name: hold_turns
-- The vendor named a time: no call before it. $1 name, $2 until
INSERT INTO turns AS t (name, next_at) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET next_at = greatest(t.next_at, EXCLUDED.next_at);

-- name: newest
-- The mirror. Of each object the events of its highest rank and, among these, of its latest second: usually one. If a read of
-- that rank is known, it comes too, and of the events only those it does not surely cover: accepted after it began (its id
-- names the last event known then), and of no earlier second than it. What to make of them is for hub.mirror; it needs the
-- 21st only to see that there are too many.
SELECT o.id AS wanted, s.*
FROM unnest($1::text[]) AS o (id)
CROSS JOIN LATERAL (
    SELECT e.rank, e.created FROM events e
    WHERE e.object_id = o.id AND e.disposition IN ('routed', 'unmapped', 'read') AND e.kind <> 'thin'
    ORDER BY e.rank DESC, e.created DESC LIMIT 1
) top
LEFT JOIN LATERAL (
    SELECT r.seq, r.created, coalesce(substring(r.id FROM ':([0-9]+):[0-9]+$')::bigint, r.seq) AS known
    FROM events r WHERE r.object_id = o.id AND r.rank = top.rank AND r.kind = 'read'
    ORDER BY r.seq DESC LIMIT 1
) read ON true
CROSS JOIN LATERAL (
    (SELECT e.seq, e.id AS event_id, e.kind, e.type, e.rank, e.created, e.api_version, e.object_type, e.body
     FROM events e
     WHERE e.object_id = o.id AND e.rank = top.rank AND e.created >= coalesce(read.created, top.created)
       AND e.disposition IN ('routed', 'unmapped') AND e.kind = 'snapshot' AND e.seq > coalesce(read.known, 0)
     ORDER BY e.created DESC, e.seq DESC LIMIT 21)
    UNION ALL
    SELECT e.seq, e.id AS event_id, e.kind, e.type, e.rank, e.created, e.api_version, e.object_type, e.body
    FROM events e WHERE e.seq = read.seq
) s;

-- name: unfinished
-- A dead letter before one that is only late. $1 destination, $2 lane, $3 objects, $4 now
SELECT object_id, min(id) FILTER (WHERE state = 'dead') AS dead, max(due_at) AS due_at FROM deliveries
WHERE destination = $1 AND lane = $2 AND state IN ('waiting', 'claimed', 'unknown', 'held', 'dead')
  AND object_id = ANY ($3::text[]) AND (state = 'dead' OR (state IN ('waiting', 'unknown') AND due_at > $4))
GROUP BY object_id ORDER BY dead, due_at LIMIT 1;

-- name: links_of
SELECT object_id, record, key, vendor_id, digest, mapping, status FROM links
WHERE destination = $1 AND object_id = ANY ($2::text[]);

-- name: open_batch
SELECT id, received_date, first_seq, last_seq, rows FROM batches
WHERE destination = $1 AND lane = $2 AND done_at IS NULL
  AND EXISTS (SELECT FROM deliveries d WHERE d.batch_id = batches.id AND d.state <> 'skipped')
ORDER BY id LIMIT 1;

-- name: lock_log_lane
SELECT key FROM lanes
WHERE destination = $1 AND due_at IS NOT NULL AND (lease_until IS NULL OR lease_until <= $2)
  AND NOT EXISTS (SELECT FROM destinations p WHERE p.name = $1 AND p.paused_until > $2)
ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: lease_log_lane
UPDATE lanes SET lease_until = $3, due_at = $3, claim = claim + 1 WHERE destination = $1 AND key = $2 RETURNING claim;

-- name: wait_log_lane
UPDATE lanes SET due_at = $3 WHERE destination = $1 AND key = $2;

-- name: batch_candidates
-- What could go into the next batch, oldest first: sizes and days, without bodies.
SELECT d.id, d.event_seq, e.received_at, octet_length(e.body) AS bytes
FROM deliveries d JOIN events e ON e.seq = d.event_seq
WHERE d.destination = $1 AND d.lane = $2 AND d.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead')
  AND d.state = 'waiting' AND d.due_at <= $3 AND d.batch_id IS NULL
ORDER BY d.id LIMIT $4;

-- name: seal_batch
INSERT INTO batches (destination, lane, received_date, first_seq, last_seq, rows, sealed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id;

-- name: join_batch
UPDATE deliveries SET batch_id = $1 WHERE id = ANY ($2::bigint[]) AND state = 'waiting' AND batch_id IS NULL;

-- name: claim_batch
-- The lane is locked: nobody else claims. $1 batch, $2 end of the lease, $3 now, $4 destination
WITH claimed AS (
    UPDATE deliveries d
    SET claim = d.claim + 1, failures = d.failures + (o.was = 'claimed')::int, state = 'claimed', due_at = NULL,
        lease_until = $2,
        first_failure_at = CASE WHEN o.was = 'claimed' THEN coalesce(d.first_failure_at, $3) ELSE d.first_failure_at END
    FROM (SELECT id, state AS was FROM deliveries
          WHERE batch_id = $1 AND state IN ('waiting', 'claimed', 'unknown') ORDER BY id FOR UPDATE) o
    WHERE d.id = o.id
    RETURNING d.id, d.claim, d.failures, d.first_failure_at, d.event_seq, o.was
), lost AS (
    INSERT INTO attempts (batch_id, claim, started_at, duration_ms, outcome, reason)
    SELECT $1, max(claim) - 1, $3, 0, 'lost', 'its worker ended or hung; what it sent is not known'
    FROM claimed WHERE was = 'claimed' HAVING count(*) > 0
)
SELECT c.id, c.claim, c.failures, c.was,
       (SELECT CASE WHEN c.first_failure_at IS NOT NULL THEN
                   greatest(c.first_failure_at, p.closed_at, CASE WHEN p.opened > 0 THEN $3 END) END
        FROM (SELECT 1) one LEFT JOIN destinations p ON p.name = $4) AS first_failure_at, e.seq, e.id AS event_id, e.kind, e.type, e.account, e.api_version,
       e.livemode, e.object_type, e.object_id, e.customer_id, e.rank, e.created, e.received_at, e.disposition, e.note, e.body
FROM claimed c JOIN events e ON e.seq = c.event_seq ORDER BY e.seq;

-- name: close_batch
UPDATE batches SET done_at = $2 WHERE id = $1 AND done_at IS NULL;

-- name: pause_by_hub
-- A limit or a refused login found on the way. A person's or the settings' pause is stronger and stays.
UPDATE destinations SET paused_until = greatest(paused_until, $2), reason = $3, paused_by = 'hub'
WHERE name = $1 AND paused_by IS DISTINCT FROM 'operator' AND paused_by IS DISTINCT FROM 'settings';

-- name: halt_log_lane
-- The open batch is dead: nothing behind it is written until a person retried or skipped it.
UPDATE lanes SET due_at = NULL, lease_until = NULL WHERE destination = $1 AND key = $2;

-- name: idle_log_lane
UPDATE lanes SET due_at = NULL, lease_until = NULL WHERE destination = $1 AND key = $2
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.destination = $1 AND d.lane = $2
                  AND d.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead') AND d.state IN ('waiting', 'unknown'))
RETURNING key;

-- name: batch_is_alive
SELECT EXISTS (SELECT FROM deliveries WHERE batch_id = $1 AND state IN ('waiting', 'claimed', 'unknown'));

-- name: batch_is_due
SELECT NOT EXISTS (SELECT FROM deliveries WHERE batch_id = $1 AND state IN ('waiting', 'unknown') AND due_at > $2);
