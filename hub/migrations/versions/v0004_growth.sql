-- Support looks a customer up, and pages through what was received.
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_customer ON events (customer_id, seq) WHERE customer_id IS NOT NULL;

-- A type that is rare, or was never seen: without it that is a look at every event.
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_type ON events (type, seq);

-- What is not the usual: the rest of the events does not pay for these two.
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_disposition ON events (disposition, seq) WHERE disposition <> 'routed';

CREATE INDEX CONCURRENTLY IF NOT EXISTS events_kind ON events (kind, seq) WHERE kind <> 'snapshot';

-- Its work is done by events_disposition.
DROP INDEX CONCURRENTLY IF EXISTS events_not_routed;

-- How much is open, and since when, without counting all of it. Its condition is another than that of deliveries_open though it
-- means the same: before the first ANALYZE the planner would take this one for a lane, and read all that is open for each.
CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_state ON deliveries (destination, state, id)
    WHERE settled_at IS NULL OR state = 'dead';

CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_skipped ON deliveries (id) WHERE state = 'skipped';

-- Who has done how much: a destination's states are anything but independent of its name.
CREATE STATISTICS IF NOT EXISTS deliveries_by_state (mcv) ON destination, state FROM deliveries;

-- Null: the body is there. Otherwise it was settled history, and is gone since then; the row stays, for its id is what
-- makes a repeat a repeat.
ALTER TABLE events ADD COLUMN IF NOT EXISTS body_removed_at timestamptz;

-- What was removed when (hub.retention). The next one begins after `reached`; from the first event again once a day.
CREATE TABLE IF NOT EXISTS prunings (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    before      timestamptz NOT NULL,
    began_after bigint      NOT NULL,
    reached     bigint      NOT NULL,
    bodies      bigint      NOT NULL DEFAULT 0 CHECK (bodies >= 0),
    deliveries  bigint      NOT NULL DEFAULT 0 CHECK (deliveries >= 0),
    attempts    bigint      NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    batches     bigint      NOT NULL DEFAULT 0 CHECK (batches >= 0),
    started_at  timestamptz NOT NULL,
    finished_at timestamptz
);

