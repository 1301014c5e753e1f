-- One comparison of what Stripe says with what a destination holds (hub.reconcile): written when it has come to its end.
CREATE TABLE IF NOT EXISTS reconciliations (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination text        NOT NULL,
    since       timestamptz NOT NULL,
    up_to       timestamptz NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    documents   bigint      NOT NULL CHECK (documents >= 0),
    agree       bigint      NOT NULL CHECK (agree >= 0 AND agree <= documents),
    under_way   bigint      NOT NULL CHECK (under_way >= 0),
    counts      jsonb       NOT NULL,
    differences jsonb       NOT NULL,
    totals      jsonb       NOT NULL,
    repaired    bigint      NOT NULL DEFAULT 0 CHECK (repaired >= 0)
);

CREATE INDEX IF NOT EXISTS reconciliations_last ON reconciliations (destination, id);
