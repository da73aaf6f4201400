import Foundation
import TestKit
import Testing

@testable import ReplicaStore
@testable import peyvand

@Suite("The doctor", .serialized, .timeLimit(.minutes(15)))
struct DoctorTests {
    private func checks(_ json: [String: Any]) -> [String: String] {
        Dictionary(
            (json["checks"] as? [[String: Any]] ?? []).map {
                ($0["check"] as? String ?? "", $0["state"] as? String ?? "unknown")
            }
        ) { first, _ in first }
    }

    @Test("A new node is found in order, running or not; where there is none he says so")
    func newNode() async throws {
        let office = try await ProcessOffice.open()
        let running = checks(try await peyvand(at: office.headOffice, "doctor --json").json)
        try office.process.killAtOnce()
        let stopped = checks(try await peyvand(at: office.headOffice, "doctor --json").json)
        for found in [running, stopped] {
            for check in ["directory", "permissions", "database", "otherPrograms", "openFiles"] {
                #expect(found[check] == "green", "\(check)")
            }
            #expect(found["node"] != nil && found["fileSystem"] != nil && found["space"] != nil)
        }
        let none = try await peyvand("doctor", "--data", office.headOffice + "/nowhere")
        #expect(none.code == 2 && none.output.contains("There is no node in"))
    }

    @Test("What everybody may read, and another program that writes, are found and named")
    func mended() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let path = Replica.path(in: hq)
        #expect(chmod(path, 0o644) == 0)
        let open = try await peyvand(at: hq, "doctor")
        #expect(open.code == 2 && open.output.contains("may use replica.db") && open.output.contains("chmod"))
        #expect(chmod(path, 0o640) == 0)

        // This process has it open for writing, as a program of the customer's would.
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        let shared = try await peyvand(at: hq, "doctor --json").json
        #expect(
            checks(shared)["otherPrograms"]
                == (FileCheck.isSafeWithTwoWriters(sqliteVersion: FileCheck.sqliteVersion) ? "yellow" : "red")
        )
        let sentences = (shared["checks"] as? [[String: Any]] ?? []).compactMap { $0["sentence"] as? String }
        #expect(sentences.contains { $0.contains("process \(getpid())") })
        try file.close()
        let alone = try await peyvand(at: hq, "doctor --json").json
        #expect(checks(alone)["otherPrograms"] == "green")
        let persian = try await peyvand(at: hq, "doctor --lang fa")
        #expect(persian.output.contains("پایگاه داده"))
    }

    @Test("A damaged page is found")
    func damagedPage() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        _ = try await peyvand("write", "--jsonl", "-", "--data", hq, input: customers(500, "x"))
        try office.process.send(SIGTERM)
        _ = try await office.process.end()
        let file = try #require(FileHandle(forUpdatingAtPath: Replica.path(in: hq)))
        let size = try file.seekToEnd()
        for page in stride(from: 40 * 4096, to: size - 4096, by: 5 * 4096) {
            try file.seek(toOffset: page)
            try file.write(contentsOf: Data(repeating: 0xA5, count: 512))
        }
        try file.close()
        let found = try await peyvand(at: hq, "doctor --json")
        #expect(found.code == 2)
        #expect(try checks(found.json)["database"] != "green")
    }

    @Test(
        "Memory and file servers are no place for a node",
        arguments: [
            ("/var/lib/peyvand", "green"), ("/mnt/office/node", "red"), ("/run/node", "red"), ("/runner", "green"),
        ]
    )
    func places(path: String, state: String) {
        let mounts = """
            21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
            22 21 0:5 / /run rw,nosuid shared:2 - tmpfs tmpfs rw
            23 21 0:6 / /mnt/office rw - nfs4 server:/office rw
            """
        #expect(Examination.fileSystem(Examination.type(of: path, mounts: mounts)).state?.rawValue == state)
    }

    @Test(
        "Space is judged by what is free, and by what an upgrade needs",
        arguments: [(63, 1, "red"), (64, 1, "yellow"), (1023, 1, "yellow"), (1024, 1, "green"), (4000, 4001, "yellow")]
    )
    func space(freeMiB: UInt64, sizeMiB: UInt64, state: String) {
        #expect(Examination.space(free: freeMiB << 20, databaseSize: sizeMiB << 20).state?.rawValue == state)
    }

    @Test(
        "Versions of SQLite that keep pages with two writers",
        arguments: [
            ("3.40.1", false), ("3.44.5", false), ("3.44.6", true), ("3.45.0", false), ("3.50.6", false),
            ("3.50.7", true),
            ("3.51.2", false), ("3.51.3", true), ("3.52.0", true), ("", false),
        ]
    )
    func versions(version: String, isSafe: Bool) {
        #expect(FileCheck.isSafeWithTwoWriters(sqliteVersion: version) == isSafe)
    }

    @Test("A clock that nothing keeps right is a warning")
    func clock() throws {
        let home = TemporaryDirectory()
        let node = try emptyNode(in: home)
        func state() -> HealthState? {
            Examination(directory: node, system: home.path + "/").findings().first { $0.check == .clock }?.state
        }
        #expect(state() == .yellow)
        try FileManager.default.createDirectory(atPath: home.path + "/run/chrony", withIntermediateDirectories: true)
        try "7\n".write(toFile: home.path + "/run/chrony/chronyd.pid", atomically: true, encoding: .utf8)
        #expect(state() == .green)
    }

    private func emptyNode(in home: TemporaryDirectory) throws -> String {
        let node = home.path + "/node"
        let made = LocalNode.newHeadOffice("hq") { (0..<$0).map { _ in 7 } }
        try Replica.create(node, node: made) { 1_790_000_000_000 }.close()
        return node
    }

    @Test("A disk is encrypted when all that it lies on is")
    func encryption() throws {
        let home = TemporaryDirectory()
        let node = try emptyNode(in: home)
        var information = stat()
        #expect(stat(node, &information) == 0)
        let number = Examination.number(ofDevice: UInt64(information.st_dev))
        func state() -> HealthState? {
            Examination(directory: node, system: home.path + "/").findings().first { $0.check == .encryption }?.state
        }
        #expect(state() == nil)
        let device = home.path + "/sys/dev/block/" + number
        try FileManager.default.createDirectory(atPath: device + "/slaves/dm-1/dm", withIntermediateDirectories: true)
        #expect(state() == .yellow)
        try "CRYPT-LUKS2-0123\n".write(toFile: device + "/slaves/dm-1/dm/uuid", atomically: true, encoding: .utf8)
        #expect(state() == .green)
        try FileManager.default.createDirectory(atPath: device + "/slaves/sdb", withIntermediateDirectories: true)
        #expect(state() == .yellow)
    }
}