-- Which events between two places are settled history: older than `cutoff`; nothing of them open, dead, or settled since;
-- and not what the mirror may look at (`newest` in hub/sql/work.sql). That is, of an object's highest rank: the latest
-- second; the newest read; and what is not older than that read. So an event goes only if there is one beyond it (the row
-- comparison is in the order of events_object), and if it has no such read before it unless its whole rank is passed.
CREATE OR REPLACE FUNCTION hub_settled_history(cutoff timestamptz, above bigint, up_to bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT e.seq FROM events e
    WHERE e.seq > above AND e.seq <= up_to AND e.received_at < cutoff AND e.body_removed_at IS NULL
      AND NOT EXISTS (SELECT FROM deliveries d WHERE d.event_seq = e.seq
                      AND (d.state NOT IN ('done', 'superseded', 'skipped') OR d.settled_at >= cutoff))
      AND (e.object_id IS NULL OR e.kind = 'thin' OR e.disposition NOT IN ('routed', 'unmapped', 'read')
           OR EXISTS (SELECT FROM events n
                      WHERE n.object_id = e.object_id AND n.rank > e.rank
                        AND n.disposition IN ('routed', 'unmapped', 'read') AND n.kind <> 'thin')
           OR (EXISTS (SELECT FROM events n
                       WHERE n.object_id = e.object_id AND (n.rank, n.created) > (e.rank, e.created)
                         AND n.disposition IN ('routed', 'unmapped', 'read') AND n.kind <> 'thin')
               AND NOT EXISTS (SELECT FROM (SELECT x.seq, x.created FROM events x
                                            WHERE x.object_id = e.object_id AND x.rank = e.rank AND x.kind = 'read'
                                            ORDER BY x.seq DESC LIMIT 1) r
                               WHERE r.seq = e.seq OR r.created <= e.created)))
    ORDER BY e.seq
$$;

-- One step of retention, with the rights of the schema's owner: the role of a running hub can change no event and delete
-- no delivery, and this is all of it that it can have done. What was settled does not become unsettled, so nothing need
-- be locked that a worker might want; another's rows are passed over. Not what is younger than 30 days, whoever asks.
CREATE OR REPLACE FUNCTION hub_prune(cutoff timestamptz, above bigint, up_to bigint,
                                     OUT bodies bigint, OUT deliveries bigint, OUT attempts bigint, OUT batches bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    chosen bigint[];
    gone   bigint[];
    sealed bigint[];
    empty  bigint[];
BEGIN
    IF cutoff IS NULL OR cutoff > now() - interval '30 days' THEN
        RAISE EXCEPTION 'what is younger than 30 days is not removed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    chosen := ARRAY(SELECT e.seq FROM public.events e WHERE e.seq IN (SELECT hub_settled_history(cutoff, above, up_to))
                    ORDER BY e.seq FOR UPDATE SKIP LOCKED);
    WITH removed AS (
        DELETE FROM public.deliveries d WHERE d.event_seq = ANY (chosen) RETURNING d.id, d.batch_id
    )
    SELECT coalesce(array_agg(r.id), '{}'), coalesce(array_agg(DISTINCT r.batch_id) FILTER (WHERE r.batch_id IS NOT NULL), '{}')
    INTO gone, sealed FROM removed r;
    WITH removed AS (
        DELETE FROM public.batches b WHERE b.id = ANY (sealed)
            AND NOT EXISTS (SELECT FROM public.deliveries d WHERE d.batch_id = b.id) RETURNING b.id
    )
    SELECT coalesce(array_agg(r.id), '{}') INTO empty FROM removed r;
    WITH removed AS (
        DELETE FROM public.attempts a WHERE a.delivery_id = ANY (gone) OR a.batch_id = ANY (empty) RETURNING 1
    )
    SELECT count(*) INTO attempts FROM removed;
    UPDATE public.events e SET body = '', body_removed_at = now() WHERE e.seq = ANY (chosen);
    bodies := cardinality(chosen);
    deliveries := cardinality(gone);
    batches := cardinality(empty);
END
$$;

REVOKE ALL ON FUNCTION hub_prune(timestamptz, bigint, bigint) FROM PUBLIC;

-- Old notes of the hub about itself. The newest sweep stays, for the next begins where it ended.
CREATE OR REPLACE FUNCTION hub_prune_notes(cutoff timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    removed bigint;
    more    bigint;
BEGIN
    IF cutoff IS NULL OR cutoff > now() - interval '30 days' THEN
        RAISE EXCEPTION 'what is younger than 30 days is not removed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM public.sweeps s WHERE s.to_at < cutoff AND coalesce(s.finished_at, s.to_at) < cutoff
        AND s.to_at < (SELECT max(x.to_at) FROM public.sweeps x)
        AND (s.gap_from IS NULL OR s.closed_by IS NOT NULL) -- an open gap is said until it is closed
        AND s.finished_at IS DISTINCT FROM (SELECT max(x.finished_at) FROM public.sweeps x);
    GET DIAGNOSTICS removed = ROW_COUNT;
    DELETE FROM public.prunings p WHERE p.started_at < cutoff AND p.finished_at IS NOT NULL;
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN removed + more;
END
$$;

REVOKE ALL ON FUNCTION hub_prune_notes(timestamptz) FROM PUBLIC;

-- The newest read of an object, whatever number of events it has (`newest`). Few events are reads.
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_reads ON events (object_id, rank, seq) WHERE kind = 'read';

-- What a sweep could no longer compare, until a backfill has brought the objects in as they are.
ALTER TABLE sweeps ADD COLUMN IF NOT EXISTS gap_from timestamptz, ADD COLUMN IF NOT EXISTS gap_to timestamptz,
    ADD COLUMN IF NOT EXISTS closed_by bigint;

-- One pass over Stripe's lists (hub.backfill): per object type what was found, and whether its list was followed to its end.
CREATE TABLE IF NOT EXISTS backfills (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since       timestamptz,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    progress    jsonb       NOT NULL,
    note        text
);
