-- A few rows of each kind, to try things on; the same in SQLite and in MySQL.
INSERT INTO users (id, name, username, email, role) VALUES
    (1, 'Nguyễn Văn An', 'an', 'an@example.com', 'member'),
    (2, 'Trần Thị Bình', 'binh', 'binh@example.com', 'member'),
    (3, 'Lê Quang Chi', 'chi', 'chi@example.com', 'moderator');
INSERT INTO forums (id, is_private) VALUES (1, 0), (2, 1);
INSERT INTO threads (id, forum_id, user_id, moderation_status) VALUES
    (1, 1, 1, 'approved'), (2, 2, 3, 'approved'), (3, 1, 2, 'pending');
INSERT INTO threads (id, forum_id, user_id, is_spam) VALUES (4, 1, 2, 1);
INSERT INTO threads (id, forum_id, user_id, hidden_at) VALUES (5, 1, 2, '2026-01-01 00:00:00');
INSERT INTO threads (id, forum_id, user_id, archived_at) VALUES (6, 1, 2, '2026-01-01 00:00:00');
INSERT INTO threads (id, forum_id, user_id, deleted_at) VALUES (7, 1, 1, '2026-01-01 00:00:00');
INSERT INTO conversations (id, title, is_group) VALUES (1, NULL, 0), (3, 'Nhóm CAD/CAM', 1), (9, NULL, 0);
INSERT INTO conversation_participants (conversation_id, user_id) VALUES (1, 1), (1, 2), (9, 1), (9, 2);
INSERT INTO group_members (conversation_id, user_id, role, is_active) VALUES
    (3, 1, 'owner', 1), (3, 2, 'member', 1), (3, 3, 'member', 1), (3, 4, 'member', 0);
INSERT INTO marketplace_sellers (id, user_id) VALUES (1, 2);
