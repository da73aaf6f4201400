import CRM
import Causality
import Dispatch
import SyncProtocol

/// When bulk work lets go of the writer, so that a local user never waits long.
///
/// Large transactions are cheaper: each commit waits for the disk. So nobody is made to wait, and no turn ends early
/// while nobody does.
struct WriterTurn: Sendable {
    /// How many rows are merged in one transaction at most.
    var rowsMax = 20_000
    /// A turn of this length ends at the next change set when somebody waits. With the change set and the commit it
    /// stays well below the 250 ms that a local user may wait.
    var awaitedMax = Duration.milliseconds(50)

    /// Whether the turn ends here, between two change sets.
    func mustEnd(rows: Int, elapsed: Duration, isAwaited: Bool) -> Bool {
        rows >= rowsMax || (isAwaited && elapsed >= awaitedMax)
    }
}

/// How much work fits into a turn of the writer, learnt from the turns before.
package struct WorkPace: Sendable {
    /// What a turn should take.
    package static let aim = Duration.milliseconds(100)

    private let unitsMin: Int
    private let unitsMax: Int
    /// For the next turn.
    package private(set) var units: Int

    package init(unitsMin: Int = 100, unitsMax: Int) {
        self.unitsMin = unitsMin
        self.unitsMax = unitsMax
        units = unitsMax
    }

    /// Notes how long a turn took. A turn that was much too long counts at once; a short one lengthens the next to
    /// twice as much at most.
    package mutating func took(_ elapsed: Duration, for units: Int) {
        guard units > 0, elapsed > .zero else { return }
        let fitting = Double(units) * (Self.aim / elapsed)
        self.units = min(max(Int(min(fitting, Double(self.units) * 2)), unitsMin), unitsMax)
    }
}

extension Replica {
    /// Change sets that are decoded and go into one transaction together, as small as that is wise.
    private struct Piece {
        let batch: ChangeBatch
        let sets: [IncomingChangeSet]
        let rows: Int

        /// The last one in its batch.
        var last: ChangeSetID? {
            if case .stub(let id) = batch.entries.last { id } else { sets.last?.reader.header.id }
        }
    }

    /// Decodes change sets beside the writer: while it merges some, the next ones are made ready. Used by one caller.
    private final class Decoding: @unchecked Sendable {
        /// How many rows are handed to the writer at once, and as many are ready after them.
        private static let rowsMax = 20_000

        private let replica: Replica
        private let queue = DispatchQueue(label: "peyvand.decoding")
        private let compressor = ZstdCompressor()
        private let decompressor = ZstdDecompressor()
        /// Touched on the queue only, or when nothing runs there.
        private var rest: ArraySlice<ChangeBatch>
        private var ahead: Result<[Piece], any Error>?

        init(_ slices: [ChangeBatch], of replica: Replica) {
            self.replica = replica
            rest = slices[...]
        }

        /// The next pieces; nil after the last. Then begins with those after them.
        func next() throws -> [Piece]? {
            let decoded = try queue.sync { () -> [Piece] in
                defer { ahead = nil }
                return try ahead?.get() ?? decodeNext()
            }
            guard !decoded.isEmpty else { return nil }
            // What lies in files is looked for in the database, which stays with the caller.
            let isBeside = !rest.isEmpty && rest.allSatisfy { $0.largeBody == nil }
            if isBeside { queue.async { self.ahead = Result { try self.decodeNext() } } }
            return decoded
        }

        private func decodeNext() throws -> [Piece] {
            var pieces: [Piece] = []
            var rows = 0
            while let slice = rest.first, rows < Self.rowsMax {
                let piece = try replica.decode(slice, compressor, decompressor)
                rows += piece.rows
                pieces.append(piece)
                rest.removeFirst()
            }
            return pieces
        }
    }

    /// Takes batches of a peer, in the order in which they came; see ``SyncProtocol/SyncStore``.
    package func apply(
        _ batches: [ChangeBatch],
        from peer: SyncPeer
    ) throws(SyncStoreFailure) -> ApplyOutcome {
        try countingRefusals(of: peer.node) {
            let decoding = Decoding(batches.flatMap(\.slices), of: self)
            var taken = Taken()
            var last: ChangeSetID?
            while let pieces = try decoding.next() {
                last = pieces.last { $0.last != nil }?.last ?? last
                do {
                    try merge(pieces, from: peer, &taken)
                } catch let found as TwoContents {
                    // Nothing of it stays; that it happened does, and people are told.
                    throw try contradiction(found.id, atHeadOffice: found.atHeadOffice.prefix, here: found.here.prefix)
                }
            }
            for batch in batches {
                if let body = batch.largeBody { self.spool.remove(body) }
            }
            let durable = try self.withWriterState { writer -> ApplyOutcome.Durable in
                try writer.reached(batches.last?.end, last, of: peer.origin)
            }
            return ApplyOutcome(
                durable: durable,
                changeSets: taken.changeSets,
                rows: taken.rows,
                conflicts: taken.conflicts,
                parked: taken.parked
            )
        }
    }

