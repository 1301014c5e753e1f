-- What a running hub may do. Run as hub_migrate after every `hub migrate`; running it again is harmless.
-- A test delivers under exactly these rights (tests/store/test_grants.py): a table that is missing here fails it.

-- What happened is only ever added to.
GRANT SELECT, INSERT ON events, attempts TO hub_run;
-- What becomes of it.
GRANT SELECT, INSERT, UPDATE ON deliveries, lanes, batches, links, destinations, sweeps, backfills, turns, prunings TO hub_run;
-- What was found is written once.
GRANT SELECT, INSERT ON reconciliations TO hub_run;
-- Signed bodies that are no events: the oldest make room.
GRANT SELECT, INSERT, DELETE ON rejected_bodies TO hub_run;
-- Every process looks at the schema's version before it starts.
GRANT SELECT ON alembic_version TO hub_run;
-- Settled history goes through these, which do nothing else (migrations/versions/v0004_growth.sql): with a right to change
-- events or to delete deliveries it could forge or drop any.
GRANT EXECUTE ON FUNCTION hub_prune(timestamptz, bigint, bigint), hub_prune_notes(timestamptz) TO hub_run;
