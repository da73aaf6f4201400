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
    /// - Returns: What the log holds now.
    mutating func observe(_ replica: Replica, knowing known: KnownLog) throws -> KnownLog {
        try replica.read { reader in
            var now = known
            now.origin = replica.node.origin
            if known.end.position > 0 {
                let digest = try Int64.fetchOne(
                    reader.db.cachedStatement(sql: "SELECT digest FROM log WHERE position = ?"),
                    arguments: [Int64(known.end.position)]
                )
                // It was written anew.
                if digest.map({ UInt64(bitPattern: $0) }) != known.end.digest { now = KnownLog(origin: now.origin) }
            }
            let rows = try Row.fetchAll(
                reader.db.cachedStatement(
                    sql: "SELECT position, digest, origin, seq, chain FROM log WHERE position > ? ORDER BY position"
                ),
                arguments: [Int64(now.end.position)]
            )
            for row in rows {
                guard let origin = Origin(rawValue: UInt32(row[2] as Int64)),
                    let chain = ChangeChain(bytes: [UInt8](row[4] as Data))
                else { continue }
                let key = ChangeKey(id: ChangeSetID(origin: origin, seq: UInt64(row[3] as Int64)), chain: chain)
                now.end = LogPrefix(stored: row[0], row[1])
                now.keys.append(key)
                if contents[key] == nil, let content = try reader.logEntry(at: now.end.position)?.content {
                    learn(content, key)
                }
                now.marks.formUnion(marks[key] ?? [])
            }
            return now
        }
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
