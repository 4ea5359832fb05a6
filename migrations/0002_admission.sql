-- What a server counts for in limits and in accounting: thousandths of a processor, bytes, devices.
ALTER TABLE servers ADD COLUMN cpu_millis BIGINT NOT NULL DEFAULT 0;
ALTER TABLE servers ADD COLUMN memory_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE servers ADD COLUMN gpus BIGINT NOT NULL DEFAULT 0;
-- How long it may run from when it runs; no value: end_date is what somebody set, or there is no end.
ALTER TABLE servers ADD COLUMN runtime_seconds BIGINT;
-- When it began to run, and when it ended by itself or left: the time that it is charged for.
ALTER TABLE servers ADD COLUMN running_at TIMESTAMPTZ;
ALTER TABLE servers ADD COLUMN ended_at TIMESTAMPTZ;
UPDATE servers SET running_at = start_date WHERE phase IN ('running', 'ended');
-- The end date that its user was warned of.
ALTER TABLE servers ADD COLUMN warned_of TIMESTAMPTZ;
-- Of a start that waits for its turn: the limits that it shares with others and waits for, one a line.
ALTER TABLE servers ADD COLUMN waits_for TEXT NOT NULL DEFAULT '';
-- Those that count in limits, with all that is counted, so that no row has to be read; and those that wait.
CREATE INDEX servers_of_user ON servers (hub, user_id, phase, cpu_millis, memory_bytes, gpus, uid)
    WHERE phase IN ('starting', 'running');
CREATE INDEX servers_of_flavor ON servers (flavor, hub, user_id, phase, cpu_millis, memory_bytes, gpus)
    WHERE phase IN ('starting', 'running');
CREATE INDEX servers_queued ON servers (start_date) WHERE phase = 'queued';

-- The groups of a server's user that have limits.
CREATE TABLE server_groups (
    uid  TEXT NOT NULL REFERENCES servers (uid) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (uid, name)
);

-- Flavors and credits (`kind`): every change is one version, the newest is in force. `document` is JSON. `author` is
-- `file`, `cli:<Unix user>` or `token:<name>`; `digest` is that of the file it came from.
CREATE TABLE definitions (
    kind       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    document   TEXT NOT NULL,
    author     TEXT NOT NULL,
    summary    TEXT NOT NULL,
    digest     TEXT,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (kind, version)
);

-- Tokens of the admin API: SHA-256 hashes of random texts. `scope` is `read` or `write`.
CREATE TABLE admin_tokens (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    scope      TEXT NOT NULL,
    hash       TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    used_at    TIMESTAMPTZ
);

-- Who changed what by the admin API or the command line.
CREATE TABLE audit (
    id      TEXT PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
);
