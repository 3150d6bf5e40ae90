-- The columns of the site's tables that this server reads and writes, in SQLite's words.
CREATE TABLE users (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, username TEXT NOT NULL, email TEXT NOT NULL, role TEXT NOT NULL,
    permissions TEXT, status TEXT NOT NULL DEFAULT 'active', avatar TEXT, is_active INTEGER NOT NULL DEFAULT 1,
    banned_at TEXT, last_seen_at TEXT
);
CREATE TABLE forums (id INTEGER PRIMARY KEY, parent_id INTEGER, is_private INTEGER NOT NULL DEFAULT 0);
CREATE TABLE threads (
    id INTEGER PRIMARY KEY, forum_id INTEGER NOT NULL, user_id INTEGER NOT NULL,
    moderation_status TEXT NOT NULL DEFAULT 'approved', is_spam INTEGER NOT NULL DEFAULT 0,
    hidden_at TEXT, archived_at TEXT, deleted_at TEXT
);
CREATE TABLE conversations (id INTEGER PRIMARY KEY, title TEXT, is_group INTEGER NOT NULL DEFAULT 0);
CREATE TABLE conversation_participants (
    conversation_id INTEGER NOT NULL, user_id INTEGER NOT NULL, last_read_at TEXT, UNIQUE (conversation_id, user_id)
);
CREATE TABLE group_members (
    conversation_id INTEGER NOT NULL, user_id INTEGER NOT NULL, role TEXT NOT NULL DEFAULT 'member',
    is_active INTEGER NOT NULL DEFAULT 1, UNIQUE (conversation_id, user_id)
);
CREATE TABLE personal_access_tokens (
    id INTEGER PRIMARY KEY, tokenable_type TEXT NOT NULL, tokenable_id INTEGER NOT NULL, name TEXT NOT NULL,
    token TEXT NOT NULL UNIQUE, abilities TEXT, last_used_at TEXT, expires_at TEXT
);
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, type TEXT NOT NULL, title TEXT, message TEXT, data TEXT,
    priority TEXT NOT NULL DEFAULT 'normal', is_read INTEGER NOT NULL DEFAULT 0, read_at TEXT,
    status TEXT NOT NULL DEFAULT 'pending', archived_at TEXT, expires_at TEXT, created_at TEXT, updated_at TEXT
);
CREATE INDEX notifications_user ON notifications (user_id, is_read);
CREATE TABLE marketplace_sellers (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL);
