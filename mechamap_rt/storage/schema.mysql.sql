-- The columns of the site's tables that this server reads and writes, as Laravel's migrations make them in MySQL.
CREATE TABLE users (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255) NOT NULL, username VARCHAR(255) NOT NULL,
    email VARCHAR(255) NOT NULL, password VARCHAR(255) NOT NULL DEFAULT '', role VARCHAR(64) NOT NULL DEFAULT 'member',
    permissions JSON NULL, status VARCHAR(32) NOT NULL DEFAULT 'active', avatar VARCHAR(255) NULL,
    is_active TINYINT(1) NOT NULL DEFAULT 1, banned_at TIMESTAMP NULL, last_seen_at TIMESTAMP NULL,
    UNIQUE KEY users_email_unique (email), UNIQUE KEY users_username_unique (username)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE personal_access_tokens (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, tokenable_type VARCHAR(255) NOT NULL,
    tokenable_id BIGINT UNSIGNED NOT NULL, name VARCHAR(255) NOT NULL, token CHAR(64) NOT NULL, abilities TEXT NULL,
    last_used_at TIMESTAMP NULL, expires_at TIMESTAMP NULL, UNIQUE KEY personal_access_tokens_token_unique (token),
    KEY personal_access_tokens_tokenable_index (tokenable_type, tokenable_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE forums (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, parent_id BIGINT UNSIGNED NULL,
    is_private TINYINT(1) NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE threads (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, forum_id BIGINT UNSIGNED NOT NULL,
    user_id BIGINT UNSIGNED NOT NULL,
    moderation_status ENUM('pending', 'approved', 'rejected', 'flagged') NOT NULL DEFAULT 'approved',
    is_spam TINYINT(1) NOT NULL DEFAULT 0, hidden_at TIMESTAMP NULL, archived_at TIMESTAMP NULL,
    deleted_at TIMESTAMP NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE conversations (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, title VARCHAR(255) NULL,
    is_group TINYINT(1) NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE conversation_participants (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, conversation_id BIGINT UNSIGNED NOT NULL,
    user_id BIGINT UNSIGNED NOT NULL, last_read_at TIMESTAMP NULL, UNIQUE KEY (conversation_id, user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE group_members (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, conversation_id BIGINT UNSIGNED NOT NULL,
    user_id BIGINT UNSIGNED NOT NULL, role VARCHAR(32) NOT NULL DEFAULT 'member',
    is_active TINYINT(1) NOT NULL DEFAULT 1, UNIQUE KEY (conversation_id, user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE notifications (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL,
    type VARCHAR(64) NOT NULL, title VARCHAR(255) NULL, message TEXT NULL, data JSON NULL,
    priority ENUM('low', 'normal', 'high', 'urgent') NOT NULL DEFAULT 'normal',
    is_read TINYINT(1) NOT NULL DEFAULT 0, read_at TIMESTAMP NULL,
    status ENUM('pending', 'sent', 'delivered', 'read', 'archived') NOT NULL DEFAULT 'pending',
    archived_at TIMESTAMP NULL, expires_at TIMESTAMP NULL, created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL,
    KEY notifications_user (user_id, is_read)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
CREATE TABLE marketplace_sellers (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_unicode_ci;
