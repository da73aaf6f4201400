import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

// After the storm: everything is mended, everybody meets, and what must hold then is looked for.

extension World {
    /// So often each branch may have to meet head office until all know the same.
    private static let roundsMax = 8
    /// Greetings, what each side asks the other, receipts, and the end of the session.
    private static let idleFramesMax = 24
    /// Each reads every row.
    private static let wholeLooksMax = 2

    /// Plays the whole script, heals the world, and looks. Ends with the first violation.
    func play() {
        run(until: VirtualTime.beginning + (script.steps.last?.at ?? 0) + 1)
        if violations.isEmpty { heal() }
        if violations.isEmpty { meetUntilEqual() }
        if violations.isEmpty, !hasAlarm { lookAtTheEnd() }
    }

    private func settleAll() { run(until: time.milliseconds + 7_200_000) { self.lines.isEmpty } }

    private func heal() {
        forgetSteps()
        for node in nodes {
            mendDisk(node)
            node.disk.cut(atChange: 0)
            node.clock.set(off: 0)
            node.awayUntil = 0
        }
        for node in nodes { hangUp(node.number) }
        settleAll()
        for line in lines.values.sorted(by: { $0.number < $1.number }) { breakLine(line) }
        // Whoever is down comes back within an hour.
        run(until: time.milliseconds + 7_200_000)
        for node in nodes where !node.isOpen { restart(node.number) }
        for node in nodes { setForbidden(false, at: node) }
        // All have the newest program in the end.
        if nodes.contains(where: { $0.schema.version == Schema.next.version }) {
            for node in nodes {
                node.schema = .next
                hangUp(node.number)
                do { try node.close() } catch { violate("I2", "node \(node.number) does not close: \(error)") }
                restart(node.number)
            }
        }
    }

    private func meetUntilEqual() {
        for round in 1...Self.roundsMax {
            for node in nodes { keepUp(node, searching: round == 1) }
            nodes.forEach(repairAsTold)
            for index in nodes.indices.dropFirst() {
                time.milliseconds += 60_000
                call(index, isOneShot: true, SimulatedLine.Quality(latencyMax: 5), seed: UInt64(round))
                run(until: time.milliseconds + 3_600_000) { self.lines.isEmpty }
                if !lines.isEmpty { return violate("I30", "the session of node \(index) does not end") }
            }
            note(30, round, 0)
            do {
                guard round > 1, try isQuiet() else { continue }
                tally.count("rounds until equal: \(round)")
                return meetOnceMore()
            } catch {
                return violate("I2", "a node cannot be looked at: \(error)")
            }
        }
        // Nobody can know that a whole machine was put back, if it writes again before a branch tells it: then the two
        // contents of one number are an alarm for people.
        if wasHubPutBackUnseen, isContradicted {
            hasAlarm = true
            return tally.count("head office put back unseen: alarm")
        }
        violate("I30", "after \(Self.roundsMax) meetings of each branch with head office: \(differences())")
    }

    /// Branches that have nothing to say meet head office with a handful of frames, however much both hold.
    private func meetOnceMore() {
        for index in nodes.indices.dropFirst() {
            let before = framesSent
            time.milliseconds += 60_000
            call(index, isOneShot: true, SimulatedLine.Quality(latencyMax: 5), seed: 0)
            run(until: time.milliseconds + 3_600_000) { self.lines.isEmpty }
            let frames = framesSent - before
            tally.count("frames of a meeting with no news: \(frames)")
            if frames > Self.idleFramesMax {
                violate("I33", "node \(index) and head office have no news, and send \(frames) frames")
            }
        }
    }

    /// Does what a node's status asks people for when rows of a snapshot were refused by somebody's index.
    private func repairAsTold(_ node: SimulatedNode) {
        guard node.hasForbidden, let replica = node.replica, (try? replica.soundness().isSound) == false else { return }
        tally.count("repair: rows that an administrator's index had kept out")
        replica.wish(.compare(repairs: true))
    }

    /// Whether a node says that another holds something else under the same number.
    private var isContradicted: Bool {
        let isKnownAtHub = (try? hub.replica?.registeredNodes().contains { !$0.contradictions.isEmpty }) == true
        return isKnownAtHub || nodes.contains { (try? $0.replica?.status().contradictions.isEmpty) == false }
    }

