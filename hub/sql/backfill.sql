-- name: begin_backfill
-- $1 since, $2 now, $3 progress
INSERT INTO backfills (since, started_at, progress) VALUES ($1, $2, $3) RETURNING id;

-- name: unfinished_backfill
-- The newest only, and only one that asked for the same and is not too old. $1 since, $2 not before
SELECT id, started_at, progress FROM backfills
WHERE id = (SELECT max(id) FROM backfills) AND finished_at IS NULL AND since IS NOT DISTINCT FROM $1 AND started_at > $2;

-- name: advance_backfill
-- $1 id, $2 progress, $3 when it ended, or null, $4 note
UPDATE backfills SET progress = $2, finished_at = $3, note = $4 WHERE id = $1;

-- name: open_gap
-- What was lost to sweeps and not brought in since. Always one row, of nulls if there is nothing.
SELECT min(gap_from) AS gap_from, max(gap_to) AS gap_to FROM sweeps WHERE gap_from IS NOT NULL AND closed_by IS NULL;

-- name: close_gaps
-- A backfill is complete: it began after them, and looked back as far. $1 backfill, $2 it began, $3 since, $4 what to note
UPDATE sweeps SET closed_by = $1, note = concat_ws(' ', note, $4::text)
WHERE gap_from IS NOT NULL AND closed_by IS NULL AND gap_to <= $2 AND ($3::timestamptz IS NULL OR gap_from >= $3)
RETURNING id;

-- name: last_seq
SELECT coalesce(max(seq), 0) AS seq FROM events;

-- name: deliveries_had
-- Which steps of these objects some destination was given. What retention took away is settled: no destination means all.
SELECT e.object_id, e.type, d.destination FROM events e JOIN deliveries d ON d.event_seq = e.seq
WHERE e.object_id = ANY ($1::text[]) AND e.disposition = 'routed'
UNION
SELECT e.object_id, e.type, NULL FROM events e
WHERE e.object_id = ANY ($1::text[]) AND e.disposition = 'routed' AND e.body_removed_at IS NOT NULL;

-- name: known_objects
-- Page by page in the order of the index, whatever their type: so a page is a page's work, however rare the type is that is
-- looked for. How final each is known to be. Those of connected accounts are not in our lists, and what has arrived since a
-- list was begun need not be. $1 after this one, $2 the last event known then, $3 how many
SELECT object_id, min(object_type) AS object_type, max(rank) AS rank FROM events
WHERE object_id > $1 AND account IS NULL AND seq <= $2 AND kind <> 'thin'
  AND disposition IN ('routed', 'unmapped', 'read')
GROUP BY object_id ORDER BY object_id LIMIT $3;

-- name: objects_there
-- Which of these were seen before they were deleted, if they were.
SELECT DISTINCT object_id FROM events
WHERE object_id = ANY ($1::text[]) AND rank < 9 AND kind <> 'thin' AND disposition IN ('routed', 'unmapped', 'read');
