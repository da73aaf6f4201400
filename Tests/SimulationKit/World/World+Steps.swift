import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

// What the verbs of a script do.

extension World {
    func perform(_ written: Step) {
        var step = written
        step.node %= nodes.count
        let node = nodes[step.node]
        switch step.verb {
        case .add, .call, .edit, .delete, .restore, .many, .erase, .answer:
            work(step, at: node)
        case .program:
            runProgram(step, at: node)
        case .meet:
            let quality = SimulatedLine.Quality(
                latencyMax: step[1],
                pieceMax: Int(clamping: step[2]),
                cutAfter: step[3] == 0 ? nil : Int(clamping: step[3]),
                silentAfter: step[4] == 0 ? nil : Int(clamping: step[4]),
                silentEnd: Int(step[4] % 2)
            )
            let isOpen = lines(of: step.node).contains { !$0.isOver }
            guard !isOpen || step[0] > 1 else { return }
            if isOpen { tally.fault("second session of a node") }
            if quality.cutAfter != nil { tally.fault("line cut after some bytes") }
            if quality.silentAfter != nil {
                tally.fault("line silent towards the \(quality.silentEnd == 0 ? "branch" : "hub")")
            }
            if quality.pieceMax > 0, quality.pieceMax < 8 { tally.fault("line in pieces of a few bytes") }
            if quality.latencyMax > 5000 { tally.fault("line of seconds") }
            call(step.node, isOneShot: step[0] == 0, quality, seed: step[5])
        case .cut:
            let lines = lines(of: step.node)
            if !lines.isEmpty { tally.fault("line reset") }
            for line in lines { breakLine(line) }
        case .hangUp:
            hangUp(step.node)
        case .kill:
            guard node.isOpen else { return }
            tally.fault("process killed")
            kill(step.node, milliseconds: step[0])
        case .powerCut:
            guard node.isOpen else { return }
            let manner = CrashDisk.Manner(rawValue: Int32(step[2] % 4)) ?? .anyhow
            tally.fault("power cut, \(manner)")
            losePower(step.node, milliseconds: step[0], seed: step[1], manner: manner)
        case .powerCutAt:
            guard node.isOpen else { return }
            let manner = CrashDisk.Manner(rawValue: Int32(step[3] % 4)) ?? .anyhow
            tally.fault("power cut within a transaction, \(manner)")
            cutLater(step.node, change: 1 + Int(step[0] % 200), milliseconds: step[1], seed: step[2], manner: manner)
        case .stop:
            guard node.isOpen else { return }
            tally.fault("program stopped")
            stopSoon(step.node, milliseconds: step[0])
        case .fail, .mend:
            spoilDisk(step, of: node)
        case .setClock, .freezeClock, .mendClock:
            setClock(step, of: node)
        case .remember:
            node.remembered = node.disk.state()
            ledger.wasCopied(node.held)
        case .putBack, .clone:
            putBack(step)
        case .backup, .recover:
            backUp(step, node)
        case .upkeep:
            keepUp(node, searching: step[0] % 4 == 0)
        case .away:
            tally.fault(step[0] > 86_400_000 ? "away for days" : "away for hours")
            node.awayUntil = time.milliseconds + step[0]
            for line in lines(of: step.node) { breakLine(line) }
        case .forbid, .allow:
            setForbidden(step.verb == .forbid, at: node)
        case .upgrade:
            guard node.schema.version < Schema.next.version else { return }
            tally.fault("program of the next version")
            node.schema = .next
            if node.isOpen { stopSoon(step.node, milliseconds: 1000) }
        case .lie:
            lie(step, node)
        case .compare:
            node.replica?.wish(.compare(repairs: true))
        }
    }

    // MARK: People

    /// A new text that no other write has.
    private func newMark(_ step: Step) -> (mark: Mark, text: String) {
        lastMark += 1
        let mark = Mark(lastMark)
        // Most are short; some need several frames.
        let length = [4, 12, 30, 80, 400, 3000][Int(step[1] % 6)]
        return (mark, "\(mark)\(mark.word) " + String(repeating: "متن ", count: max(1, length / 4)))
    }

    /// The row that a number of a step names, among those of a table.
    private func row(_ number: UInt64, of table: String, at replica: Replica) throws -> RowID? {
        try replica.read { reader in
            let counting = try reader.db.cachedStatement(sql: "SELECT count(*) FROM \(table)")
            let count = try Int.fetchOne(counting) ?? 0
            guard count > 0 else { return nil }
            return try Int64.fetchOne(
                reader.db.cachedStatement(sql: "SELECT id FROM \(table) ORDER BY id LIMIT 1 OFFSET ?"),
                arguments: [Int64(number % UInt64(count))]
            ).flatMap { RowID(rawValue: $0) }
        }
    }

