import Foundation
import TestKit
import Testing

@Suite("The real program with a clock that is wrong", .serialized, .timeLimit(.minutes(15)))
struct ClockProcessTests {
    @Test("A branch whose clock is decades ahead was told that its lease had ended, right after it had synchronised")
    func decadesAhead() async throws {
        let office = try await ProcessOffice.open()
        let clock = ["PEYVAND_CLOCK_OFFSET": "\(30 * 365 * 86_400)"]
        let branch = office.home.path + "/ahead"
        let invitation = try await office.invitation("ahead")
        try await done(at: branch, "init --role branch --join \(invitation)", environment: clock)
        let status = try await peyvand(at: branch, "status --json", environment: clock)
        #expect(try status.code == 1 && status.reasons == ["clockSkew"])
        // Set right, it is told the same until it calls again.
        #expect(try await peyvand(at: branch, "status --json").reasons == ["clockSkew"])
    }

    @Test("A branch a day ahead, or back, synchronises, loses to later edits, and shows how wrong it is")
    func wrongByADay() async throws {
        let office = try await ProcessOffice.open()
        let right = try await office.branch("right")
        let made = try await peyvand("customer", "add", "--name", "x", "--data", office.headOffice, "--json")
        let id = try #require(made.json["id"] as? String)
        for seconds in [86_400, -86_400] {
            let name = seconds > 0 ? "ahead" : "behind"
            let clock = ["PEYVAND_CLOCK_OFFSET": "\(seconds)"]
            let branch = office.home.path + "/" + name
            let invitation = try await office.invitation(name)
            let joined = try await peyvand(
                "init",
                "--data",
                branch,
                "--role",
                "branch",
                "--join",
                invitation,
                environment: clock
            )
            #expect(joined.code == 0, "\(joined.message)")
            try await synchronise(right)
            // As if the machine had been started again since the clock was measured.
            let forgotten = try await run(
                "sqlite3",
                [
                    branch + "/replica.db", ".dbconfig enable_trigger off",
                    "UPDATE localFact SET value = value + 1 WHERE name = 'measuredBoot'",
                ]
            )
            #expect(forgotten.code == 0)

            try await edit(id, "city=\(name)", branch, clock)
            try await edit(id, "note=\(name)", branch, clock)
            try await edit(id, "city=later", right)
            try await synchronise(right)
            try await synchronise(branch, clock)
            try await synchronise(right)
            for directory in [office.headOffice, right, branch] {
                let page = try await peyvand("customer", "show", id, "--data", directory, "--json").json
                let fields = page["fields"] as? [String: Any]
                #expect(fields?["city"] as? String == "later")
                #expect(fields?["note"] as? String == name)
            }
            // Who has seen a value and changes it wins.
            try await edit(id, "city=knowing", branch, clock)
            try await synchronise(branch, clock)
            try await synchronise(right)
            let dump = try await peyvand("dump", "--data", office.headOffice).output
            #expect(dump.contains("knowing"))
            #expect(try await peyvand("dump", "--data", right).output == dump)
            #expect(try await peyvand("dump", "--data", branch).output == dump)

            let status = try await peyvand("status", "--data", branch, "--json", environment: clock)
            #expect(status.code == 1)
            let skew = try #require(status.json["skewMilliseconds"] as? Int)
            #expect(abs(skew - seconds * 1000) < 2000)
            #expect(status.output.contains("clockSkew") && status.output.contains("24 hours"))
            let fleet = try await peyvand("fleet", "--data", office.headOffice, "--json")
            #expect(fleet.code == 1)
            let node = (try fleet.json["nodes"] as? [[String: Any]])?.first { $0["name"] as? String == name }
            let known = try #require(node?["skewMilliseconds"] as? Int)
            #expect(abs(known - seconds * 1000) < 2000)
        }
        #expect(try await peyvand("verify", "--data", office.headOffice).code == 0)
    }

    private func edit(
        _ id: String,
        _ value: String,
        _ directory: String,
        _ clock: [String: String] = [:]
    ) async throws {
        let done = try await peyvand("customer", "edit", id, "--set", value, "--data", directory, environment: clock)
        #expect(done.code == 0, "\(done.message)")
    }

    private func synchronise(_ directory: String, _ clock: [String: String] = [:]) async throws {
        let done = try await peyvand("sync", "--data", directory, environment: clock)
        #expect(done.code == 0, "\(done.message)\(done.output)")
    }
}
