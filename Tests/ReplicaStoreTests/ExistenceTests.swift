import CRM
import Causality
import ReplicaStore
import SyncProtocol
import Testing

@Suite("Whether a row lives")
struct ExistenceTests {
    private enum Write: Int, CaseIterable {
        case birth, editName, editNote, delete, restore
    }

    /// The rule in its shortest form: each field holds its newest write, and the newest write of all decides
    /// whether the row lives.
    private struct Oracle {
        var name: (rank: Int, text: String)?
        var note: (rank: Int, text: String)?
        var newest: (rank: Int, write: Write) = (-1, .birth)

        init(ranks: [Int]) {
            for write in Write.allCases {
                let rank = ranks[write.rawValue]
                if rank > newest.rank { newest = (rank, write) }
                if write == .birth || write == .editName, rank > name?.rank ?? -1 { name = (rank, "name \(rank)") }
                if write == .birth || write == .editNote, rank > note?.rank ?? -1 { note = (rank, "note \(rank)") }
            }
        }

        var isAlive: Bool { newest.write != .delete }
    }

    @Test("A row lives, or is deleted, by its newest write, and each field has its own, in every order of arrival")
    func everyOrder() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("a", of: hub)
        try branch.sync(with: hub)
        var line = try HubLine(to: branch)
        var oracles: [(id: RowID, oracle: Oracle)] = []
        // Everybody has seen the birth; all else may have happened in any order, seen or unseen.
        for later in permutations([1, 2, 3, 4]) {
            let ranks = [0] + later
            for arrival in permutations(Write.allCases) {
                let id = RowID(origin: HubLine.origin(of: 0), counter: Int64(oracles.count + 1))
                oracles.append((id, Oracle(ranks: ranks)))
                for write in arrival {
                    let rank = ranks[write.rawValue]
                    try line.add(change(write, id, rank), from: write.rawValue, rank: oracles.count * 8 + rank)
                }
            }
        }
        #expect(oracles.count == 2880)
        try line.deliver(to: branch)
        let (living, dead) = try branch.replica.read { reader in
            try (
                reader.rows(.customer, after: nil, limit: .max),
                reader.rows(.customer, after: nil, limit: .max, deleted: true)
            )
        }
        let all = living.map { ($0.id, (true, $0)) } + dead.map { ($0.id, (false, $0)) }
        let place = Dictionary(uniqueKeysWithValues: all)
        var wrong = 0
        for (id, oracle) in oracles {
            let found = place[id]
            if found?.0 != oracle.isAlive || found?.1["name"] != oracle.name.map({ .text($0.text) })
                || found?.1["note"] != oracle.note.map({ .text($0.text) })
            {
                wrong += 1
            }
        }
        #expect(wrong == 0)
        #expect(try branch.replica.verify { _, _ in }.allSatisfy(\.isRight))
    }

    private func change(_ write: Write, _ id: RowID, _ rank: Int) -> RowChange {
        let table = TableDescription.customer
        func column(_ name: String) -> ColumnMask { ColumnMask(column: table.column(named: name)!.number) }
        switch write {
        case .birth:
            var values: [FieldValue] = []
            for number in table.allColumns.numbers {
                let name = table.columns[number].name
                values.append(["name", "note"].contains(name) ? .text("\(name) \(rank)") : .null)
            }
            return RowChange(id: id, operation: .birth, columns: table.allColumns, values: values)
        case .editName:
            return RowChange(id: id, operation: .update, columns: column("name"), values: [.text("name \(rank)")])
        case .editNote:
            return RowChange(id: id, operation: .update, columns: column("note"), values: [.text("note \(rank)")])
        case .delete:
            return RowChange(id: id, operation: .delete, columns: [], values: [])
        case .restore:
            return RowChange(id: id, operation: .restore, columns: [], values: [])
        }
    }

    private func permutations<Element>(_ elements: [Element]) -> [[Element]] {
        guard elements.count > 1 else { return [elements] }
        return elements.indices.flatMap { index in
            var rest = elements
            let first = rest.remove(at: index)
            return permutations(rest).map { [first] + $0 }
        }
    }
}

/// The log of a hub that holds whatever a test wants.
private struct HubLine {
    private var entries: [ChangeEntry] = []
    private var end: LogPrefix
    private let first: UInt64
    private var chains: [Origin: (seq: UInt64, chain: ChangeChain)] = [:]

    init(to branch: Office) throws {
        end = try branch.replica.childFacts().cursor
        first = end.position + 1
    }

    static func origin(of writer: Int) -> Origin { Origin(rawValue: UInt32(100 + writer)) ?? .none }

    mutating func add(_ change: RowChange, from writer: Int, rank: Int) throws {
        let origin = Self.origin(of: writer)
        let last = chains[origin] ?? (0, .empty)
        let id = ChangeSetID(origin: origin, seq: last.seq + 1)
        let table = TableDescription.customer
        let content = try ChangeSet(
            header: ChangeSetHeader(
                id: id,
                schemaVersion: Schema.current.version,
                context: CausalContext(lives: [], hubs: []),
                previousChain: last.chain.prefix
            ),
            tables: [TableChanges(number: table.number, columnCount: table.columns.count, rows: [change])]
        ).content()
        let chain = content.withUnsafeBytes { last.chain.appending(content: $0) }
        chains[origin] = (id.seq, chain)
        end = end.appending(id, chain: chain)
        entries.append(
            .changeSet(
                time: HybridTimestamp(milliseconds: 1_800_000_000_000 + UInt64(rank)),
                body: ChangeBody(isCompressed: false, bytes: content)
            )
        )
    }

    func deliver(to branch: Office) throws {
        let hub = try #require(branch.replica.node.hub?.node.flatMap(UniqueID.init(bytes:)))
        let batch = ChangeBatch(firstPosition: first, entries: entries, end: end)
        _ = try branch.replica.apply([batch], from: SyncPeer(node: hub, origin: Origin(rawValue: 1) ?? .none))
    }
}
