/// What came with format 5: certificates. `registeredKey`: the public keys of nodes by their SHA-256, each with the chain
/// that was signed for it, as PEM. `keptFile`: files of keys, in backups only.
enum Format5 {
    static let certificates = """
        CREATE TABLE registeredKey(
            keyDigest BLOB PRIMARY KEY,
            node BLOB NOT NULL,
            registeredAt INTEGER NOT NULL,
            chain TEXT,
            validUntil INTEGER
        ) WITHOUT ROWID;
        CREATE INDEX registeredKeyByNode ON registeredKey(node);
        ALTER TABLE registeredNode ADD COLUMN approvalDue INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE registeredNode ADD COLUMN approvedAt INTEGER;
        ALTER TABLE registeredNode ADD COLUMN pausedAt INTEGER;
        ALTER TABLE registeredNode ADD COLUMN revokedAt INTEGER;
        ALTER TABLE invitation ADD COLUMN needsApproval INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE keptFile(name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
        """
}