    private func work(_ step: Step, at node: SimulatedNode) {
        guard let replica = node.replica else { return tally.count("write: node down") }
        let (mark, text) = newMark(step)
        do {
            var marks = [mark]
            var readBack: (table: TableDescription, id: RowID, field: String)?
            let customer = try row(step[0], of: "customer", at: replica)
            switch (step.verb, customer) {
            case (.add, _), (.call, nil), (.edit, nil), (.many, nil):
                let id = try replica.write { try $0.insert("customer", ["name": .text(text)]) }.result
                readBack = (.customer, id, "name")
            case (.call, let id?):
                let made = try replica.write { transaction in
                    try transaction.insert(
                        "activity",
                        ["customer": .integer(id.rawValue), "kind": .text("call"), "subject": .text(text)]
                    )
                }.result
                readBack = (.activity, made, "subject")
            case (.edit, let id?):
                // A plain field, or one of a group; others of that group hold no mark, since it is written whole.
                let isNext = replica.schema.version == Schema.next.version
                let field =
                    isNext && step[2] % 7 == 6 ? "loyalty" : ["note", "email", "web", "name", "note"][Int(step[2] % 5)]
                let table = replica.schema.table(named: "customer") ?? .customer
                let before = try replica.read { try $0.row(table, id: id)?[field] }
                _ = try replica.write { try $0.update("customer", id: id, [field: .text(text)]) }
                if let old = before.flatMap(Mark.init) { ledger.replaced[mark] = old }
                readBack = (replica.schema.table(named: "customer") ?? .customer, id, field)
            case (.many, let id?):
                lastMark += 2
                let (second, third) = (Mark(lastMark - 1), Mark(lastMark))
                marks += [second, third]
                _ = try replica.write { transaction in
                    let made = try transaction.insert("customer", ["name": .text("\(second)\(second.word) دو")])
                    try transaction.insert(
                        "activity",
                        [
                            "customer": .integer(made.rawValue), "kind": .text("note"),
                            "body": .text("\(third)\(third.word) سه"),
                        ]
                    )
                    try transaction.update("customer", id: id, ["note": .text(text)])
                }
                readBack = (.customer, id, "note")
            case (.delete, let id?):
                marks = []
                _ = try replica.write { try $0.delete("customer", id: id) }
            case (.restore, _):
                marks = []
                guard let id = try row(step[0], of: "customerGraveyard", at: replica) else { return }
                _ = try replica.write { try $0.restore("customer", id: id) }
            case (.erase, let id?):
                marks = []
                guard node === hub else { return }
                _ = try replica.erase(customer: id)
                tally.fault("erasure")
            case (.answer, _):
                marks = []
                try answerConflict(step, replica)
            default:
                return
            }
            tally.writes += 1
            tally.busy(node.number, at: time.milliseconds)
            note(20, node.number, mark.number)
            observe(node)
            ledger.promise(marks)
            // With the power gone since, the disk is asked when it is back.
            guard !node.isDiskBad, node.disk.isPowered else { return }
            let missing = Set(marks).subtracting(node.log.marks)
            if !missing.isEmpty { violate("I1", "\(missing.sorted()) was acknowledged, and is not in the log") }
            if let readBack, marks.first == mark {
                let value = try replica.read { reader in
                    let table = replica.schema.table(number: readBack.table.number) ?? readBack.table
                    return try reader.row(table, id: readBack.id)?[readBack.field]
                }
                if value.flatMap(Mark.init) != mark {
                    violate("I28", "node \(node.number) does not read what was written last: \(mark)")
                }
            }
        } catch {
            wasRefused(error, node, what: "\(step.verb)")
        }
    }

    /// Whether a write may fail like this.
    private func wasRefused(_ error: any Error, _ node: SimulatedNode, what: String) {
        switch error {
        case StoreFailure.deletedRow, StoreFailure.rowNotDeleted, StoreFailure.unknownRow, StoreFailure.erasedRow,
            StoreFailure.firstLoad, StoreFailure.headOfficeOnly, StoreFailure.headOfficeMakes,
            StoreFailure.changedMeanwhile, StoreFailure.notJoined:
            tally.count("write: refused")
        default:
            if node.isForbidding {
                tally.count("write: refused by an administrator's index")
            } else if node.isDiskBad || !node.disk.isPowered {
                tally.count("write: failed")
            } else {
                violate("I10", "\(what) at node \(node.number) fails for no reason: \(error)")
            }
        }
    }

