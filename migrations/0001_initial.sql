-- One set of DDL for SQLite and PostgreSQL. Ids are made by the application; times are UTC with microseconds.

-- Facts about this installation, one row each: `installation` (its id) and `key_check` (a token that shows whether the
-- configured encryption keys are the ones that the data was written with).
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The Outposts that share this database. One that was not seen for a while has its servers taken over.
CREATE TABLE instances (
    id      TEXT PRIMARY KEY,
    seen_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE hubs (
    name       TEXT PRIMARY KEY,
    -- Where this hub's API is, pinned by its first start where the configuration says nothing.
    api_url    TEXT,
    created_at TIMESTAMPTZ NOT NULL
);

-- Up to two passwords a hub, so that one can be replaced without a gap. `source` says who manages the row: the command
-- line (`cli`), the configuration file (`config`) or the environment (`env`).
CREATE TABLE hub_passwords (
    id         TEXT PRIMARY KEY,
    hub        TEXT NOT NULL REFERENCES hubs (name) ON DELETE CASCADE,
    source     TEXT NOT NULL,
    hash       TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX hub_passwords_hub ON hub_passwords (hub);

-- Every server, in whatever phase. `request` and `handle` are Fernet tokens of JSON. One that has left keeps its row as
-- history, in the phase `gone` and without these secrets: so it leaves with one statement.
CREATE TABLE servers (
    uid          TEXT PRIMARY KEY,
    hub          TEXT NOT NULL,
    name         TEXT NOT NULL,
    start_id     TEXT NOT NULL,
    username     TEXT NOT NULL,
    user_id      BIGINT NOT NULL,
    flavor       TEXT,
    phase        TEXT NOT NULL,
    generation   BIGINT NOT NULL,
    owner        TEXT NOT NULL,
    handle       TEXT NOT NULL,
    request      TEXT NOT NULL,
    asynchronous BOOLEAN NOT NULL,
    address      TEXT NOT NULL,
    -- How it ended by itself.
    exit_code    BIGINT,
    exit_reason  TEXT,
    -- How it left.
    outcome      TEXT,
    start_date   TIMESTAMPTZ NOT NULL,
    end_date     TIMESTAMPTZ,
    last_update  TIMESTAMPTZ NOT NULL,
    -- When the row was last moved; of one that has left: when it left.
    changed_at   TIMESTAMPTZ NOT NULL
);
CREATE UNIQUE INDEX servers_identity ON servers (hub, name, start_id) WHERE phase <> 'gone';
CREATE INDEX servers_changed ON servers (changed_at);
