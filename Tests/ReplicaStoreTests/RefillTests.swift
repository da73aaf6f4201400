import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

/// Head office loses its disk, and its branches fill it again.
@Suite("Head office put back to an older copy")
struct RefillTests {
    // MARK: The whole

    /// What happens at an office between two sessions.
    private struct Work {
        let hub: Office
        let branches: [Office]

        init() throws {
            hub = try Office.headOffice()
            let hub = hub
            branches = try ["isfahan", "qom", "tabriz"].map { try Office.branch($0, of: hub) }
            for branch in branches { try branch.sync(with: hub) }
        }

        /// Edits of one branch, the same in every run.
        static func edit(_ branches: [Office], round: Int, each: Int) throws {
            for (index, branch) in branches.enumerated() {
                for number in 0..<each {
                    branch.wallMilliseconds = 1_800_000_000_000 + UInt64(round * 100_000 + number * 10 + index)
                    let id = RowID(origin: branch.replica.node.origin, counter: 1)
                    if round == 0, number == 0 {
                        try branch.add(["name": .text("مشتری \(index)")])
                    } else if number % 3 == 0 {
                        try branch.add(["name": .text("\(index)-\(round)-\(number)")])
                    } else {
                        // Everybody's first customer, where it is known.
                        let other = RowID(
                            origin: branches[(index + number) % branches.count].replica.node.origin,
                            counter: 1
                        )
                        let known = try branch.replica.read { try $0.row(.customer, id: other) } == nil ? id : other
                        try branch.edit(known, ["note": .text("\(index) \(round) \(number)")])
                    }
                }
            }
        }
    }

    /// Rows without clocks: what people see.
    private func visible(_ office: Office) throws -> [String] {
        var lines: [String] = []
        try DatabaseQueue(path: office.databasePath).read { db in
            // The list of conflicts is the same, but not under the same numbers: another life has made it.
            for row in try Row.fetchAll(
                db,
                sql: """
                    SELECT tableName, ofRow, columnNames, lost, lostOrigin, lostSeq FROM conflict
                    WHERE resolution = 'open' ORDER BY 1, 2, 3, 4, 5, 6
                    """
            ) {
                lines.append("open " + row.databaseValues.map(\.description).joined(separator: "|"))
            }
            for table in Schema.current.tables where table != .conflict {
                for place in [table.name, table.graveyard] {
                    // A head office that was put back has a new origin number.
                    let names = table.columns.map(\.name).filter { table != .branch || $0 != "origin" }
                    let columns = names.map(\.quotedForTest).joined(separator: ", ")
                    for row in try Row.fetchAll(db, sql: "SELECT \(columns) FROM \(place) ORDER BY id") {
                        lines.append(place + " " + row.databaseValues.map(\.description).joined(separator: "|"))
                    }
                }
            }
        }
        return lines
    }

    private func run(restored: Bool, each: Int) throws -> (hub: Office, branches: [Office]) {
        let work = try Work()
        try Work.edit(work.branches, round: 0, each: 2)
        for _ in 0..<2 { for branch in work.branches { try branch.sync(with: work.hub) } }
        let backup = try work.hub.revived(isNoticed: true)
        try Work.edit(work.branches, round: 1, each: each)
        for _ in 0..<2 { for branch in work.branches { try branch.sync(with: work.hub) } }
        // Not everybody has sent everything when head office goes.
        try Work.edit(work.branches, round: 2, each: 5)
        try work.branches[1].sync(with: work.hub)
        try Work.edit(work.branches, round: 3, each: 3)
        let hub = restored ? backup : work.hub
        for branch in work.branches { try branch.sync(with: hub) }
        return (hub, work.branches)
    }

    @Test("A directory of head office 1,000 change sets older is filled again when each branch has called once")
    func olderDirectory() throws {
        let undisturbed = try run(restored: false, each: 330)
        let (hub, branches) = try run(restored: true, each: 330)
        #expect(try visible(hub) == visible(undisturbed.hub))
        for branch in branches { try branch.sync(with: hub) }
        try expectEqual([hub] + branches)
        for branch in branches {
            #expect(try branch.isProvedEqual(to: hub))
            #expect(try branch.replica.status().ahead.changeSets == 0)
        }
    }

    @Test("A refill that is cut after any message ends as one that was not cut")
    func cutAnywhere() throws {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        let b = try Office.branch("b", of: hub)
        for number in 0..<3 {
            try a.add(["name": .text("a\(number)")])
            try b.add(["name": .text("b\(number)")])
            for branch in [a, b] { try branch.sync(with: hub) }
        }
        let backup = try hub.revived(isNoticed: false)
        for number in 3..<9 {
            try a.add(["name": .text("a\(number)")])
            try b.add(["name": .text("b\(number)")])
            for branch in [a, b, a] { try branch.sync(with: hub) }
        }
        try b.add(["name": .text("unsent")])
        var messages = 0
        var isCut = true
        while isCut {
            messages += 1
            let (hub, a, b) = (
                try backup.revived(isNoticed: true), try a.revived(isNoticed: false), try b.revived(isNoticed: false)
            )
            isCut = try b.sync(with: hub, bytesMax: 300, entriesMax: 2, cutAfter: messages) != nil
            for branch in [a, b, a, b] { try branch.sync(with: hub) }
            try expectEqual([hub, a, b])
            #expect(try b.replica.status().ahead.changeSets == 0)
            #expect(try hub.replica.read { try $0.count(.customer) } == 19)
        }
        #expect(messages > 10)
    }
}

extension String {
    fileprivate var quotedForTest: String { "\"\(self)\"" }
}