    /// Whether nobody has anything left to tell.
    private func isQuiet() throws -> Bool {
        let sums = try nodes.map { try $0.replica?.verify { _, _ in }.map(\.counted) }
        guard sums.allSatisfy({ $0 == sums[0] }) else { return false }
        return try nodes.allSatisfy { node in
            guard let status = try node.replica?.status() else { return false }
            return status.ahead.changeSets == 0 && status.lives.waiting.changeSets == 0
        }
    }

    /// What differs between nodes, in few words.
    private func differences() -> String {
        var words: [String] = []
        do {
            let here = try hub.replica?.everything() ?? []
            for node in nodes.dropFirst() {
                let changes = Self.changes(from: here, to: try node.replica?.everything() ?? [])
                if !changes.isEmpty {
                    let shown = changes.prefix(4).joined(separator: ", ")
                    words.append("node \(node.number) differs in \(changes.count) rows: \(shown)")
                }
                if let status = try node.replica?.status(),
                    status.ahead.changeSets > 0 || status.lives.waiting.changeSets > 0 || status.parked > 0
                        || status.turnedAway != nil
                {
                    words.append(
                        "node \(node.number) keeps \(status.ahead.changeSets) change sets, has \(status.parked) parked"
                            + (status.turnedAway.map { " and is turned away: \($0)" } ?? "")
                    )
                }
            }
        } catch {
            words.append("\(error)")
        }
        return String(words.joined(separator: "; ").prefix(1500))
    }

    /// What people who look for the cause want to see first.
    func lastOfLogs() -> [String] {
        nodes.flatMap { node in
            let entries = (try? node.replica?.read { try $0.log(after: 0, limit: .max) }) ?? []
            let name = "node \(node.number), origin \(node.replica?.node.origin.rawValue ?? 0)"
            return entries.suffix(30).map { entry in
                "\(name): \(entry.position) \(entry.id) time \(entry.time.packed) rows \(entry.rows) "
                    + "hub's \(entry.hubPosition.map { "\($0)" } ?? "-")"
            }
        }
    }

    /// Row by row, the columns that are not the same.
    private static func changes(from here: [String], to there: [String]) -> [String] {
        guard here != there else { return [] }
        func byRow(_ lines: [String]) -> [Substring: [Substring]] {
            let rows = lines.map { $0.split(separator: "|", omittingEmptySubsequences: false) }
            return Dictionary(rows.map { ($0[0], Array($0.dropFirst())) }) { first, _ in first }
        }
        let (rows, others) = (byRow(here), byRow(there))
        return Set(rows.keys).union(others.keys).sorted().compactMap { row in
            guard rows[row] != others[row] else { return nil }
            guard let columns = rows[row], let other = others[row] else {
                return "\(row) is only \(rows[row] == nil ? "there" : "at head office")"
            }
            let unequal = zip(columns, other).enumerated().filter { $1.0 != $1.1 }.map { number, values in
                "column \(number + 1) is \(values.0) at head office and \(values.1) there"
            }
            return "\(row): \(unequal.joined(separator: ", "))"
        }
    }

    // MARK: The end

    private func lookAtTheEnd() {
        for node in nodes { observe(node) }
        do {
            try lookAtNodes()
            try lookAtMarks()
            try lookAtOrder()
            try lookAtTables()
            try lookAtConflicts()
            if let hub = hub.replica { try lookAtAcknowledgements(hub) }
            try lookAtSecondDelivery()
            try lookAtErased(erasedRows())
            lookAtNumbers()
        } catch {
            violate("I2", "a node cannot be looked at: \(error)")
        }
    }

    private func lookAtNodes() throws {
        guard let hub = hub.replica else { return }
        let rows = try hub.everything()
        for line in rows { trace.add(line) }
        for node in nodes {
            guard let replica = node.replica else { continue }
            for problem in try replica.problems(isRewritten: false, hasCopies: hasCopies) {
                violate("I2", "node \(node.number): \(problem)")
            }
            let changes = Self.changes(from: rows, to: try replica.everything())
            if !changes.isEmpty {
                violate("I4", "node \(node.number): " + changes.prefix(4).joined(separator: ", "))
            }
            let status = try replica.status()
            if !status.contradictions.isEmpty { violate("I6", "node \(node.number) knows contradictions") }
            if status.divergedAt != nil { violate("I32", "node \(node.number) says that it differs, and does not") }
            if status.parked > 0 { violate("I32", "node \(node.number) keeps \(status.parked) parked rows") }
            if status.unsealedRows > 0 { violate("I32", "node \(node.number) has unsealed rows") }
            tally.count("conflicts listed", status.conflicts)
        }
    }

