-- Invariants live here as CHECKs: a state the engine does not know is refused by the database, not by a reader's care.

-- What indexes and joins compare is COLLATE "C": bytes, as fast as can be, in the same order on every server, so that all lock
-- rows in one order whatever language the database was made for. Words for people are not in such columns.

CREATE TABLE events (
    seq          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           text COLLATE "C" NOT NULL UNIQUE,
    kind         text        NOT NULL CHECK (kind IN ('snapshot', 'thin', 'read')),
    type         text COLLATE "C" NOT NULL,
    account      text,
    api_version  text,
    livemode     boolean,
    object_type  text,
    object_id    text COLLATE "C",
    customer_id  text COLLATE "C",
    rank         smallint    NOT NULL,
    created      timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    disposition  text        NOT NULL CHECK (disposition IN ('routed', 'unmapped', 'other_account', 'other_mode', 'read')),
    note         text,
    body         bytea       NOT NULL
) WITH (toast_tuple_target = 8160);
-- A typical event (2-3 KB) stays in the row as it came: compressing it is work on the busiest path.

-- The mirror: the newest snapshot of an object is the first row of this index (hub.ordering says why this order).
CREATE INDEX events_object ON events (object_id, rank DESC, created DESC, seq DESC) WHERE object_id IS NOT NULL;

CREATE INDEX events_not_routed ON events (seq) WHERE disposition IN ('unmapped', 'other_account', 'other_mode');

-- No foreign key to events: both rows are written by one statement, retention removes both, and the check would run
-- four times per event on the busiest path.
CREATE TABLE deliveries (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_seq        bigint      NOT NULL,
    destination      text COLLATE "C" NOT NULL,
    lane             text COLLATE "C" NOT NULL,
    object_id        text COLLATE "C" NOT NULL,
    state            text COLLATE "C" NOT NULL DEFAULT 'waiting',
    due_at           timestamptz,
    claim            integer     NOT NULL DEFAULT 0 CHECK (claim >= 0),
    failures         integer     NOT NULL DEFAULT 0 CHECK (failures >= 0),
    lease_until      timestamptz,
    created_at       timestamptz NOT NULL,
    first_failure_at timestamptz,
    settled_at       timestamptz,
    code             text,
    cause            text,
    fix              text,
    note             text,
    superseded_by    bigint,
    held_by          bigint,
    batch_id         bigint,
    UNIQUE (event_seq, destination),
    CONSTRAINT known_state CHECK (
        state IN ('waiting', 'claimed', 'unknown', 'held', 'done', 'superseded', 'dead', 'skipped')),
    CONSTRAINT due_when_it_will_be_tried CHECK ((state IN ('waiting', 'unknown')) = (due_at IS NOT NULL)),
    CONSTRAINT leased_when_claimed CHECK ((state = 'claimed') = (lease_until IS NOT NULL)),
    CONSTRAINT settled_when_over CHECK ((state IN ('done', 'superseded', 'dead', 'skipped')) = (settled_at IS NOT NULL)),
    CONSTRAINT held_by_someone CHECK ((state = 'held') = (held_by IS NOT NULL)),
    CONSTRAINT dead_with_a_way_out CHECK (state <> 'dead' OR (code IS NOT NULL AND cause IS NOT NULL AND fix IS NOT NULL)),
    CONSTRAINT skipped_with_a_reason CHECK (state <> 'skipped' OR note IS NOT NULL)
);

-- What is still open in a lane, in order. Held and dead are in it because a ledger must see them.
CREATE INDEX deliveries_open ON deliveries (destination, lane, id)
    WHERE state IN ('waiting', 'claimed', 'unknown', 'held', 'dead');

CREATE INDEX deliveries_dead ON deliveries (id) WHERE state IN ('dead', 'held', 'unknown');

-- One row per (destination, customer). `due_at` is when somebody should next look at it: the earliest open delivery, or
-- the end of the lease while it is claimed; null when nothing is open.
CREATE TABLE lanes (
    destination text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    due_at      timestamptz,
    lease_until timestamptz,
    claim       integer NOT NULL DEFAULT 0,
    PRIMARY KEY (destination, key),
    CONSTRAINT leased_lanes_are_due CHECK (lease_until IS NULL OR due_at IS NOT NULL)
) WITH (fillfactor = 70);

CREATE INDEX lanes_due ON lanes (destination, due_at) WHERE due_at IS NOT NULL;

-- A sealed batch of a log destination: which deliveries go into which object is decided once, here.
CREATE TABLE batches (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination   text COLLATE "C" NOT NULL,
    lane          text COLLATE "C" NOT NULL,
    received_date date        NOT NULL,
    first_seq     bigint      NOT NULL,
    last_seq      bigint      NOT NULL CHECK (last_seq >= first_seq),
    rows          integer     NOT NULL CHECK (rows > 0),
    sealed_at     timestamptz NOT NULL,
    done_at       timestamptz,
    UNIQUE (destination, lane, first_seq)
);

CREATE INDEX batches_open ON batches (destination, lane) WHERE done_at IS NULL;

CREATE INDEX deliveries_batch ON deliveries (batch_id) WHERE batch_id IS NOT NULL;

CREATE TABLE attempts (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint,
    batch_id    bigint,
    claim       integer     NOT NULL,
    started_at  timestamptz NOT NULL,
    duration_ms integer     NOT NULL CHECK (duration_ms >= 0),
    outcome     text        NOT NULL CHECK (outcome IN ('receipt', 'reject', 'defer', 'unknown', 'retry', 'lost')),
    code        text,
    reason      text,
    http_status integer,
    request_id  text,
    answer      jsonb,
    CONSTRAINT of_a_delivery_or_a_batch CHECK ((delivery_id IS NULL) <> (batch_id IS NULL))
);

CREATE INDEX attempts_delivery ON attempts (delivery_id) WHERE delivery_id IS NOT NULL;

CREATE INDEX attempts_batch ON attempts (batch_id) WHERE batch_id IS NOT NULL;

CREATE TABLE links (
    destination text COLLATE "C" NOT NULL,
    object_id   text COLLATE "C" NOT NULL,
    record      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    vendor_id   text        NOT NULL,
    digest      text        NOT NULL,
    mapping     text        NOT NULL,
    status      text,
    linked_at   timestamptz NOT NULL,
    PRIMARY KEY (destination, object_id, record)
);

CREATE TABLE destinations (
    name         text COLLATE "C" PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('state', 'ledger', 'log')),
    paused_until timestamptz,
    reason       text,
    paused_by    text CHECK (paused_by IN ('hub', 'operator', 'settings')),
    CONSTRAINT paused_with_a_reason CHECK ((paused_until IS NULL) = (reason IS NULL) AND (reason IS NULL) = (paused_by IS NULL))
);

-- Signed by Stripe, but not an event: kept for a person to look at. Answered 400.
CREATE TABLE rejected_bodies (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL,
    reason      text        NOT NULL,
    body        bytea       NOT NULL
);
