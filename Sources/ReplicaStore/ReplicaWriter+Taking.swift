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
    ) throws -> Taken {
        var taken = Taken()
        for set in sets {
            let header = set.reader.header
            guard header.id.origin == peer.origin || isPlanted(.originUnchecked) else {
                throw Refusal(
                    .invalidChange,
                    "Node \(peer.origin) sent change set \(header.id), which it may not speak for."
                )
            }
            if !isPlanted(.rightsCheckedAtSender) { try checkRights(of: set) }
            try checkClaims(of: set, peer)
            if try take(set, from: .child) {
                taken.changeSets += 1
                taken.rows += set.reader.rowCount
            }
        }
        return taken
    }

    /// Checks that a branch may do what its change set does.
    private func checkRights(of set: IncomingChangeSet) throws {
        for block in set.reader.blocks {
            guard let table = schema.table(number: block.number), table.writers != .everyNode else { continue }
            var rows = block.makeCursor()
            while rows.advance() {
                do {
                    try table.checkBranchMay(rows.operation, rows.columns)
                } catch {
                    throw Refusal(
                        .invalidChange,
                        "Change set \(set.reader.header.id) writes what a branch may not. \(error)"
                    )
                }
            }
        }
    }

    /// At a branch: takes the next piece of the hub's log.
    func takeFromHub(
        _ batch: ChangeBatch,
        _ sets: [IncomingChangeSet]
    ) throws -> Taken {
        var taken = Taken()
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
            var isNew = false
            if case .stub(let held) = entry {
                id = held
            } else if let set {
                id = set.reader.header.id
                isNew = try take(set, from: .hub(position: position))
                if isNew {
                    taken.changeSets += 1
                    taken.rows += set.reader.rowCount
                    taken.conflicts += set.listedConflicts
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
            let next = cursor.appending(id, chain: chain)
            if !isNew { try noteHubPrefix(next, of: id) }
            moveCursor(to: next)
        }
        try coverKeptNumberings()
        guard cursor.position != batch.end.position || cursor == batch.end else {
            throw Refusal(
                .invalidChange,
                "Head office's log up to position \(batch.end.position) is not the one that this node has taken."
            )
        }
        return taken
    }

    /// Merges and logs one change set, unless it is held already.
    ///
    /// Everything that decides about a change set is called from here, in this order; each concern has its file.
    func take(_ set: IncomingChangeSet, from source: ChangeSource) throws -> Bool {
        let header = set.reader.header
        let last = vector[header.id.origin]
        // What came by a snapshot is in the rows, not in the log. When head office's log was lost below it, it comes
        // as change sets, too.
        let isFillingIn =
            try source.position != nil && header.id.seq <= last?.seq ?? 0 && !isLogged(header.id)
        if let last, header.id.seq <= last.seq, !isFillingIn {
            try checkIsSame(set, from: source)
            return false
        }
        guard isFillingIn || header.id.seq == (last?.seq ?? 0) + 1 || isPlanted(.gapAccepted) else {
            throw Refusal(
                .invalidChange,
                "Change set \(header.id) came where \(header.id.origin):\((last?.seq ?? 0) + 1) is next."
            )
        }
        let before = ChangeSetID(origin: header.id.origin, seq: header.id.seq - 1)
        let chain = isFillingIn ? try self.chain(of: before) : last?.chain ?? .empty
        guard let chain, header.previousChain == chain.prefix || isPlanted(.previousChainUnchecked) else {
            throw Refusal(
                source == .child ? .forked : .invalidChange,
                "Change set \(header.id) does not continue the history of its origin that is known here."
            )
        }
        try checkErasures(in: set, from: source)
        let next = try provedChain(of: set, after: chain)
        guard !isFillingIn || header.id.seq < last?.seq ?? 0 || next == last?.chain else {
            throw Refusal(
                .invalidChange,
                "Change set \(header.id) is another one than that whose rows a snapshot has brought here."
            )
        }
        try checkFirstIdentity(of: set, chain: next, from: source)
        let isSeen = try checkContext(of: set, from: source)
        try checkTime(of: set, having: isSeen, from: source)
        let stamp = Stamp(time: set.time, origin: header.id.origin)
        let judged = judged(header.id, stamp: stamp, isSeen, from: source)
        try noteUnknownParts(of: set)
        for block in set.reader.blocks {
            guard let table = schema.table(number: block.number) else { continue }
            var rows = block.makeCursor()
            while rows.advance() {
                try takeOrPark(rows, of: table, in: set, from: source) {
                    try takeWithinRights(rows, of: table, stamp: stamp, header, judged, from: source)
                }
            }
        }
        let kept = try withoutErased(set, chain: next)
        try append(
            header.id,
            time: set.time,
            rows: kept?.rows ?? set.reader.rowCount,
            chain: next,
            hubPosition: source.position,
            body: kept.map { .bytes($0.body) } ?? set.body
        )
        if kept != nil { try noteUnsigned(position: end.position) }
        try noteFirstIdentity(header.id, header.extensions)
        try revertVoided()
        return true
    }

    /// Merges one row of a change set.
    func take(
        _ row: ChangeCursor,
        of table: TableDescription,
        stamp: Stamp,
        _ header: ChangeSetHeader,
        _ judged: JudgedChangeSet?
    ) throws {
        if row.operation == .birth, !row.isBorn(at: header.id.origin), !isPlanted(.rowNumberUnchecked) {
            throw Refusal(
                .invalidChange,
                "Change set \(header.id) makes a \(table.name) with a number of another origin."
            )
        }
        let write = RowWrite(id: row.id, operation: row.operation, columns: row.columns, stamp: stamp)
        try merge(write, row, of: table, by: judged)
        try noteChildOfErased(row, of: table)
    }
}

/// How much was taken.
struct Taken {
    var changeSets = 0
    var rows = 0
    /// Losing writes that head office has listed in them.
    var conflicts = 0
    /// Changes that could not be applied and wait.
    var parked = 0

    static func += (left: inout Taken, right: Taken) {
        left.changeSets += right.changeSets
        left.rows += right.rows
        left.conflicts += right.conflicts
        left.parked += right.parked
    }
}

extension IncomingChangeSet {
    /// How many entries of the list of conflicts it makes.
    fileprivate var listedConflicts: Int {
        var count = 0
        for block in reader.blocks where block.number == TableDescription.conflict.number {
            var rows = block.makeCursor()
            while rows.advance() { if rows.operation == .birth { count += 1 } }
        }
        return count
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
