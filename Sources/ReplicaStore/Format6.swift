/// What came with format 6: the audit log, and who may write what.
///
/// `audit`: what people decided at this node, each entry with the hash of all before it. `auditAnchor`: how far the logs of
/// others reached. `auditWitness`: how far others say that this one did. `writePolicy`: each version, signed, with the hash
/// of all before it. `voidedWrite`: what branches wrote and may not.
enum Format6 {
    static let auditAndPolicy = """
        CREATE TABLE audit(
            number INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            object TEXT NOT NULL,
            outcome TEXT NOT NULL,
            policyVersion INTEGER NOT NULL,
            hash BLOB NOT NULL
        );
        CREATE TABLE auditAnchor(
            node BLOB NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, seenAt INTEGER NOT NULL,
            PRIMARY KEY(node, number, hash)
        ) WITHOUT ROWID;
        CREATE TABLE auditWitness(
            node BLOB NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, seenAt INTEGER NOT NULL,
            PRIMARY KEY(node, number, hash)
        ) WITHOUT ROWID;
        CREATE TABLE writePolicy(
            version INTEGER PRIMARY KEY,
            document BLOB NOT NULL,
            madeAt INTEGER NOT NULL,
            author TEXT NOT NULL,
            hash BLOB NOT NULL,
            signature BLOB NOT NULL
        );
        CREATE TABLE voidedWrite(
            number INTEGER PRIMARY KEY,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            tableNumber INTEGER NOT NULL,
            id INTEGER NOT NULL,
            policyVersion INTEGER NOT NULL,
            rule INTEGER NOT NULL,
            voidedAt INTEGER NOT NULL
        );
        CREATE INDEX voidedWriteByOrigin ON voidedWrite(origin);
        """
}
