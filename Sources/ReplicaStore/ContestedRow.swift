import CRM
import Causality
import SyncProtocol

/// One write to a contested row, as head office accepted it.
struct ContestedWrite: Hashable {
    let id: ChangeSetID
    /// Where it stands in head office's log; names it among the writes of the row.
    let position: UInt64
    let stamp: Stamp
    let operation: RowOperation
    private(set) var columns: ColumnMask
    /// Ascending by column.
    private(set) var values: [FieldValue]
    /// The positions of those writes of the row that its writer had seen.
    var seen: Set<UInt64>

    func saw(_ other: ContestedWrite) -> Bool {
        seen.contains(other.position) || isPlanted(.deletionSeesAll) && operation == .delete
    }

    /// Adds columns of the same write that came to light later: those of a newer schema.
    mutating func complete(with other: ContestedWrite) {
        let union = columns.union(other.columns)
        values = union.numbers.map { other.columns.contains(column: $0) ? other.value(of: $0) : value(of: $0) }
        columns = union
        seen.formUnion(other.seen)
    }

    /// What it wrote into a column.
    func value(of column: Int) -> FieldValue {
        let before = columns.intersection(ColumnMask(first: column)).count
        return columns.contains(column: column) && before < values.count ? values[before] : .null
    }

    /// Whether a column only followed from the others that it wrote: see ``ColumnDescription/isConsequence``.
    func isConsequence(_ column: Int, of table: TableDescription) -> Bool {
        guard table.columns[column].isConsequence else { return false }
        return columns.numbers.contains { !table.columns[$0].isConsequence }
    }
}

/// What names a losing write among all of one row, whichever life of head office lists it.
///
/// A deletion is one thing for all fields of the row, whether it lost or made others lose.
enum ConflictKey: Hashable {
    /// The columns that were lost, by name, and the change set that wrote them.
    case edit(columns: String, ChangeSetID)
    case deletion(ChangeSetID)
}

/// A write that lost without anybody having decided so.
struct LosingWrite {
    let key: ConflictKey
    let columns: ColumnMask
    /// The values that stand, ascending by column; nil when the row is deleted.
    let kept: [FieldValue]?
    /// The values that lost; nil when a deletion lost.
    let lost: [FieldValue]?
    let keptBy: ContestedWrite
    let lostBy: ContestedWrite
}

/// The writes of a row that was written by people who did not know of each other.
///
/// Begins with what the row's clock told when the first such write arrived: until then each write had seen all
/// before it. From then on it holds every write of the row, in the order of head office's log, so that what is
/// lost is a function of the writes and of who had seen what, in whatever order they arrive.
struct ContestedRow {
    private(set) var writes: [ContestedWrite]

    init(_ writes: [ContestedWrite]) { self.writes = writes }

    /// Adds a write, or columns of one.
    ///
    /// - Returns: The whole write.
    mutating func add(_ write: ContestedWrite) -> ContestedWrite {
        guard let index = writes.firstIndex(where: { $0.position == write.position }) else {
            writes.append(write)
            return write
        }
        writes[index].complete(with: write)
        return writes[index]
    }

    /// The write that decides whether the row lives.
    private var top: ContestedWrite? { writes.max { $0.stamp < $1.stamp } }

    /// By column, the write whose value the field holds, or would hold if the row were alive.
    private var winners: [(column: Int, write: ContestedWrite)] {
        let columns = writes.reduce(into: ColumnMask()) { $0.formUnion($1.columns) }
        return columns.numbers.compactMap { column in
            writes.filter { $0.columns.contains(column: column) }.max { $0.stamp < $1.stamp }.map { (column, $0) }
        }
    }

    // MARK: What is lost

    /// Every write that no later writer of the field had seen, and whose value is not the field's.
    func losingWrites(of table: TableDescription) -> [LosingWrite] {
        guard let top else { return [] }
        let winners = winners
        return lostEdits(winners, table)
            + (top.operation == .delete ? lost(under: top, winners, table) : lostDeletions(top, winners, table))
    }

