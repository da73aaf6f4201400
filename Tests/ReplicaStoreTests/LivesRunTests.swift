import CRM
import Causality
import Foundation
import GRDB
import TestKit
import Testing

@testable import ReplicaStore
@testable import SyncProtocol

/// Random histories of a branch that is put back to older copies, and of copies that write side by side.
@Suite("Random restores and clones")
struct LivesRunTests {
    private static let runs = 200

    @Test("Every older copy is found in its first session, and nothing of any life is lost or there twice")
    func runs() throws {
        let seed = testSeed("lives")
        for first in stride(from: 0, to: Self.runs, by: Self.runsOfOneOffice) {
            let hub = try Office.headOffice()
            let other = try Office.branch("c", of: hub)
            for number in first..<min(first + Self.runsOfOneOffice, Self.runs) {
                var run = try Run(seed: seed &+ UInt64(number), number: number, hub, other)
                try run.play()
            }
            try other.sync(with: hub)
            #expect(try other.state() == hub.state(), "runs from \(first) end differently")
        }
    }

    /// Making a head office takes longer than a history.
    private static let runsOfOneOffice = 10

    /// One history.
    private struct Run {
        private var random: SeededRandom
        private let number: Int
        private let hub: Office
        private let other: Office
        private var copies: [Office]
        private var written = 0
        /// Texts that are in a living copy, or at head office.
        private var kept: Set<String> = []
        /// By copy, what only it may have: by identity.
        private var local: [ObjectIdentifier: Set<String>] = [:]

        /// Head office's log before this history.
        private let begin: UInt64

        init(seed: UInt64, number: Int, _ hub: Office, _ other: Office) throws {
            random = SeededRandom(seed: seed)
            self.number = number
            self.hub = hub
            self.other = other
            let branch = try Office.branch("b\(number)", of: hub)
            copies = [branch]
            for office in [branch, other] { try office.sync(with: hub) }
            begin = try hub.replica.status().end.position
        }

        mutating func play() throws {
            try work(copies[0], 1 + random.below(3))
            if !random.oneIn(4) { try sync(copies[0]) }
            for _ in 0..<(random.oneIn(2) ? 1 : 2) { try goBack() }
            try settle()
        }

        /// A copy is made, the original goes on, and the copy is started: in its place or beside it.
        private mutating func goBack() throws {
            let original = copies[copies.count - 1]
            let copy = try original.copy()
            let inCopy = local[ObjectIdentifier(original)] ?? []
            try work(original, random.below(3))
            if random.oneIn(2) { try work(other, 1) }
            try other.sync(with: hub)
            let before = try facts(original)
            try sync(original)
            try work(original, random.below(2))
            let after = try facts(original)
            let isClone = random.oneIn(2)
            let fence: Office.CopiedFence = random.oneIn(4) ? .asCopied : random.oneIn(4) ? .missing : .fitting
            let started = try Office(from: copy, fence: fence)
            local[ObjectIdentifier(started)] = inCopy
            if isClone {
                copies.append(started)
            } else {
                // What the original had not sent is gone with its disk.
                copies[copies.count - 1] = started
            }
            started.wallMilliseconds = original.wallMilliseconds + UInt64(random.below(2000))
            // Behind, equal or ahead of what head office has heard of this life.
            try work(started, random.below(4))
            let origin = started.replica.node.origin
            let cut = random.oneIn(4) ? 1 + random.below(20) : .max
            try sync(started, cutAfter: cut)
            // Nothing that head office has heard tells the copy from what it was.
            if fence == .fitting, before.cursor == after.cursor, before.accepted == after.accepted { return }
            if cut != .max, started.replica.node.origin == origin { try sync(started) }
            #expect(started.replica.node.origin != origin, "run \(number): the copy was not noticed")
        }

        private func facts(_ office: Office) throws -> (cursor: LogPrefix, accepted: UInt64) {
            let status = try office.replica.status()
            return (status.cursor, try hub.replica.status().vector.first { $0.origin == status.node.origin }?.seq ?? 0)
        }

        private mutating func work(_ office: Office, _ count: Int) throws {
            for _ in 0..<count {
                written += 1
                let text = "متن-\(number).\(written)-"
                office.wallMilliseconds += UInt64(random.below(500))
                let customers = try office.replica.read { reader in
                    try reader.rows(.customer, after: nil, limit: 1000).suffix(30).map(\.id)
                }
                switch (random.below(6), customers.randomElement(using: &random)) {
                case (0...1, _), (_, nil):
                    try office.add(["name": .text(text)])
                case (2, let id?):
                    try office.add(
                        [
                            "customer": .integer(id.rawValue), "alsoWith": .text(id.description), "kind": .text("call"),
                            "subject": .text(text),
                        ],
                        to: "activity"
                    )
                case (3, let id?):
                    _ = try office.replica.write { transaction in
                        let made = try transaction.insert("customer", ["name": .text(text + "دو")])
                        try transaction.insert(
                            "activity",
                            ["customer": .integer(made.rawValue), "kind": .text("note"), "subject": .text(text)]
                        )
                        try transaction.update("customer", id: id, ["note": .text(text)])
                    }
                case (4, let id?) where random.oneIn(2):
                    try office.edit(id, ["note": .text(text)])
                    try office.delete(id)
                case (_, let id?):
                    try office.edit(id, [random.oneIn(2) ? "note" : "city": .text(text)])
                }
                local[ObjectIdentifier(office), default: []].insert(text)
            }
        }

        private mutating func sync(_ office: Office, cutAfter: Int = .max) throws {
            try office.sync(with: hub, entriesMax: 1 + random.below(20), cutAfter: cutAfter)
            if cutAfter == .max { kept.formUnion(local.removeValue(forKey: ObjectIdentifier(office)) ?? []) }
        }

        private mutating func settle() throws {
            for _ in 0..<4 { for office in copies.shuffled(using: &random) + [other] { try sync(office) } }
            let rows = try hub.rows()
            for office in copies + [other] {
                #expect(try office.rows() == rows, "run \(number) ends differently")
                #expect(try office.replica.status().lives.waiting.changeSets == 0)
            }
            // Each write is in one change set of head office's log, and in no other.
            var seen: [String: Int] = [:]
            let end = try hub.replica.status().end.position
            for position in begin...end {
                guard let content = try hub.replica.read({ try $0.logEntry(at: position) })?.content else { continue }
                let texts = Set(content.tables.flatMap(\.rows).flatMap(\.values).compactMap(Self.mark))
                for text in texts { seen[text, default: 0] += 1 }
            }
            for text in kept.sorted() { #expect(seen[text] == 1, "run \(number): \(text)") }
            #expect(seen.values.allSatisfy { $0 == 1 }, "run \(number) has something twice")
            try checkReferences()
        }

        /// No activity lost its customer.
        private func checkReferences() throws {
            let lost = try hub.otherProgram { db in
                try Int.fetchOne(
                    db,
                    sql: """
                        SELECT count(*) FROM activity WHERE customer NOT IN
                            (SELECT id FROM customer UNION ALL SELECT id FROM customerGraveyard)
                        """
                )
            }
            #expect(lost == 0, "run \(number) has activities without a customer")
        }

        /// The mark in a value; an edit before a delete has its own.
        private static func mark(_ value: FieldValue) -> String? {
            guard case .text(let text) = value, text.hasPrefix("متن-"), let end = text.lastIndex(of: "-") else {
                return nil
            }
            return String(text[...end])
        }
    }
}