    /// Merges what was decoded, in as many turns of the writer as others make it take.
    private func merge(
        _ pieces: [Piece],
        from peer: SyncPeer,
        _ taken: inout Taken
    ) throws {
        var rest = pieces[...]
        while !rest.isEmpty {
            try withWriter { writer in
                let start = ContinuousClock.now
                let parked = writer.parked.count
                // Counted when it is committed: a failed turn leaves nothing.
                _ = writer.judge?.takeListed()
                let (turn, remaining) = try writer.transaction {
                    var rows = 0
                    var turn = Taken()
                    var remaining = rest
                    while let piece = remaining.popFirst() {
                        let added =
                            writer.node.role == .headOffice
                            ? try writer.takeFromChild(piece.sets, peer: peer)
                            : try writer.takeFromHub(piece.batch, piece.sets)
                        turn += added
                        rows += piece.rows
                        let elapsed = ContinuousClock.now - start
                        if writerTurn.mustEnd(rows: rows, elapsed: elapsed, isAwaited: isWriterAwaited) { break }
                    }
                    return (turn, remaining)
                }
                rest = remaining
                taken += turn
                taken.conflicts += writer.judge?.takeListed() ?? 0
                taken.parked += max(writer.parked.count - parked, 0)
            }
        }
    }

    private func decode(
        _ slice: ChangeBatch,
        _ compressor: ZstdCompressor,
        _ decompressor: ZstdDecompressor
    ) throws -> Piece {
        var slice = slice
        var sets: [IncomingChangeSet] = []
        for (index, entry) in slice.entries.enumerated() {
            switch entry {
            case .stub:
                continue
            case .changeSet(let time, let body):
                sets.append(
                    try IncomingChangeSet(
                        time: time,
                        body: body,
                        schema: schema,
                        compressor: compressor,
                        decompressor: decompressor,
                        scratch: spool.directory
                    )
                )
            case .large(let time, let body):
                if try holds(body.id) {
                    slice.entries[index] = .stub(body.id)
                    continue
                }
                let set = try IncomingChangeSet(
                    time: time,
                    file: spool.map(body),
                    schema: schema,
                    decompressor: decompressor,
                    scratch: spool.directory
                )
                guard set.reader.header.id == body.id else {
                    throw Refusal(.invalidChange, "Change set \(set.reader.header.id) came under the name \(body.id).")
                }
                sets.append(set)
            }
        }
        return Piece(batch: slice, sets: sets, rows: sets.reduce(0) { $0 + $1.reader.rowCount })
    }
}

extension ReplicaWriter {
    /// How far what was taken reaches. The node itself may have come further meanwhile, by another session with the
    /// same peer.
    fileprivate func reached(
        _ end: LogPrefix?,
        _ last: ChangeSetID?,
        of origin: Origin
    ) throws -> ApplyOutcome.Durable {
        if node.role == .branch {
            guard let end, end.position < cursor.position, try hubPrefixes(at: [end.position]).contains(end) else {
                return .position(cursor)
            }
            return .position(end)
        }
        let accepted = vector[origin]
        if let last, last.origin == origin, last.seq < accepted?.seq ?? 0, let chain = try chain(of: last) {
            return .seq(last.seq, chain: chain.prefix)
        }
        return .seq(accepted?.seq ?? 0, chain: (accepted?.chain ?? .empty).prefix)
    }
}

extension ChangeBatch {
    /// Bytes of bodies after which a slice ends: about a thousand rows.
    private static let sliceBytes = 64 << 10
    private static let sliceEntries = 256

    /// The batch in pieces between which the writer may pause. Each ends where the batch ends, which is checked when
    /// that place is reached.
    fileprivate var slices: [ChangeBatch] {
        var slices: [ChangeBatch] = []
        var first = 0
        var bytes = 0
        for (index, entry) in entries.enumerated() {
            if case .changeSet(_, let body) = entry { bytes += body.bytes.count }
            let isLast = index == entries.count - 1
            guard isLast || bytes >= Self.sliceBytes || index - first + 1 >= Self.sliceEntries else { continue }
            slices.append(
                ChangeBatch(
                    firstPosition: firstPosition == 0 ? 0 : firstPosition + UInt64(first),
                    entries: Array(entries[first...index]),
                    end: end
                )
            )
            (first, bytes) = (index + 1, 0)
        }
        return slices
    }
}
