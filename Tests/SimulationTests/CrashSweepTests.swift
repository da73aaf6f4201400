import CRM
import GRDB
import Testing

@testable import ReplicaStore
@testable import SimulationKit

/// That the sweep finds what it is for; `peyvand-sim crash` runs it over everything.
@Suite("Power cuts and disk errors at every operation", .serialized)
struct CrashSweepTests {
    private var options: CrashSweep.Options {
        var options = CrashSweep.Options()
        (options.ways, options.failuresMax, options.problemsMax) = (4, 1, 1)
        return options
    }

    @Test("Nothing acknowledged is lost and nothing is torn when the power goes or a disk fails")
    func honest() throws {
        let sweep = try CrashSweep(.otherProgram, options)
        var outcome = try sweep.cutPower()
        #expect(outcome.places > 50)
        #expect(outcome.cuts > outcome.places)
        #expect(outcome.states > 3)
        for failing in DiskFailing.all.prefix(2) { outcome += try sweep.fail(failing) }
        #expect(outcome.failures == 2)
        #expect(outcome.problems.isEmpty, "\(outcome.problems.map(\.text).joined(separator: "\n"))")
    }

    @Test("A disk that only says it has synced is found to lose what was acknowledged")
    func lyingDisk() throws {
        var options = options
        // Such a disk may do worse first: what was in flight to the file itself is garbled.
        options.problemsMax = .max
        let outcome = try CrashSweep(.writes, options).cutPower(whileLying: true)
        #expect(outcome.problems.contains { $0.text.contains("was promised, and is not there") })
    }

    @Test("A write that failed where the file could not be read either leaves no gap before the next one")
    func failedWriteThatCannotBeReadBack() throws {
        let stage = try Stage()
        try stage.makeBoth()
        try stage.branch.close()
        let beginning = stage.mark()
        var refused = 0
        for place in 1... {
            stage.goBack(to: beginning)
            try stage.branch.open()
            stage.branch.disk.fail(.reads, at: place, with: .inputOutput, forEver: true)
            do { try stage.add("نوشته نشد", at: stage.branch) } catch { refused += 1 }
            let failures = stage.branch.disk.failures
            stage.branch.disk.mend()
            try stage.add("پس از خطا", at: stage.branch)
            try #require(stage.problems(of: stage.branch) == [], "the \(place)th read")
            if failures == 0 { break }
        }
        #expect(refused > 0)
    }

    @Test("`verify --deep` tells what it has found when the disk is too full to keep it")
    func verifyOnFullDisk() throws {
        let stage = try Stage()
        try stage.makeBoth()
        stage.branch.disk.fail(.writes, at: 1, with: .full, forEver: true)
        let tables = try stage.branch.replica.verifyDeep { _, _ in }
        #expect(stage.branch.disk.failures > 0)
        #expect(tables.count == Schema.current.tables.count && tables.allSatisfy(\.isRight))
    }

    @Test("What was promised and never written is reported, with the place that shows it again")
    func brokenPromise() throws {
        let script = CrashScript(name: "a promise is broken") { stage in
            try stage.add("نوشته", at: stage.branch)
            stage.promise("نانوشته")
            try stage.edit(stage.ids[0], note: "ویرایش", at: stage.branch)
        }
        let problem = try #require(try CrashSweep(script, options).cutPower().problems.first)
        #expect(problem.text.contains("نانوشته is 0 times"))
        var again = options
        again.place = problem.place
        #expect(try CrashSweep(script, again).cutPower().problems.map(\.text).contains(problem.text))
    }

    @Test("A transaction of which a part is there is reported")
    func tornTransaction() throws {
        let script = CrashScript(
            name: "two writes that should be one",
            play: { stage in
                try stage.add("نخست", at: stage.branch)
                try stage.add("دوم", at: stage.branch)
            },
            recover: { stage in
                let count = try stage.branch.replica.read { reader in
                    try Int.fetchOne(reader.db, sql: "SELECT count(*) FROM customer")
                }
                return count == 6 || count == 8 ? [] : ["half of it is there"]
            }
        )
        let outcome = try CrashSweep(script, options).cutPower()
        #expect(outcome.problems.contains { $0.text.contains("half of it is there") })
    }
}