    /// Edits that lost against other edits: one entry for each column, or group of columns.
    private func lostEdits(
        _ winners: [(column: Int, write: ContestedWrite)],
        _ table: TableDescription
    ) -> [LosingWrite] {
        var result: [LosingWrite] = []
        for write in writes {
            var done = ColumnMask()
            for (column, winner) in winners where !done.contains(column: column) && !isPlanted(.loserDropped) {
                guard isLost(write, column, winner), !write.isConsequence(column, of: table) else { continue }
                let unit = table.completed(ColumnMask(column: column)).intersection(write.columns)
                done.formUnion(unit)
                var kept: [FieldValue] = []
                var lost: [FieldValue] = []
                for column in unit.numbers {
                    kept.append(winners.first { $0.column == column }?.write.value(of: column) ?? .null)
                    lost.append(write.value(of: column))
                }
                result.append(
                    LosingWrite(
                        key: .edit(columns: table.names(of: unit), write.id),
                        columns: unit,
                        kept: kept,
                        lost: lost,
                        keptBy: winner,
                        lostBy: write
                    )
                )
            }
        }
        return result
    }

    private func isLost(_ write: ContestedWrite, _ column: Int, _ winner: ContestedWrite) -> Bool {
        write.columns.contains(column: column) && write.position != winner.position
            && !write.value(of: column).isStoredAs(winner.value(of: column)) && !isAnswered(write, column)
    }

    /// Whether nobody has to decide about a lost edit: somebody who had seen it has written the column again, or
    /// has deleted the row, which is deleted still. A row that comes back brings the question back, and a deletion
    /// that was taken back has decided nothing, even where another one, unaware of all that, came after it.
    private func isAnswered(_ write: ContestedWrite, _ column: Int) -> Bool {
        isOverwritten(write, column)
            || top?.operation == .delete && writes.contains { isStanding($0) && $0.saw(write) }
    }

    /// Whether somebody who had seen an edit has written the column again.
    private func isOverwritten(_ write: ContestedWrite, _ column: Int) -> Bool {
        if isPlanted(.conflictNeverAnswered) { return false }
        return writes.contains { $0.saw(write) && $0.columns.contains(column: column) }
    }

    /// Whether a write is a deletion that nobody who had seen it has taken back.
    private func isStanding(_ write: ContestedWrite) -> Bool {
        write.operation == .delete && !writes.contains { $0.operation == .restore && $0.saw(write) }
    }

    /// In a deleted row: the newest edit of each field, and the restores, that no deletion knew which still stands.
    private func lost(
        under top: ContestedWrite,
        _ winners: [(column: Int, write: ContestedWrite)],
        _ table: TableDescription
    ) -> [LosingWrite] {
        let standing = writes.filter(isStanding)
        let edits = winners.filter { column, write in
            !write.isConsequence(column, of: table)
                && !standing.contains { $0.position == write.position || $0.saw(write) }
        }
        let restores = writes.filter { write in
            write.operation == .restore && !writes.contains { $0.saw(write) }
        }
        let all = edits.map(\.write) + restores
        guard let newest = all.max(by: { $0.stamp < $1.stamp }) else { return [] }
        return [
            LosingWrite(
                key: .deletion(top.id),
                columns: edits.reduce(into: []) { $0.formUnion(ColumnMask(column: $1.column)) },
                kept: nil,
                lost: edits.map { $0.write.value(of: $0.column) },
                keptBy: top,
                lostBy: newest
            )
        ]
    }

    /// In a living row: the deletions that nobody has answered.
    private func lostDeletions(
        _ top: ContestedWrite,
        _ winners: [(column: Int, write: ContestedWrite)],
        _ table: TableDescription
    ) -> [LosingWrite] {
        writes.compactMap { deletion in
            guard deletion.operation == .delete, !isDecided(deletion) else { return nil }
            let edits = winners.filter { column, write in
                write.position != deletion.position && !deletion.saw(write)
                    && !write.isConsequence(column, of: table)
                    && !writes.contains { $0.saw(deletion) && $0.columns.contains(column: column) }
            }
            guard !edits.isEmpty || top.operation == .restore && !deletion.saw(top) else { return nil }
            return LosingWrite(
                key: .deletion(deletion.id),
                columns: edits.reduce(into: []) { $0.formUnion(ColumnMask(column: $1.column)) },
                kept: edits.map { $0.write.value(of: $0.column) },
                lost: nil,
                keptBy: edits.map(\.write).max { $0.stamp < $1.stamp } ?? top,
                lostBy: deletion
            )
        }
    }