    /// Somebody says of a losing write that what stands is right.
    private func answerConflict(_ step: Step, _ replica: Replica) throws {
        let open = try replica.read { try $0.rows(.conflict, where: "resolution", is: .text("open")) }
        guard !open.isEmpty else { return }
        let entry = open[Int(step[0] % UInt64(open.count))]
        _ = try replica.write { try $0.update("conflict", id: entry.id, ["resolution": .text("kept")]) }
        tally.count("conflict answered")
    }

    /// Another program changes the node's file while it runs.
    private func runProgram(_ step: Step, at node: SimulatedNode) {
        guard let replica = node.replica, replica.node.isJoined, (try? replica.status().lives.waiting.changeSets) == 0
        else { return }
        let (mark, text) = newMark(step)
        var isKept = true
        do {
            let id = try row(step[2], of: "customer", at: replica)
            try node.otherProgram { db in
                switch (step[0] % 5, id) {
                case (0, _), (_, nil):
                    try db.execute(
                        sql: "INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), ?)",
                        arguments: [text]
                    )
                case (1, let id?):
                    try db.execute(sql: "UPDATE customer SET note = ? WHERE id = ?", arguments: [text, id.rawValue])
                case (2, let id?):
                    isKept = false
                    try db.execute(sql: "DELETE FROM customer WHERE id = ?", arguments: [id.rawValue])
                case (3, let id?):
                    isKept = false
                    try db.execute(
                        sql: "BEGIN; UPDATE customer SET note = 'nothing' WHERE id = \(id.rawValue); ROLLBACK"
                    )
                case (_, let id?):
                    try db.execute(
                        sql: """
                            BEGIN;
                            UPDATE customer SET note = 'passing' WHERE id = \(id.rawValue);
                            INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), '\(text)');
                            COMMIT
                            """
                    )
                }
            }
            tally.fault(
                "another program: \(["inserts", "updates", "deletes", "rolls back", "transaction"][Int(step[0] % 5)])"
            )
            if isKept, !node.isDiskBad, replica.firstLoadProgress == nil {
                ledger.promise([mark])
                // Its disk has it before any log does.
                node.held.insert(mark)
            }
            if step[3] == 0 { try replica.sealForeignWrites() }
            tally.writes += 1
            observe(node)
        } catch {
            tally.count("program: \(node.isDiskBad ? "failed" : "refused")")
        }
    }

    // MARK: Machines

    private func spoilDisk(_ step: Step, of node: SimulatedNode) {
        if step.verb == .mend { return mendDisk(node) }
        let kinds: [(CrashDisk.Operations, String)] = [
            (.writes, "write"), (.syncs, "sync"), (.reads, "read"), (.truncations, "truncation"),
            (.removals, "removal"),
        ]
        let (operations, name) = kinds[Int(step[0] % 5)]
        let isFull = step[2] == 1 && operations == .writes
        let isForEver = step[3] == 1
        node.disk.fail(operations, at: 1 + Int(step[1] % 50), with: isFull ? .full : .inputOutput, forEver: isForEver)
        node.isDiskBad = true
        tally.fault("disk: \(isFull ? "full" : "\(name) fails")\(isForEver ? ", for ever" : "")")
    }

    /// The disk is good again; the node starts anew, as after any repair.
    func mendDisk(_ node: SimulatedNode) {
        guard node.isDiskBad else { return }
        node.disk.mend()
        if node.isOpen { kill(node.number, milliseconds: 1000) }
        node.isDiskBad = false
    }

    private func setClock(_ step: Step, of node: SimulatedNode) {
        switch step.verb {
        case .setClock:
            let off = Int64(clamping: step[0]) * (step[1] == 1 ? -1 : 1)
            let far = step[0] > 86_400_000 * 300 ? "years" : step[0] > 3_600_000 ? "hours" : "minutes"
            tally.fault("clock \(step[1] == 1 ? "behind" : "ahead") by \(far)")
            node.clock.set(off: off)
        case .freezeClock:
            tally.fault("clock stands still")
            node.clock.freeze()
        default:
            node.clock.set(off: 0)
        }
    }

