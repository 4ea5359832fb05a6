-- SSH public keys that hubs forward with; a key belongs to one hub. `line` is a line of authorized_keys, `fingerprint` is
-- `SHA256:…`. `source` says who manages the row: the command line and the admin API (`cli`) or the configuration (`config`).
CREATE TABLE hub_ssh_keys (
    id          TEXT PRIMARY KEY,
    hub         TEXT NOT NULL REFERENCES hubs (name) ON DELETE CASCADE,
    source      TEXT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    line        TEXT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);
CREATE INDEX hub_ssh_keys_hub ON hub_ssh_keys (hub);

-- The keys by which SSH clients know this installation. `private_key` is a Fernet token of an OpenSSH private key. At most
-- one row is `current`; the `next` one takes its place at the end of a rotation.
CREATE TABLE ssh_host_keys (
    state       TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    private_key TEXT NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);

-- Work that one Outpost at a time does: by whom, and until when unless it says so again.
CREATE TABLE leases (
    name   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until  TIMESTAMPTZ NOT NULL
);

-- Where the server itself listens, if the hub was told another address.
ALTER TABLE servers ADD COLUMN target TEXT NOT NULL DEFAULT '';
-- Whether its hub was asked for its tunnel since the last restart: empty (not asked), `due`, `made`, or `refused <status>`.
ALTER TABLE servers ADD COLUMN tunnel TEXT NOT NULL DEFAULT '';
-- Since when: when it became due, or when the question was asked that had this answer.
ALTER TABLE servers ADD COLUMN tunnel_at TIMESTAMPTZ;
CREATE INDEX servers_tunnel_due ON servers (hub, uid) WHERE tunnel = 'due';
