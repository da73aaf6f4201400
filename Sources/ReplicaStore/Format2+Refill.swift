extension Format2 {
    /// What both sides remember of logs that a head office has lost, and of a branch's right to come back.
    static let refill = """
        CREATE INDEX logByHubPosition ON log(hubPosition) WHERE hubPosition IS NOT NULL;
        -- The most that a hub has ever said to hold of an origin of this node.
        ALTER TABLE localContact ADD COLUMN acceptedMost INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE localContact ADD COLUMN acceptedOrigin INTEGER NOT NULL DEFAULT 0;
        UPDATE localContact SET acceptedMost = acceptedSeq,
            acceptedOrigin = coalesce((SELECT origin FROM localNode), 0);
        -- At a branch: what the hub's log said above the last position that is in its present log too.
        CREATE TABLE keptNumbering(
            numbering INTEGER PRIMARY KEY,
            basePosition INTEGER NOT NULL,
            baseDigest INTEGER NOT NULL,
            position INTEGER NOT NULL,
            digest INTEGER NOT NULL,
            -- 1: the cursor covers all of it, so new contexts need not name it. 2: given up, because nobody can bring
            -- back what is missing of it.
            isCovered INTEGER NOT NULL DEFAULT 0
        );
        -- Below position zero, in any order: the last change set of each origin, where the branch never had the log
        -- itself, only a snapshot of its rows.
        CREATE TABLE keptEntry(
            numbering INTEGER NOT NULL,
            position INTEGER NOT NULL,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (numbering, position)
        ) WITHOUT ROWID;
        -- At a branch: the chains up to where snapshots began. What comes after them is held against these.
        CREATE TABLE snapshotHead(
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            chain BLOB NOT NULL,
            PRIMARY KEY (origin, seq)
        ) WITHOUT ROWID;
        -- At head office: what its log said, for all logs it has lost, as a tree of lines. The parent of a line that leaves
        -- the own log is null.
        CREATE TABLE formerLine(line INTEGER PRIMARY KEY, parent INTEGER, forkPosition INTEGER NOT NULL);
        CREATE TABLE formerEntry(
            line INTEGER NOT NULL,
            position INTEGER NOT NULL,
            digest INTEGER NOT NULL,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            timeMax INTEGER NOT NULL,
            PRIMARY KEY (line, position)
        ) WITHOUT ROWID;
        CREATE UNIQUE INDEX formerEntryByPosition ON formerEntry(position, digest);
        CREATE INDEX formerEntryByOrigin ON formerEntry(line, origin, seq);
        -- At head office: a large change set that a branch is handing in, piece by piece.
        CREATE TABLE refillPiece(
            node BLOB NOT NULL,
            first INTEGER NOT NULL,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            bytes BLOB NOT NULL,
            PRIMARY KEY (node, first)
        ) WITHOUT ROWID;
        -- Two contents for one change set: the exchange with that node has stopped.
        CREATE TABLE contradiction(
            node BLOB NOT NULL,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            chainHere INTEGER NOT NULL,
            chainThere INTEGER NOT NULL,
            noticedAt INTEGER NOT NULL,
            PRIMARY KEY (node, origin, seq)
        ) WITHOUT ROWID;
        CREATE TABLE ownVoucher(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            origin INTEGER NOT NULL,
            statement BLOB NOT NULL
        );
        """
}
