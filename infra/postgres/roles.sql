-- Two roles, so that what is exposed to the internet cannot change the schema:
--   hub_migrate  owns the tables; only `hub migrate` uses it
--   hub_run      reads and writes rows, and of those only what grants.sql says
-- Run once per database, as its administrator, before the first `hub migrate`; running it again is harmless and sets the
-- passwords anew. Passwords come from the environment, so that they are in no file and no process list (psql 14 or newer):
--   HUB_DB_MIGRATE_PASSWORD=... HUB_DB_RUN_PASSWORD=... psql "$ADMIN_URL" -f infra/postgres/roles.sql
-- Without them the ALTER ROLE below is a syntax error, and psql stops.

\set ON_ERROR_STOP on
\getenv migrate_password HUB_DB_MIGRATE_PASSWORD
\getenv run_password HUB_DB_RUN_PASSWORD

SELECT 'CREATE ROLE hub_migrate' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hub_migrate') \gexec
SELECT 'CREATE ROLE hub_run' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hub_run') \gexec

ALTER ROLE hub_migrate LOGIN PASSWORD :'migrate_password';
ALTER ROLE hub_run LOGIN PASSWORD :'run_password';

-- The hub holds no transaction across a network call: one that idles is a bug or a dead client, and would hold lanes.
ALTER ROLE hub_run SET idle_in_transaction_session_timeout = '60s';

SELECT current_database() AS database \gset
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO hub_migrate, hub_run;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO hub_migrate;
GRANT USAGE ON SCHEMA public TO hub_run;
