-- name: keep_reconciliation
-- $1 destination, $2 since, $3 up to, $4 started, $5 finished, $6 documents, $7 agree, $8 under way, $9 counts, $10 differences,
-- $11 totals, $12 repaired
INSERT INTO reconciliations (destination, since, up_to, started_at, finished_at, documents, agree, under_way, counts,
                             differences, totals, repaired)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id;

-- name: last_reconciliations
-- Of each destination the newest. The index gives the last row at once, however many there are. $1 destinations
SELECT r.destination, r.up_to, r.finished_at, r.documents, r.agree, r.under_way, r.counts
FROM unnest($1::text[]) AS u (name)
CROSS JOIN LATERAL (SELECT * FROM reconciliations x WHERE x.destination = u.name ORDER BY x.id DESC LIMIT 1) r;

-- name: list_reconciliations
-- Newest first. $1 destination or null, $2 before this id or null, $3 how many
SELECT id, destination, since, up_to, started_at, finished_at, documents, agree, under_way, repaired, counts, differences,
       totals
FROM reconciliations
WHERE ($1::text IS NULL OR destination = $1) AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3;

-- name: not_over
-- Deliveries of these objects that are not over: the reason of a difference, or its cause. $1 destination, $2 objects
SELECT e.object_id, d.id, d.state, d.code
FROM events e JOIN deliveries d ON d.event_seq = e.seq AND d.destination = $1
WHERE e.object_id = ANY ($2::text[]) AND d.state IN ('waiting', 'claimed', 'unknown', 'held', 'dead')
ORDER BY d.id;

-- name: forget_digests
-- Of what is to be written again (hub.model.FORGOTTEN): an equal digest would be no call. What a person linked stays as that person said.
-- $1 destination, $2 objects
UPDATE links SET digest = 'forgotten' WHERE destination = $1 AND object_id = ANY ($2::text[])
AND digest NOT IN ('linked', 'adopted', 'revived')
RETURNING object_id;
