import Foundation
import TestKit
import Testing

@Suite("First load, files and retired nodes with the real program", .serialized, .timeLimit(.minutes(15)))
struct RetentionProcessTests {
    @Test("A branch without a line joins, loads a file, works, and is retired in the end")
    func fileAndRetirement() async throws {
        let office = try await ProcessOffice.open()
        for name in ["مریم", "زهرا"] { try await addCustomer(office.headOffice, name) }
        let branch = office.home.path + "/far"
        let invitation = try await office.invitation("far")
        try await done(at: branch, "init --role branch --join \(invitation) --without-load")
        #expect(try await dump(branch).isEmpty)

        let file = office.home.path + "/rows"
        let usage = try await peyvand("bundle", "write", file, "--data", office.headOffice)
        #expect(usage.code == 64)
        let written = try await peyvand("bundle", "write", file, "--snapshot", "--data", office.headOffice, "--json")
        #expect(written.code == 0, "\(written.message)")
        #expect(try written.json["rows"] as? Int ?? 0 >= 4)
        let refused = try await peyvand("bundle", "read", file, "--data", office.headOffice)
        #expect(refused.code == 2)
        let cut = office.home.path + "/cut"
        try Data(contentsOf: URL(fileURLWithPath: file)).dropLast(9).write(to: URL(fileURLWithPath: cut))
        let damaged = try await peyvand("bundle", "read", cut, "--data", branch)
        #expect(damaged.code == 1 && damaged.message.contains("copy it again"), "\(damaged.message)")

        let read = try await peyvand("bundle", "read", file, "--data", branch)
        #expect(read.code == 0, "\(read.message)")
        #expect(try await dump(branch) == dump(office.headOffice))
        try await addCustomer(branch, "علی")
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))

        let status = try await peyvand("status", "--data", branch, "--json")
        #expect(status.code == 0, "\(status.output)")
        #expect(try (status.json["lease"] as? [String: Any])?["expires"] is String)
        let shown = try await peyvand("node", "show", "far", "--data", office.headOffice, "--json")
        let node = try shown.json
        #expect(node["name"] as? String == "far" && node["lease"] is [String: Any])
        #expect(try await peyvand("node", "retire", "nobody", "--data", office.headOffice).code == 2)
        #expect(try await peyvand("node", "retire", "far", "--data", office.headOffice).code == 0)
        let sync = try await peyvand("sync", "--data", branch, "--json")
        #expect(sync.code == 2 && sync.output.contains("retired"), "\(sync.output)")
        let fleet = try await peyvand("fleet", "--data", office.headOffice, "--json")
        #expect(try (fleet.json["nodes"] as? [Any])?.isEmpty == true)
    }
}
