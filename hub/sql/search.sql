-- name: guard_reading
-- Reading for people: changes nothing, and gives up before it becomes a burden. $1 most milliseconds, as text
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', $1, true);

-- name: search_events
-- What is asked for is put in place of the comment by hub.search; only the condition that is there is planned for.
-- Without bodies: they are kilobytes each. $1 most rows
SELECT e.seq, e.id, e.kind, e.type, e.account, e.api_version, e.livemode, e.object_type, e.object_id, e.customer_id,
       e.created, e.received_at, e.disposition, e.note
FROM events e
WHERE true /* and */
ORDER BY e.seq DESC LIMIT $1;

-- name: summaries_of
-- The same columns for events that are known by their place. $1 seqs
SELECT e.seq, e.id, e.kind, e.type, e.account, e.api_version, e.livemode, e.object_type, e.object_id, e.customer_id,
       e.created, e.received_at, e.disposition, e.note
FROM events e WHERE e.seq = ANY ($1::bigint[]);

-- name: event_body
SELECT seq, body, body_removed_at FROM events WHERE id = $1;

-- name: search_deliveries
-- An object's deliveries are found through its events: their index is there anyway. $1 most rows
SELECT d.id, d.event_seq, d.destination, d.lane, d.object_id, d.state, d.due_at, d.claim, d.failures, d.lease_until,
       d.created_at, d.first_failure_at, d.settled_at, d.code, d.cause, d.fix, d.note, d.superseded_by, d.held_by, d.batch_id
FROM deliveries d
WHERE true /* and */
ORDER BY d.id DESC LIMIT $1;

-- name: deliveries_of
-- $1 event seqs
SELECT d.id, d.event_seq, d.destination, d.lane, d.object_id, d.state, d.due_at, d.claim, d.failures, d.lease_until,
       d.created_at, d.first_failure_at, d.settled_at, d.code, d.cause, d.fix, d.note, d.superseded_by, d.held_by, d.batch_id
FROM deliveries d WHERE d.event_seq = ANY ($1::bigint[])
ORDER BY d.id DESC;

-- name: delivery
SELECT d.id, d.event_seq, d.destination, d.lane, d.object_id, d.state, d.due_at, d.claim, d.failures, d.lease_until,
       d.created_at, d.first_failure_at, d.settled_at, d.code, d.cause, d.fix, d.note, d.superseded_by, d.held_by, d.batch_id
FROM deliveries d WHERE d.id = $1;

-- name: attempts_of
-- A delivery of a sealed batch was tried with its batch. Newest first, at most $3 a delivery, and how many there are.
-- $1 delivery ids, $2 their batches
SELECT t.* FROM (
    SELECT a.of, a.id, a.claim, a.started_at, a.duration_ms, a.outcome, a.code, a.reason, a.http_status, a.request_id,
           a.answer, count(*) OVER (PARTITION BY a.of) AS total,
           row_number() OVER (PARTITION BY a.of ORDER BY a.id DESC) AS place
    FROM (
        SELECT d.id AS of, x.* FROM unnest($1::bigint[]) AS d (id) JOIN attempts x ON x.delivery_id = d.id
        UNION ALL
        SELECT d.id AS of, x.* FROM unnest($1::bigint[], $2::bigint[]) AS d (id, batch_id) JOIN attempts x ON x.batch_id = d.batch_id
    ) a
) t
WHERE t.place <= $3 ORDER BY t.of, t.id DESC;

-- name: holds
-- How many later deliveries each of these holds. $1 ids, $2 destinations, $3 lanes
SELECT d.held_by AS id, count(*) AS n
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS u (id, destination, lane)
JOIN deliveries d ON d.destination = u.destination AND d.lane = u.lane AND d.held_by = u.id
WHERE d.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead') AND d.state = 'held'
GROUP BY d.held_by;

-- name: links_at
-- $1 destination, $2 object
SELECT destination, object_id, record, key, vendor_id, mapping, status, linked_at FROM links
WHERE destination = $1 AND object_id = $2 ORDER BY record;

-- name: links_everywhere
-- Through the destinations, which are few, so that the primary key serves. $1 object
SELECT k.destination, k.object_id, k.record, k.key, k.vendor_id, k.mapping, k.status, k.linked_at
FROM destinations p JOIN links k ON k.destination = p.name AND k.object_id = $1
ORDER BY k.destination, k.record;

-- name: destination_is_known
-- By registration, or by what it once was sent.
SELECT EXISTS (SELECT FROM destinations WHERE name = $1) OR EXISTS (SELECT FROM lanes WHERE destination = $1);

-- name: destination_list
-- Counts are of what is open: the index holds nothing else. A pause that is over is none. $1 now
SELECT p.name, p.kind, p.paused_until > $1 AS paused, p.paused_until = 'infinity' AS until_resumed,
       CASE WHEN p.paused_until > $1 AND isfinite(p.paused_until) THEN p.paused_until END AS paused_until,
       CASE WHEN p.paused_until > $1 THEN p.reason END AS reason,
       CASE WHEN p.paused_until > $1 THEN p.paused_by END AS paused_by,
       CASE WHEN p.opened = 0 THEN 'closed' WHEN p.paused_until > $1 THEN 'open' ELSE 'half_open' END AS circuit,
       share_now(p.share, p.share_at, $1) AS share,
       (SELECT min(l.due_at) FROM lanes l
        WHERE l.destination = p.name AND l.due_at IS NOT NULL AND l.lease_until IS NULL) AS next_due_at
