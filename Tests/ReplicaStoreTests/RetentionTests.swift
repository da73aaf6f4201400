import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

/// What may be forgotten, and when.
@Suite("Leases and trimming")
struct RetentionTests {
    private static let day: UInt64 = 86_400_000

    @Test("A body stays while a node with a lease lacks it, while it is not safe, and while it is young")
    func trimming() throws {
        let (hub, a, b) = try Self.offices()
        for day in 1...120 {
            Self.pass(1, [hub, a, b])
            if day % 10 == 0 { try a.add(["name": .text("روز \(day)")]) }
            try a.sync(with: hub)
            if day <= 50 { try b.sync(with: hub) }
        }
        let acknowledged = try b.replica.status().cursor.position
        // Nothing is safe yet.
        try hub.replica.trimLog()
        #expect(try Self.trimmed(hub) == 0)

        try Self.setSafe(hub, to: acknowledged + 2)
        try hub.replica.trimLog()
        // B was heard 70 days ago and has its lease: what it lacks stays, and so does what is younger than 90 days.
        let first = try Self.trimmed(hub)
        #expect(first > 0 && first <= acknowledged)
        #expect(try Self.bodies(hub, after: first) == Self.changeSets(hub, after: first))
        #expect(try Self.bodies(hub, upTo: first) == 0)
        #expect(try hub.replica.retentionStatus().stablePosition == acknowledged)

        // 21 days later the lease has ended, and only what is safe and old may go.
        for _ in 0..<100 {
            Self.pass(1, [hub, a, b])
            try a.sync(with: hub)
        }
        try hub.replica.trimLog()
        #expect(try Self.trimmed(hub) == acknowledged + 2)
        try Self.setSafe(hub, to: hub.replica.status().end.position)
        try hub.replica.trimLog()
        let all = try hub.replica.status().end.position
        #expect(try Self.trimmed(hub) == all)
        // The rows of the log stay, and it is said what is no longer kept.
        #expect(try Self.changeSets(hub, after: 0) == Int(all))
        #expect(try hub.replica.read { try $0.logEntry(at: all)?.entry.bodyBytes } == nil)

        // A branch lets go as well, of its own work too, once it is told.
        try a.sync(with: hub)
        try a.replica.trimLog()
        #expect(try Self.bodies(a, after: 0) == 0)
        #expect(try a.isProvedEqual(to: hub))
        try b.sync(with: hub)
        #expect(try b.isProvedEqual(to: hub))
        // Whoever comes new gets everything all the same.
        let c = try Office.branch("c", of: hub)
        c.wallMilliseconds = hub.wallMilliseconds
        try c.sync(with: hub)
        #expect(try c.state() == hub.state())
    }

    @Test("A lease counts the days on which head office heard anybody, not what its clock says")
    func livedDays() throws {
        let (hub, a, b) = try Self.offices()
        func left(_ name: String) throws -> UInt64? {
            try hub.replica.registeredNodes().first { $0.name == name }?.leaseDaysLeft
        }
        // Head office's clock is years ahead for an hour, and somebody calls.
        hub.wallMilliseconds += 4000 * Self.day
        a.wallMilliseconds = hub.wallMilliseconds
        try a.sync(with: hub)
        #expect(try left("b") == 89)
        hub.wallMilliseconds -= 4000 * Self.day
        a.wallMilliseconds = hub.wallMilliseconds
        try a.sync(with: hub)
        #expect(try left("b") == 89)
        // Head office is switched off for a year.
        hub.wallMilliseconds += 365 * Self.day
        #expect(try left("b") == 89)
        for _ in 0..<100 {
            hub.wallMilliseconds += Self.day
            a.wallMilliseconds = hub.wallMilliseconds
            try a.sync(with: hub)
        }
        #expect(try left("b") == 0)
        #expect(try left("a") == 90)
        b.wallMilliseconds = hub.wallMilliseconds
        try b.sync(with: hub)
        #expect(try left("b") == 90)
        let expires = try b.replica.retentionStatus().leaseExpiresAt ?? 0
        #expect(expires > hub.wallMilliseconds + 89 * Self.day)
    }

    @Test("A retired node is refused and holds nothing back, and its name is free again")
    func retire() throws {
        let (hub, a, b) = try Self.offices()
        try a.add(["name": .text("نفرستاده")])
        #expect(try hub.replica.retire("a"))
        #expect(try !hub.replica.retire("a"))
        #expect(throws: RetirementFailure.unknownNode("z")) { try hub.replica.retire("z") }
        #expect(throws: RetirementFailure.notHeadOffice) { try b.replica.retire("b") }
        do {
            try a.sync(with: hub)
            Issue.record("A retired node came in")
        } catch SyncFailure.refused(let refusal) {
            #expect(refusal.code == .revoked)
        }
        #expect(try a.replica.status().ahead.changeSets == 1)
        try b.sync(with: hub)
        #expect(try hub.replica.retentionStatus().stablePosition == b.replica.status().cursor.position)
        let row = try hub.replica.read { try $0.rows(.branch, where: "name", is: .text("a")).first }
        #expect(row?["active"] == .integer(0))
        let again = try Office.branch("a", of: hub)
        try again.sync(with: hub)
        #expect(try again.isProvedEqual(to: hub))
    }

    @Test("Asking for what to keep costs the hello nothing that grows with the log")
    func costOfHello() throws {
        let (hub, a, _) = try Self.offices()
        for number in 0..<600 { try hub.add(["name": .text("\(number)")]) }
        let (all, some) = try hub.replica.withWriter { writer in
            (try writer.logRows(after: 0), try writer.logRows(after: 300))
        }
        let sum = try hub.replica.read { try Int.fetchOne($0.db, sql: "SELECT sum(rows) FROM log") ?? 0 }
        #expect(all == UInt64(sum))
        let since = try hub.replica.read { reader in
            try Int.fetchOne(reader.db, sql: "SELECT sum(rows) FROM log WHERE position > 300") ?? 0
        }
        #expect(some == UInt64(since))
        try a.sync(with: hub)
        #expect(try a.isProvedEqual(to: hub))
    }

    // MARK: -

    private static func offices() throws -> (hub: Office, a: Office, b: Office) {
        let hub = try Office.headOffice()
        let (a, b) = (try Office.branch("a", of: hub), try Office.branch("b", of: hub))
        try a.add(["name": .text("مریم")])
        for branch in [a, b] { try branch.sync(with: hub) }
        return (hub, a, b)
    }

    private static func pass(_ days: UInt64, _ offices: [Office]) {
        for office in offices { office.wallMilliseconds += days * day }
    }

    private static func setSafe(_ hub: Office, to position: UInt64) throws {
        try hub.replica.withWriter { writer in
            try writer.transaction { try writer.note(.safePosition, Int64(position)) }
        }
    }

    private static func trimmed(_ office: Office) throws -> UInt64 {
        try office.replica.retentionStatus().trimmedPosition
    }

    private static func bodies(_ office: Office, after first: UInt64 = 0, upTo last: UInt64 = 1 << 40) throws -> Int {
        try office.replica.read { reader in
            try Int.fetchOne(
                reader.db,
                sql: "SELECT count(*) FROM log WHERE position > ? AND position <= ? AND body IS NOT NULL",
                arguments: [Int64(first), Int64(last)]
            ) ?? 0
        }
    }

    private static func changeSets(_ office: Office, after first: UInt64) throws -> Int {
        try office.replica.read { reader in
            try Int.fetchOne(
                reader.db,
                sql: "SELECT count(*) FROM log WHERE position > ?",
                arguments: [Int64(first)]
            ) ?? 0
        }
    }
}