    /// Whether a text may stand in two change sets of head office's log: the one thing about copies that nobody can
    /// know in time.
    private func mayComeTwice(_ mark: Mark, _ keys: [ChangeKey]) -> Bool {
        if ledger.copiedUnsealed.contains(mark) { return true }
        // Head office and the node that wrote it were both put back: the node issued it again before another branch
        // brought back what head office had accepted.
        guard wasHubPutBack, keys.count == 2 else { return false }
        return ledger.isIssuedAgain(keys[0], keys[1]) || ledger.isIssuedAgain(keys[1], keys[0])
    }

    private func lookAtMarks() throws {
        let erased = try erasedRows()
        var seen: [Mark: [ChangeKey]] = [:]
        for key in hub.log.keys { for mark in ledger.marks(of: key) { seen[mark, default: []].append(key) } }
        for (mark, keys) in seen.sorted(by: { $0.key < $1.key }) where keys.count > 1 && !mayComeTwice(mark, keys) {
            violate("I6", "\(mark) is in several change sets: \(keys.map(\.id))")
        }
        for mark in ledger.required.sorted() where seen[mark] == nil {
            if let row = ledger.rows[mark], erased.contains(RowKey(table: row.table, id: row.id)) { continue }
            violate("I1", "\(mark) was acknowledged, and head office does not have it")
        }
        tally.count("acknowledged writes found", ledger.required.count)
    }

    struct RowKey: Hashable {
        let table: Int
        let id: RowID
    }

    private func erasedRows() throws -> Set<RowKey> {
        guard let hub = hub.replica else { return [] }
        return try hub.read { reader in
            var found: Set<RowKey> = []
            for (_, row) in ledger.rows {
                guard let table = hub.schema.tables.first(where: { $0.number == row.table }) else { continue }
                if try reader.isErased(table, id: row.id) { found.insert(RowKey(table: row.table, id: row.id)) }
            }
            return found
        }
    }

    /// The change sets of head office's log in its order, with contents as they were before anybody forgot them.
    func wholeLog() throws -> [(entry: LogEntry, content: ChangeSet)] {
        guard let hub = hub.replica else { return [] }
        let entries = try hub.read { try $0.log(after: 0, limit: .max) }
        return zip(entries, self.hub.log.keys).compactMap { entry, key in ledger.contents[key].map { (entry, $0) } }
    }

    private func lookAtTables() throws {
        if let difference = try differenceFromLog() { violate("I4", difference) }
    }

    /// What at head office is not as the change sets of its log say, in a sentence; nil when all is.
    private func differenceFromLog() throws -> String? {
        guard let hub = hub.replica else { return nil }
        var oracle = HistoryOracle()
        for (entry, content) in try wholeLog() { oracle.add(content, time: entry.time) }
        return try hub.differences(from: oracle, max: 1).found.first
    }

    /// Head office's rows are those of whole change sets also in the middle of things, when it has just come back.
    func lookAtWholeChangeSets() throws {
        guard wholeLooks < Self.wholeLooksMax, !wasHubPutBack, let hub = hub.replica else { return }
        // Whoever looked before may have had another program's writes sealed.
        observe(self.hub)
        let status = try hub.status()
        guard status.parked == 0, try !hub.withWriter({ try $0.isForeignWritePending() }),
            self.hub.log.keys.allSatisfy({ ledger.contents[$0] != nil })
        else { return }
        wholeLooks += 1
        tally.count("looks at head office's rows when it came back")
        if let difference = try differenceFromLog() { violate("I3", "head office came back: \(difference)") }
    }

    private func lookAtConflicts() throws {
        // What was answered, or judged by a life of head office that is gone, is not in the definition.
        let isOneLife = !script.steps.contains { step in
            [.answer, .upgrade].contains(step.verb) || (step.node == 0 && [.putBack, .recover].contains(step.verb))
        }
        guard isOneLife, nodes.allSatisfy({ $0.start > 0 }), let hub = hub.replica else { return }
        var oracle = ConflictOracle()
        for (entry, content) in try wholeLog() {
            oracle.add(content, entry.id, position: entry.position, time: entry.time)
        }
        let entries = try hub.openConflicts()
        let listed = Set(entries)
        if entries.count != listed.count {
            violate("I26", "\(entries.count - listed.count) conflicts are listed twice")
        }
        for line in oracle.open.symmetricDifference(listed).sorted().prefix(3) {
            violate("I26", "\(line) is \(listed.contains(line) ? "listed, and none" : "a conflict, and not listed")")
        }
    }
}