    private func putBack(_ step: Step) {
        let node = nodes[step.node]
        guard let state = node.remembered else { return }
        hasCopies = true
        let fence = step[1] % 3
        if step.verb == .clone {
            guard step.node != 0, nodes.count < 48 else { return }
            tally.fault("clone, fence \(["fits", "of another", "missing"][Int(fence)])")
            do {
                let clone = try SimulatedNode(nodes.count, time: time, policy: node.policy)
                clone.schema = node.schema
                clone.disk.restore(state)
                if fence != 0 { clone.breakFence(isMissing: fence == 2) }
                nodes.append(clone)
                restart(clone.number)
            } catch {
                violate("I2", "a copy of node \(step.node) does not open: \(error)")
            }
            return
        }
        guard node.isOpen, !node.isDiskBad else { return }
        tally.fault(
            "\(step.node == 0 ? "head office" : "disk") put back, fence \(["fits", "of another", "missing"][Int(fence)])"
        )
        if node === hub { wasHubPutBack = true }
        if node === hub, fence == 0 { wasHubPutBackUnseen = true }
        let held = node.held
        bury(step.node)
        node.disk.restore(state)
        if fence != 0 { node.breakFence(isMissing: fence == 2) }
        (node.log, node.held) = (KnownLog(), [])
        restart(step.node)
        let others = nodes.filter { $0 !== node }.reduce(into: Set<Mark>()) { $0.formUnion($1.log.marks) }
        ledger.release(held.subtracting(node.log.marks).subtracting(others))
    }

    private func backUp(_ step: Step, _ node: SimulatedNode) {
        guard node.isOpen else { return }
        let file = node.disk.directory + "/backup.db"
        do {
            if step.verb == .backup {
                for suffix in ["", "-wal", "-journal"] { try? FileManager.default.removeItem(atPath: file + suffix) }
                _ = try node.replica?.backup(to: file) { _, _ in }
                if let end = try node.replica?.status().end { node.backedUp = max(node.backedUp, end.position) }
                tally.count("backup")
                return
            }
            guard FileManager.default.fileExists(atPath: file), !node.isDiskBad else { return }
            let held = node.held
            bury(step.node)
            let state = node.disk.state()
            node.disk.restore(state)
            _ = try Replica.restore(
                file,
                to: node.directory,
                replacing: true,
                older: true,
                schema: node.schema,
                clock: node.clock.nodeClock
            )
            if node === hub { wasHubPutBack = true }
            tally.fault(node === hub ? "head office restored from a backup" : "branch restored from a backup")
            (node.log, node.held) = (KnownLog(), [])
            restart(step.node)
            let others = nodes.filter { $0 !== node }.reduce(into: Set<Mark>()) { $0.formUnion($1.log.marks) }
            ledger.release(held.subtracting(node.log.marks).subtracting(others))
        } catch {
            if !node.isDiskBad, node.disk.isPowered { violate("I10", "\(step.verb) at node \(step.node): \(error)") }
        }
    }

    /// What a running node does by itself now and then.
    ///
    /// - Parameter searching: Whether it gets as far as the search index, which takes longer than all the rest.
    func keepUp(_ node: SimulatedNode, searching: Bool) {
        guard let replica = node.replica else { return }
        do {
            try replica.sealForeignWrites()
            if searching { _ = try replica.followLogForSearch(piecesMax: 1) }
            try replica.selfCheckTurn()
            try replica.scrubErased()
            try replica.trimLog(piecesMax: 4)
            if node === hub {
                try lookAtTrimming(replica)
                try lookAtAcknowledgements(replica)
            }
            observe(node)
            if try replica.read({ try $0.unapplied().parked }) > 0 { _ = try replica.retryParked() }
        } catch {
            if !node.isDiskBad, node.disk.isPowered { violate("I10", "upkeep of node \(node.number) fails: \(error)") }
        }
    }

    func setForbidden(_ isForbidden: Bool, at node: SimulatedNode) {
        guard let replica = node.replica else { return }
        node.isForbidding = isForbidden
        do {
            if isForbidden {
                tally.fault("an administrator's index refuses rows")
                try node.otherProgram { db in
                    // Texts of one length collide.
                    try db.execute(
                        sql:
                            "CREATE UNIQUE INDEX IF NOT EXISTS adminLength ON customer(length(note)) WHERE note IS NOT NULL"
                    )
                }
            } else {
                try node.otherProgram { try $0.execute(sql: "DROP INDEX IF EXISTS adminLength") }
                _ = try replica.retryParked()
            }
        } catch {
            tally.count("index: refused")
        }
    }
}
