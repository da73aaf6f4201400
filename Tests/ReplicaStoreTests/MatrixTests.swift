import CRM
import Causality
import ReplicaStore
import SimulationKit
import SyncProtocol
import TestKit
import Testing

/// What one person does to one customer.
private enum Deed: CaseIterable {
    case nothing, editSameField, editOtherField, delete, restore, importAgain, link, erase

    /// - Returns: Whether it could be done, as the office has told.
    func perform(on id: RowID, at office: Office, number: Int) throws -> Bool {
        do {
            switch self {
            case .nothing:
                break
            case .editSameField:
                try office.edit(id, ["note": .text("note \(number)")])
            case .editOtherField:
                // A field of its own for each office, in a group for some.
                let origin = Int(office.replica.node.origin.rawValue)
                try office.edit(id, [["email", "web", "source", "phone"][origin % 4]: .text("other \(number)")])
            case .delete:
                try office.delete(id)
            case .restore:
                try office.restore(id)
            case .importAgain:
                // Several rows and fields in one transaction, as an import writes them.
                _ = try office.replica.write { transaction in
                    try transaction.update(
                        "customer",
                        id: id,
                        ["note": .text("import \(number)"), "city": .text("شیراز")]
                    )
                    try transaction.insert("customer", ["name": .text("import \(number)")])
                }
            case .link:
                try office.add(
                    ["customer": .integer(id.rawValue), "kind": .text("call"), "subject": .text("link \(number)")],
                    to: "activity"
                )
            case .erase:
                _ = try office.replica.erase(customer: id)
            }
            return true
        } catch StoreFailure.deletedRow, StoreFailure.rowNotDeleted, StoreFailure.unknownRow, StoreFailure.erasedRow {
            return false
        }
    }
}

/// Who deeds first, and what the second one knows of it.
private enum Timing: CaseIterable {
    /// Neither knows of the other; the clocks show the same.
    case sameInstant
    /// Neither knows of the other; the second has the later clock, or the earlier one.
    case secondLater, secondEarlier
    /// The second has seen what the first did, and has a clock that is an hour behind.
    case secondSaw
}

/// One customer, two people, one deed each.
private struct Cell {
    let customer: RowID
    let actors: [Int]
    let deeds: [Deed]
    let timing: Timing
}

@Suite("Every pair of deeds, at every pair of offices")
struct MatrixTests {
    @Test("All offices end with what the set of change sets says, in every cell", arguments: 1...5)
    func matrix(branches count: Int) throws {
        let hub = try Office.headOffice()
        let offices = try [hub] + (1...count).map { try Office.branch("b\($0)", of: hub) }
        let start = hub.wallMilliseconds
        // Who deeds first, and who second; 0 is head office. In a large office a pair or two stand for all.
        let pairs = [
            1: [[0, 1], [1, 0], [1, 1]], 2: [[0, 2], [2, 0], [1, 2], [2, 1]], 3: [[1, 3]], 4: [[0, 3], [4, 1]],
            5: [[5, 4], [2, 0]],
        ][count, default: []]
        // Head office alone may order an erasure.
        func isPossible(_ deeds: [Deed], by actors: [Int]) -> Bool {
            zip(deeds, actors).allSatisfy { deed, actor in deed != .erase || actor == 0 }
        }
        var cells: [Cell] = []
        for pair in pairs {
            for first in Deed.allCases {
                for second in Deed.allCases where isPossible([first, second], by: pair) {
                    for timing in Timing.allCases {
                        for isDeleted in [false, true] {
                            let id = try offices[pair[0]].add(["name": .text("m"), "note": .text("first")])
                            if isDeleted { try offices[pair[0]].delete(id) }
                            cells.append(Cell(customer: id, actors: pair, deeds: [first, second], timing: timing))
                        }
                    }
                }
            }
        }
        try converge(hub, Array(offices.dropFirst()))
        // Half an hour later, so that each cell can have an instant of its own that no clock has reached.
        func deed(_ step: Int, of index: Int) throws {
            let cell = cells[index]
            let office = offices[cell.actors[step]]
            let instant = start + 1_800_000 + UInt64(index) * 10
            office.wallMilliseconds =
                switch (cell.timing, step) {
                case (.secondLater, 1): instant + 5
                case (.secondEarlier, 0): instant + 5
                case (.secondSaw, 1): instant - 3_600_000
                default: instant
                }
            _ = try cell.deeds[step].perform(on: cell.customer, at: office, number: index * 2 + step)
        }
        for index in cells.indices {
            try deed(0, of: index)
            if cells[index].timing != .secondSaw { try deed(1, of: index) }
        }
        try converge(hub, Array(offices.dropFirst()))
        for index in cells.indices where cells[index].timing == .secondSaw { try deed(1, of: index) }
        try converge(hub, Array(offices.dropFirst()))

        let oracle = try hub.oracle()
        for table in [TableDescription.customer, .activity] {
            for id in oracle.identifiers(of: table) {
                let expected = oracle.expectation(of: id, in: table)
                let cell = cells.first { $0.customer == id }
                for office in offices {
                    let comment = Comment(
                        "\(table.name) \(id) at \(office.replica.node.name): \(cell.map { "\($0)" } ?? "")"
                    )
                    #expect(try office.present(id, in: table) == expected, comment)
                }
            }
        }
        for index in cells.indices where cells[index].timing == .secondSaw {
            try expectSecondWon(cells[index], index, at: hub, oracle)
        }
        #expect(try Set(hub.conflicts()) == hub.conflictOracle().open)
        try expectEqual(offices)
    }

    /// Whoever has seen the other's deed prevails, with a clock that is an hour behind.
    private func expectSecondWon(_ cell: Cell, _ index: Int, at hub: Office, _ oracle: HistoryOracle) throws {
        guard cell.deeds[0] != .erase, cell.deeds[1] == .editSameField,
            let row = oracle.expectation(of: cell.customer, in: .customer), row.isAlive,
            let note = TableDescription.customer.column(named: "note")?.number
        else { return }
        #expect(row.values[note] == .text("note \(index * 2 + 1)"), "\(cell)")
    }
}
