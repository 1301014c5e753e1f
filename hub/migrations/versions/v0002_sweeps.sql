-- One row per sweep over Stripe's event list. `to_at` is how far it got, and moves in the transaction that accepts what was
-- missing until then; the next sweep begins there. Without `finished_at` the sweep is under way, or was cut short.
CREATE TABLE sweeps (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    listed      integer     NOT NULL CHECK (listed >= 0),
    missing     integer     NOT NULL,
    finished_at timestamptz,
    note        text,
    CONSTRAINT time_goes_forward CHECK (to_at >= from_at),
    CONSTRAINT missing_were_listed CHECK (missing BETWEEN 0 AND listed)
);
