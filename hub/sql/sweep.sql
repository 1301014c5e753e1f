-- name: last_sweep
-- How far the event list has been compared, and when a sweep last came to its end. Always one row.
SELECT max(to_at) AS to_at, max(finished_at) AS finished_at FROM sweeps;

-- name: known_events
SELECT id FROM events WHERE id = ANY ($1::text[]);

-- name: begin_sweep
-- With the first window that is complete: a sweep that never got that far leaves no mark. $1 from, $2 reached, $3 note,
-- $4 and $5 the gap it found, if it did
INSERT INTO sweeps (from_at, to_at, listed, missing, note, gap_from, gap_to) VALUES ($1, $2, 0, 0, $3, $4, $5) RETURNING id;

-- name: advance_sweep
-- $1 id, $2 reached, $3 listed, $4 missing, both of this sweep so far, $5 when it ended, or null
UPDATE sweeps SET to_at = $2, listed = $3, missing = $4, finished_at = $5 WHERE id = $1;
