import CRM
import Causality
import GRDB
import SyncProtocol

// How change sets of others come in: checked, merged, logged, in the writer's transaction.

extension ReplicaWriter {
    /// At head office: takes a branch's own work.
    func takeFromChild(
        _ sets: [IncomingChangeSet],
        peer: SyncPeer
    ) throws -> (changeSets: Int, rows: Int) {
        var taken = (changeSets: 0, rows: 0)
        for set in sets {
            let header = set.reader.header
            guard header.id.origin == peer.origin else {
                throw Refusal(
                    .invalidChange,
                    "Node \(peer.origin) sent change set \(header.id), which it may not speak for."
                )
            }
            for block in set.reader.blocks {
                if let table = schema.table(number: block.number), table.writers == .headOfficeOnly {
                    throw Refusal(
                        .invalidChange,
                        "Change set \(header.id) writes \(table.name), which only head office may."
                    )
                }
            }
            try checkClaims(of: set, peer)
            if try take(set, from: .child) {
                taken.changeSets += 1
                taken.rows += set.reader.rowCount
            }
        }
        return taken
    }

    /// At a branch: takes the next piece of the hub's log.
    func takeFromHub(
        _ batch: ChangeBatch,
        _ sets: [IncomingChangeSet]
    ) throws -> (changeSets: Int, rows: Int) {
        var taken = (changeSets: 0, rows: 0)
        guard batch.firstPosition <= cursor.position + 1 else {
            throw Refusal(
                .invalidChange,
                "Head office sent position \(batch.firstPosition) where \(cursor.position + 1) comes next."
            )
        }
        var remaining = sets[...]
        for (index, entry) in batch.entries.enumerated() {
            let position = batch.firstPosition + UInt64(index)
            let set = entry.isStub ? nil : remaining.popFirst()
            guard position > cursor.position else { continue }
            let id: ChangeSetID
            if case .stub(let own) = entry {
                id = own
                try noteHubPosition(position, of: own)
            } else if let set {
                id = set.reader.header.id
                if try take(set, from: .hub(position: position)) {
                    taken.changeSets += 1
                    taken.rows += set.reader.rowCount
                } else {
                    try noteHubPosition(position, of: id)
                }
            } else {
                continue
            }
            guard let chain = try chain(of: id) else {
                throw Refusal(
                    .forked,
                    "Head office's log holds change set \(id) of this node, which is not here: this directory is "
                        + "an older copy, or another copy has been in use. Nothing was taken."
                )
            }
            moveCursor(to: cursor.appending(id, chain: chain))
        }
        guard cursor.position != batch.end.position || cursor == batch.end else {
            throw Refusal(
                .invalidChange,
                "Head office's log up to position \(batch.end.position) is not the one that this node has taken."
            )
        }
        return taken
    }

    private func noteHubPosition(_ position: UInt64, of id: ChangeSetID) throws {
        try db.cachedStatement(sql: "UPDATE log SET hubPosition = ? WHERE origin = ? AND seq = ?").execute(
            arguments: [Int64(clamping: position), Int64(id.origin.rawValue), Int64(clamping: id.seq)]
        )
    }

    /// Merges and logs one change set, unless it is held already.
    ///
    /// Everything that decides about a change set is called from here, in this order; each concern has its file.
    func take(_ set: IncomingChangeSet, from source: ChangeSource) throws -> Bool {
        let header = set.reader.header
        let last = vector[header.id.origin]
        if let last, header.id.seq <= last.seq {
            try checkIsSame(set, from: source)
            return false
        }
        guard header.id.seq == (last?.seq ?? 0) + 1 else {
            throw Refusal(
                .invalidChange,
                "Change set \(header.id) came where \(header.id.origin):\((last?.seq ?? 0) + 1) is next."
            )
        }
        let chain = last?.chain ?? .empty
        guard header.previousChain == chain.prefix else {
            throw Refusal(
                source == .child ? .forked : .invalidChange,
                "Change set \(header.id) does not continue the history of its origin that is known here."
            )
        }
        let next = chain.appending(content: set.content)
        try checkFirstIdentity(of: set, chain: next)
        let isSeen = try checkContext(of: set, from: source)
        try checkTime(of: set, having: isSeen, from: source)
        let stamp = Stamp(time: set.time, origin: header.id.origin)
        for block in set.reader.blocks {
            guard let table = schema.table(number: block.number) else { continue }
            var rows = block.makeCursor()
            while rows.advance() { try take(rows, of: table, stamp: stamp, header, isSeen) }
        }
        try append(
            header.id,
            time: set.time,
            rows: set.reader.rowCount,
            chain: next,
            hubPosition: source.position,
            body: set.body
        )
        try noteFirstIdentity(header.id, header.extensions)
        return true
    }

    /// Merges one row of a change set.
    private func take(
        _ row: ChangeCursor,
        of table: TableDescription,
        stamp: Stamp,
        _ header: ChangeSetHeader,
        _ isSeen: SeenChangeSets
    ) throws {
        if row.operation == .birth, row.id >> RowID.counterBits != Int64(header.id.origin.rawValue) {
            throw Refusal(
                .invalidChange,
                "Change set \(header.id) makes a \(table.name) with a number of another origin."
            )
        }
        let write = RowWrite(id: row.id, operation: row.operation, columns: row.columns, stamp: stamp)
        try merge(of: table).apply(write, row)
    }
}

/// Where a change set comes from.
enum ChangeSource: Hashable {
    /// At a hub: from the child that wrote it.
    case child
    /// At a hub: from a child that had it from this hub's lost log.
    case refill
    /// At a child: from the hub's log.
    case hub(position: UInt64)

    /// Where it stands in the hub's log.
    var position: UInt64? {
        if case .hub(let position) = self { position } else { nil }
    }
}

extension ChangeEntry {
    fileprivate var isStub: Bool {
        if case .stub = self { true } else { false }
    }
}