FROM destinations p ORDER BY p.name;

-- name: open_by_state
-- How much is open, exactly up to $1 and no further: a million is not counted for a gauge. The oldest is the first one. Written
-- as ranges: of an equality the planner would conclude that the primary key has the order too, and read all that is done. The
-- destinations are those that have something open, found by leaping through the index from one name to the next.
WITH RECURSIVE named (name) AS (
    (SELECT d.destination FROM deliveries d WHERE d.settled_at IS NULL OR d.state = 'dead'
     ORDER BY d.destination LIMIT 1)
    UNION ALL
    SELECT (SELECT d.destination FROM deliveries d
            WHERE d.destination > n.name AND (d.settled_at IS NULL OR d.state = 'dead')
            ORDER BY d.destination LIMIT 1)
    FROM named n WHERE n.name IS NOT NULL
)
SELECT n.name AS destination, s.state, c.n, o.created_at AS oldest
FROM named n CROSS JOIN unnest(ARRAY['waiting', 'claimed', 'unknown', 'held', 'dead']) AS s (state)
CROSS JOIN LATERAL (
    SELECT d.created_at FROM deliveries d
    WHERE (d.destination, d.state) >= (n.name, s.state) AND (d.destination, d.state) <= (n.name, s.state)
      AND (d.settled_at IS NULL OR d.state = 'dead')
    ORDER BY d.destination, d.state, d.id LIMIT 1
) o
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM deliveries d
        WHERE (d.destination, d.state) >= (n.name, s.state) AND (d.destination, d.state) <= (n.name, s.state)
          AND (d.settled_at IS NULL OR d.state = 'dead')
        ORDER BY d.destination, d.state, d.id LIMIT $1 + 1
    ) few
) c
WHERE n.name IS NOT NULL;

-- name: are_more_than
SELECT (SELECT count(*) FROM (SELECT FROM events LIMIT $1 + 1) e) > $1 AS events,
       (SELECT count(*) FROM (SELECT FROM deliveries LIMIT $1 + 1) d) > $1 AS deliveries;

-- name: count_events
SELECT disposition, kind, count(*) AS n FROM events GROUP BY disposition, kind;

-- name: count_deliveries
SELECT destination, state, count(*) AS n FROM deliveries GROUP BY destination, state;

-- name: unusual_events
-- Of each of these at most $1 + 1: their indexes hold nothing else.
SELECT x.name, (SELECT count(*) FROM (SELECT FROM events e WHERE e.disposition >= x.name AND e.disposition <= x.name AND e.disposition <> 'routed'
                                      ORDER BY e.disposition, e.seq LIMIT $1 + 1) few) AS n
FROM unnest(ARRAY['unmapped', 'other_account', 'other_mode', 'read']) AS x (name)
UNION ALL
SELECT 'kind ' || x.name, (SELECT count(*) FROM (SELECT FROM events e WHERE e.kind >= x.name AND e.kind <= x.name AND e.kind <> 'snapshot'
                                                 ORDER BY e.kind, e.seq LIMIT $1 + 1) few)
FROM unnest(ARRAY['thin', 'read']) AS x (name);

-- name: events_like
-- Only ever asked for the number of rows that the planner expects.
SELECT FROM events e WHERE true /* and */;

-- name: deliveries_like
SELECT FROM deliveries d WHERE true /* and */;

-- name: destination_names
SELECT name FROM destinations ORDER BY name;

-- name: search_rejected
-- $1 most rows, $2 older than this id, or null
SELECT id, received_at, reason, octet_length(body) AS size FROM rejected_bodies
WHERE $2::bigint IS NULL OR id < $2 ORDER BY id DESC LIMIT $1;

-- name: held_drafts
-- Drafts that wait for tax. Only of invoices whose delivery to `tax` is not done (skipped ones too: a person gave the delivery
-- up, the draft is still held) is the newest known snapshot looked at. What is dead, unknown or waiting stands in small indexes.
SELECT w.object_id AS invoice, n.object ->> 'customer' AS customer, n.object #>> '{metadata,hub_tax_hold}' AS mark,
       coalesce((n.object ->> 'total')::bigint, 0) AS total, coalesce(n.object ->> 'currency', '?') AS currency,
       d.id AS delivery, d.state, d.code, d.cause, d.fix
FROM (
    SELECT u.object_id, max(u.id) AS id FROM (
        SELECT object_id, id FROM deliveries
        WHERE destination = 'tax' AND state IN ('waiting', 'claimed', 'unknown', 'dead')
          AND (settled_at IS NULL OR state = 'dead')
        UNION ALL
        SELECT object_id, id FROM deliveries WHERE state = 'skipped' AND destination = 'tax'
    ) u GROUP BY u.object_id
) w
JOIN deliveries d ON d.id = w.id
CROSS JOIN LATERAL (
    SELECT convert_from(e.body, 'UTF8')::jsonb #> '{data,object}' AS object FROM events e
    WHERE e.object_id = w.object_id AND e.disposition IN ('routed', 'unmapped', 'read') AND e.kind <> 'thin'
    ORDER BY e.rank DESC, e.created DESC, e.seq DESC LIMIT 1
) n
WHERE n.object ->> 'status' = 'draft' AND n.object #>> '{metadata,hub_tax_hold}' IS NOT NULL;