    /// Whether somebody who had seen a deletion has restored the row, or deleted it again.
    private func isDecided(_ deletion: ContestedWrite) -> Bool {
        writes.contains { $0.saw(deletion) && ($0.operation == .restore || $0.operation == .delete) }
    }

    // MARK: Forgetting

    /// Whether the row's clock tells everything that can still matter, so that its writes may be forgotten.
    ///
    /// - Parameter resolved: What people have decided already.
    func isSettled(of table: TableDescription, resolved: Set<ConflictKey>) -> Bool {
        guard let top else { return true }
        for (column, winner) in winners {
            for write in writes where write.columns.contains(column: column) && write.position != winner.position {
                if isOverwritten(write, column) || write.isConsequence(column, of: table) { continue }
                let unit = table.completed(ColumnMask(column: column)).intersection(write.columns)
                guard resolved.contains(.edit(columns: table.names(of: unit), write.id)) else { return false }
            }
        }
        if top.operation == .delete {
            return resolved.contains(.deletion(top.id))
                || writes.allSatisfy { $0.position == top.position || top.saw($0) }
        }
        return writes.allSatisfy { write in
            switch write.operation {
            case .birth, .update, .erase: true
            case .delete: isDecided(write) || resolved.contains(.deletion(write.id))
            case .restore: write.position == top.position || writes.contains { $0.saw(write) }
            }
        }
    }
}

extension TableDescription {
    /// The names of some columns, as entries of the list of conflicts hold them.
    func names(of columns: ColumnMask) -> String {
        columns.numbers.map { self.columns[$0].name }.joined(separator: " ")
    }

    /// The columns of an entry; names that this version does not know are left out.
    func columns(named names: String) -> ColumnMask {
        names.split(separator: " ").reduce(into: []) { mask, name in
            if let column = column(named: String(name)) { mask.formUnion(ColumnMask(column: column.number)) }
        }
    }
}

// MARK: - Storage

// How a write lies in the table `contestedWrite`, beside its place and stamp.
//
//   bytes  content
//   1      operation
//   v      mask of columns
//   v ...  how many of the row's writes it has seen, and their positions, ascending, as differences
//   ...    for each column: 0 null | 1 integer (zigzag v) | 2 text (length v, bytes) | 3 blob (length v, bytes)
//
// v is a LEB128 number.

extension ContestedWrite {
    /// The stored form.
    var content: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.byte(operation.rawValue)
        writer.varint(columns.rawValue)
        writer.varint(UInt64(seen.count))
        var last: UInt64 = 0
        for position in seen.sorted() {
            writer.varint(position - last)
            last = position
        }
        for value in values {
            switch value {
            case .null: writer.byte(0)
            case .integer(let number):
                writer.byte(1)
                writer.zigzag(number)
            case .text(let text):
                writer.byte(2)
                writer.sized(text.utf8)
            case .blob(let bytes):
                writer.byte(3)
                writer.sized(bytes)
            }
        }
        return writer.bytes
    }

    /// Reads the stored form.
    init(
        id: ChangeSetID,
        position: UInt64,
        stamp: Stamp,
        content: UnsafeRawBufferPointer
    ) throws(MalformedBytes) {
        var reader = ByteReader(content)
        guard let operation = RowOperation(rawValue: try reader.byte()) else {
            throw .outOfRange("operation", offset: 0)
        }
        let columns = ColumnMask(rawValue: try reader.varint())
        var seen: Set<UInt64> = []
        var last: UInt64 = 0
        for _ in 0..<(try reader.count(bytesEach: 1)) {
            last &+= try reader.varint()
            seen.insert(last)
        }
        var values: [FieldValue] = []
        for _ in 0..<columns.count {
            switch try reader.byte() {
            case 0: values.append(.null)
            case 1: values.append(.integer(try reader.zigzag()))
            case 2: values.append(.text(String(decoding: try reader.sized(), as: UTF8.self)))
            case 3: values.append(.blob([UInt8](try reader.sized())))
            default: throw .outOfRange("kind of value", offset: reader.offset)
            }
        }
        try reader.finish()
        self.init(
            id: id,
            position: position,
            stamp: stamp,
            operation: operation,
            columns: columns,
            values: values,
            seen: seen
        )
    }
}
