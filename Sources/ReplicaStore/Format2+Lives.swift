extension Format2 {
    /// Lives of nodes, and what was issued again in a later one.
    static let lives = """
        -- At head office: every origin number that was given away, and how far its copy has acknowledged the log.
        CREATE TABLE registeredLife(
            origin INTEGER PRIMARY KEY,
            node BLOB NOT NULL,
            givenAt INTEGER NOT NULL,
            beganAt INTEGER,
            formerOrigin INTEGER,
            forkedAt INTEGER,
            reason TEXT,
            acknowledgedPosition INTEGER NOT NULL DEFAULT 0,
            lastContact INTEGER
        );
        INSERT INTO registeredLife(origin, node, givenAt, beganAt, acknowledgedPosition, lastContact)
        SELECT origin, node, enrolledAt, enrolledAt, acknowledgedPosition, lastContact FROM registeredNode;
        -- This node's own former lives, each with the last change set that head office has of this copy.
        CREATE TABLE formerLife(
            origin INTEGER PRIMARY KEY,
            seq INTEGER NOT NULL,
            endedAt INTEGER NOT NULL,
            reason TEXT NOT NULL
        );
        -- Work of a former life that waits to be issued again, in order.
        CREATE TABLE waitingChange(
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            time INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            chain BLOB NOT NULL,
            body BLOB NOT NULL
        );
        -- What became of the rows that were made in it.
        CREATE TABLE waitingIdentifier(
            tableNumber INTEGER NOT NULL,
            former INTEGER NOT NULL,
            present INTEGER NOT NULL,
            PRIMARY KEY (tableNumber, former)
        ) WITHOUT ROWID;
        -- What re-issued change sets were called the first time.
        CREATE TABLE firstIdentity(
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            chain BLOB NOT NULL,
            issuedOrigin INTEGER NOT NULL,
            issuedSeq INTEGER NOT NULL,
            renumbered BLOB NOT NULL,
            PRIMARY KEY (origin, seq, chain)
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX firstIdentityByIssue ON firstIdentity(issuedOrigin, issuedSeq);
        -- Numbers that rows had before, perhaps on paper. One may have been two rows' at two copies.
        CREATE TABLE formerIdentifier(
            tableNumber INTEGER NOT NULL,
            former INTEGER NOT NULL,
            present INTEGER NOT NULL,
            PRIMARY KEY (tableNumber, former, present)
        ) WITHOUT ROWID;
        """
}
