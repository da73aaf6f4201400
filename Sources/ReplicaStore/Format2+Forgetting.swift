extension Format2 {
    /// What first load, leases and trimming remember.
    static let forgetting = """
        -- Days on which head office heard any node, counted in the order they came.
        CREATE TABLE livedDay(day INTEGER PRIMARY KEY, number INTEGER NOT NULL);
        ALTER TABLE registeredNode ADD COLUMN livedDay INTEGER NOT NULL DEFAULT 0;
        -- Where the snapshot began that the node is loading: the log after that is kept for it.
        ALTER TABLE registeredNode ADD COLUMN loadingFrom INTEGER;
        ALTER TABLE registeredNode ADD COLUMN retiredAt INTEGER;
        -- Bodies that were not trimmed with those around them.
        CREATE TABLE untrimmedBody(position INTEGER PRIMARY KEY);
        -- Now and then, how many rows the log has up to a position.
        CREATE TABLE logMark(position INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
        INSERT INTO logMark SELECT position, total
        FROM (SELECT position, sum(rows) OVER (ORDER BY position) AS total FROM log) WHERE position % 256 = 0;
        -- The snapshot that is being loaded, and how far.
        CREATE TABLE snapshotLoad(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            head BLOB NOT NULL,
            isFresh INTEGER NOT NULL,
            isPlain INTEGER NOT NULL,
            tableNumber INTEGER NOT NULL,
            afterID INTEGER NOT NULL,
            rows INTEGER NOT NULL
        );
        -- The indexes that are made again when a first load has ended.
        CREATE TABLE snapshotIndex(name TEXT PRIMARY KEY, definition TEXT NOT NULL);
        """
}
