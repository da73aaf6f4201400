import Foundation
import TestKit
import Testing

/// Debug builds let SQLite run out of memory at a chosen piece of it.
@Suite("Commands that run out of memory", .timeLimit(.minutes(15)))
struct MemoryProcessTests {
    @Test(
        "A command to which memory is refused ends, loses nothing that it has told, and can be given again",
        arguments: ["", ":"]
    )
    func refused(_ forEver: String) async throws {
        let office = try await ProcessOffice.open()
        let (hq, branch) = (office.headOffice, try await office.branch("isfahan"))
        try await synchronise(branch)
        var told: Set<String> = []
        var (refusals, given) = (0, 0)
        for line in ["customer add --name Maryam --json", "sync", "verify --deep"] {
            // Each piece at the beginning, and then some of thousands, until the command needs no more.
            var number = 1
            while true {
                let environment = ["PEYVAND_ALLOCATION": "\(number)\(forEver)"]
                let outcome = try await peyvand(at: branch, line, environment: environment)
                given += 1
                if let id = try? outcome.json["id"] as? String { told.insert(id) }
                if outcome.code == 0, number > 40_000 { break }
                if outcome.code != 0 {
                    refusals += 1
                    #expect(!outcome.message.isEmpty, "\(line) ends without a word at piece \(number)")
                }
                number += max(1, number * 2 / 3)
            }
            #expect(try await peyvand(at: branch, line).code == 0)
        }
        #expect(refusals > given / 4, "Memory was refused \(refusals) of \(given) times.")
        #expect(try await peyvand(at: branch, "verify --deep").code == 0)
        try await synchronise(branch)
        let rows = try await dump(hq)
        #expect(try await dump(branch) == rows)
        for id in told { #expect(rows.contains("\"id\":\"\(id)\"")) }
    }
}
