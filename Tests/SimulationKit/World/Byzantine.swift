import CRM
import Causality
import SyncProtocol

@testable import ReplicaStore

/// A lie about a change set that a branch might send, in lawful frames.
package enum Lie: CaseIterable, Sendable {
    case unknownFormat, brokenChain, contextBeyondWhatWasSent, foreignOrigin, gap, foreignRowNumber, otherContent
    case tableOfHeadOffice, timeBeforeWhatWasSeen, yearsToCome

    /// The canonical bytes of a change set with one customer, that lies in one way.
    ///
    /// - Parameter hello: What the branch truly says of itself.
    package func content(_ hello: Hello) throws -> [UInt8] {
        let stranger = Origin(rawValue: hello.origin.rawValue + 1) ?? .none
        let origin = self == .foreignOrigin ? stranger : hello.origin
        let seq =
            switch self {
            case .foreignOrigin: UInt64(1)
            case .gap: hello.ownSeq + 2
            case .otherContent: max(1, hello.ownSeq)
            default: hello.ownSeq + 1
            }
        let context =
            self == .contextBeyondWhatWasSent
            ? LogPrefix(position: hello.cursor.position + 7, digest: 99) : hello.cursor
        let header = ChangeSetHeader(
            id: ChangeSetID(origin: origin, seq: seq),
            schemaVersion: Int(hello.schemaVersion),
            context: CausalContext(lives: [], hubs: [context]),
            previousChain: self == .brokenChain ? hello.ownChain ^ 1 : self == .foreignOrigin ? 0 : hello.ownChain
        )
        let table = self == .tableOfHeadOffice ? TableDescription.staff : .customer
        let row = RowChange(
            id: RowID(origin: self == .foreignRowNumber ? stranger : origin, counter: 4711),
            operation: .birth,
            columns: table.allColumns,
            values: table.columns.dropFirst().map { ["name", "login"].contains($0.name) ? .text("x") : .null }
        )
        let set = ChangeSet(
            header: header,
            tables: [TableChanges(number: table.number, columnCount: table.columns.count, rows: [row])]
        )
        var bytes = try set.content()
        if self == .unknownFormat { bytes[0] = 99 }
        return bytes
    }

    /// The batch in which it comes.
    ///
    /// - Parameter now: Head office's time.
    package func batch(_ hello: Hello, now: UInt64) throws -> ChangeBatch {
        let milliseconds =
            switch self {
            case .timeBeforeWhatWasSeen: UInt64(1)
            case .yearsToCome: now + 86_400_000 * 365 * 5
            default: now + 1000
            }
        return ChangeBatch(
            firstPosition: 0,
            entries: [
                .changeSet(
                    time: HybridTimestamp(milliseconds: milliseconds),
                    body: ChangeBody(isCompressed: false, bytes: try content(hello))
                )
            ],
            end: .empty
        )
    }
}

extension World {
    /// A branch tells a lie in a session of its own; head office must be as it was before.
    func lie(_ step: Step, _ node: SimulatedNode) {
        guard node !== hub, let branch = node.replica, let hub = hub.replica, !self.hub.isDiskBad, !node.isDiskBad
        else { return }
        let lie = Lie.allCases[Int(step[0] % UInt64(Lie.allCases.count))]
        do {
            let hello = try branch.childFacts()
            // Who has written nothing yet has nothing to contradict, and who has seen nothing writes after nothing.
            guard hello.origin != .none, lie != .otherContent || hello.ownSeq > 0,
                lie != .timeBeforeWhatWasSeen || hello.cursor.position > 0,
                (try? hub.decideWelcome(hello, receivedAtMilliseconds: hub.nowMilliseconds())) != nil
            else { return }
            tally.fault("lying branch: \(lie)")
            let before = try hub.verify { _, _ in }.map(\.counted)
            let end = try hub.status().end
            let batch = try lie.batch(hello, now: hub.nowMilliseconds())
            let isTaken = (try? hub.apply([batch], from: SyncPeer(node: hello.node, origin: hello.origin))) != nil
            let after = try hub.verify { _, _ in }.map(\.counted)
            let present = try hub.status().end
            if before != after || present != end {
                violate("I20", "head office took what a branch invented: \(lie)")
            } else if isTaken, lie != .otherContent {
                violate("I20", "head office acknowledged what a branch invented: \(lie)")
            }
            observe(self.hub)
        } catch {
            tally.count("lie: not told")
        }
    }
}
