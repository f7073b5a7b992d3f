-- A store of schema version 1 with one of everything, as the release that wrote it left it. Never edited.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1396982610;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE access_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        created_at REAL NOT NULL,
        last_used_at REAL,
        expires_at REAL
    ) STRICT, WITHOUT ROWID;
INSERT INTO "access_keys" VALUES('a','backend',1000.0,NULL,NULL);
CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
        name TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created_at REAL NOT NULL,
        last_used_at REAL,
        expires_at REAL
    ) STRICT, WITHOUT ROWID;
INSERT INTO "api_keys" VALUES('k',1,'ci','["read"]',1000.0,NULL,NULL);
CREATE TABLE apps (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        disabled INTEGER NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
INSERT INTO "apps" VALUES('wiki','Wiki',0,1000.0);
CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER) STRICT;
INSERT INTO "changes" VALUES(1,NULL);
INSERT INTO "changes" VALUES(2,NULL);
INSERT INTO "changes" VALUES(3,NULL);
INSERT INTO "changes" VALUES(4,NULL);
CREATE TABLE roles (name TEXT PRIMARY KEY, permissions TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "roles" VALUES('dev','["read", "write"]');
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
INSERT INTO "secrets" VALUES('cookie',X'ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB');
CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL,
        created_at REAL NOT NULL,
        last_used_at REAL NOT NULL,
        expires_at REAL NOT NULL,
        apps TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
INSERT INTO "sessions" VALUES('s',1,1000.0,1000.0,2000.0,'[]');
CREATE TABLE sign_in_names (
        key TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
INSERT INTO "sign_in_names" VALUES('ann',1);
INSERT INTO "sign_in_names" VALUES('ann@example.com',1);
CREATE TABLE signing_keys (
        id TEXT PRIMARY KEY,
        algorithm TEXT NOT NULL,
        private BLOB NOT NULL,
        created_at REAL NOT NULL,
        verifies_until REAL
    ) STRICT;
INSERT INTO "signing_keys" VALUES('1','ES256',X'00206B657920FF',1000.0,NULL);
CREATE TABLE user_roles (
        user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
        role TEXT NOT NULL,
        PRIMARY KEY (user_id, role)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "user_roles" VALUES(1,'dev');
CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        username TEXT NOT NULL,
        emails TEXT NOT NULL,
        phone TEXT NOT NULL,
        name TEXT NOT NULL,
        external_id TEXT NOT NULL,
        accounts TEXT NOT NULL,
        disabled INTEGER NOT NULL,
        password_hash TEXT NOT NULL,
        created_at REAL NOT NULL,
        created_by TEXT NOT NULL,
        updated_at REAL NOT NULL,
        updated_by TEXT NOT NULL
    ) STRICT;
INSERT INTO "users" VALUES(1,'ann','["ann@example.com"]','+1 23','','e-1','[["a", "Acme", true, false]]',0,'',1000.0,'cli',1000.0,'cli');
CREATE UNIQUE INDEX users_phone ON users (phone) WHERE phone <> '';
CREATE UNIQUE INDEX users_external_id ON users (external_id) WHERE external_id <> '';
CREATE INDEX sign_in_names_user ON sign_in_names (user_id);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE INDEX sessions_use ON sessions (last_used_at);
CREATE INDEX api_keys_user ON api_keys (user_id);
CREATE UNIQUE INDEX signing_keys_signing ON signing_keys (verifies_until IS NULL)
        WHERE verifies_until IS NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('changes',4);
INSERT INTO "sqlite_sequence" VALUES('users',1);
COMMIT;
