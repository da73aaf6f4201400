import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// A change set as no other is: two lives of an origin may give the same number to different ones.
struct ChangeKey: Hashable {
    let id: ChangeSetID
    let chain: ChangeChain
}

extension ChangeKey {
    /// Of a row of the log: position, digest, origin, number, chain.
    fileprivate init?(_ row: Row) {
        guard let origin = Origin(rawValue: UInt32(row[2] as Int64)),
            let chain = ChangeChain(bytes: [UInt8](row[4] as Data))
        else { return nil }
        self.init(id: ChangeSetID(origin: origin, seq: UInt64(row[3] as Int64)), chain: chain)
    }
}

/// A text that one write brought into the world, and no other: `w17-` at its beginning.
struct Mark: Hashable, Comparable, CustomStringConvertible {
    let number: Int

    var description: String { "w\(number)-" }

    /// A word of its text, of twelve letters that begin no other word.
    var word: String {
        var random = SeededRandom(seed: UInt64(number))
        return String((0..<12).map { _ in Character(UnicodeScalar(UInt8(97 + random.below(26)))) })
    }

    /// What is left of its text if anything is, long enough to be nothing else. The search index keeps words without what
    /// they have in common with the one before.
    var traces: [String] { ["\(self)\(word.prefix(5))", String(word.suffix(7))] }

    static func < (left: Mark, right: Mark) -> Bool { left.number < right.number }

    init(_ number: Int) { self.number = number }

    init?(_ value: FieldValue) {
        guard case .text(let text) = value, text.hasPrefix("w"), let end = text.firstIndex(of: "-"),
            let number = Int(text[..<end].dropFirst())
        else { return nil }
        self.number = number
    }
}

/// What a node's log is known to hold.
struct KnownLog {
    var end = LogPrefix.empty
    var keys: [ChangeKey] = []
    var marks: Set<Mark> = []
    var origin = Origin.none
}

/// Everything that was ever in a log, as an onlooker knows it who sees all disks, and what people were told.
struct Ledger {
    /// Contents as they were before anybody forgot or erased them.
    private(set) var contents: [ChangeKey: ChangeSet] = [:]
    private var marks: [ChangeKey: [Mark]] = [:]
    /// The row that a mark was written to.
    private(set) var rows: [Mark: (table: Int, id: RowID)] = [:]
    /// Marks of writes that somebody was told are kept, and that no disk which had them was put back since.
    private(set) var required: Set<Mark> = []

    /// Marks that were in the file of a copied disk and in no log yet: both copies take them up, and nothing tells that it
    /// is the same work.
    private(set) var copiedUnsealed: Set<Mark> = []

    /// A copy was made of a disk.
    mutating func wasCopied(_ held: Set<Mark>) { copiedUnsealed.formUnion(held.filter { rows[$0] == nil }) }

    /// Whether a change set is another one, issued again.
    func isIssuedAgain(_ key: ChangeKey, _ other: ChangeKey) -> Bool {
        contents[key]?.header.extensions.firstIdentity == FirstIdentity(id: other.id, chain: other.chain)
    }

    /// By a mark, the one that its writer saw in the same place.
    var replaced: [Mark: Mark] = [:]
    /// Customers that somebody restored.
    private(set) var restored: Set<Int64> = []

    mutating func promise(_ marks: [Mark]) { required.formUnion(marks) }

    /// The only disks that had them are gone.
    mutating func release(_ marks: Set<Mark>) { required.subtract(marks) }

    /// Reads what is new in a node's log.
    ///
    /// - Parameter log: What it was known to hold, and then what it holds now.
    /// - Returns: The marks in what is new.
    mutating func observe(_ replica: Replica, _ log: inout KnownLog) throws -> [Mark] {
        let end = log.end
        let (isRewritten, rows) = try replica.read { reader in
            var isRewritten = false
            if end.position > 0 {
                let digest = try Int64.fetchOne(
                    reader.db.cachedStatement(sql: "SELECT digest FROM log WHERE position = ?"),
                    arguments: [Int64(end.position)]
                )
                isRewritten = digest.map { UInt64(bitPattern: $0) } != end.digest
            }
            let rows = try Row.fetchAll(
                reader.db.cachedStatement(
                    sql: "SELECT position, digest, origin, seq, chain FROM log WHERE position > ? ORDER BY position"
                ),
                arguments: [isRewritten ? 0 : Int64(end.position)]
            )
            for row in rows {
                guard let key = ChangeKey(row), contents[key] == nil else { continue }
                if let content = try reader.logEntry(at: UInt64(row[0] as Int64))?.content { learn(content, key) }
            }
            return (isRewritten, rows)
        }
        if isRewritten { log = KnownLog() }
        log.origin = replica.node.origin
        var new: [Mark] = []
        for row in rows {
            guard let key = ChangeKey(row) else { continue }
            log.end = LogPrefix(stored: row[0], row[1])
            log.keys.append(key)
            new += marks[key] ?? []
        }
        log.marks.formUnion(new)
        return new
    }

    private mutating func learn(_ content: ChangeSet, _ key: ChangeKey) {
        contents[key] = content
        var found: Set<Mark> = []
        for table in content.tables where table.number != TableDescription.conflict.number {
            // Who restores a row says again what it held.
            for row in table.rows {
                guard row.operation != .restore else {
                    restored.insert(row.id.rawValue)
                    continue
                }
                for mark in row.values.compactMap(Mark.init) {
                    found.insert(mark)
                    rows[mark] = (table.number, row.id)
                }
            }
        }
        marks[key] = found.sorted()
    }

    func marks(of key: ChangeKey) -> [Mark] { marks[key] ?? [] }
}
