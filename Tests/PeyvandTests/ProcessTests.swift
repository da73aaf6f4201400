import Foundation
import Synchronization
import TestKit
import Testing

/// How many rounds the tests play that end processes at random moments: `PEYVAND_TEST_ROUNDS`, else a few.
private func rounds(_ usual: Int) -> Int {
    ProcessInfo.processInfo.environment["PEYVAND_TEST_ROUNDS"].flatMap { Int($0) } ?? usual
}

/// Lines of `write`: transactions of three customers each, told apart by their notes `ROUND/TRANSACTION/ROW`.
private func transactions(_ count: Int, round: Int, of node: String) -> String {
    var text = ""
    for number in 0..<count {
        text += "{\"op\":\"begin\"}\n"
        for row in 0..<3 {
            text += "{\"op\":\"put\",\"table\":\"customer\",\"set\":{\"name\":\"مشتری \(number)\","
            text += "\"note\":\"\(node)/\(round)/\(number)/\(row)\"}}\n"
        }
        text += "{\"op\":\"commit\"}\n"
    }
    return text
}

/// Lines of `write`: so many customers, each a transaction by itself.
private func customers(_ count: Int, _ name: String) -> String {
    (0..<count).map { "{\"op\":\"put\",\"table\":\"customer\",\"set\":{\"name\":\"\(name) \($0)\"}}\n" }.joined()
}

// MARK: - A day

@Suite("A day with the program", .serialized, .timeLimit(.minutes(5)))
struct DayTests {
    @Test("From the first command to the customer's page at head office, a day goes as the manual says")
    func day() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        let made = try await peyvand(
            "customer", "add", "--data", branch, "--name", "مریم رضایی", "--mobile", "09121234567", "--city", "اصفهان")
        #expect(made.code == 0 && made.output == "Made customer 2-1.\n" && made.message.isEmpty)
        let called = try await peyvand(
            "activity", "add", "2-1", "--data", branch, "--kind", "call", "--subject", "پیگیری ثبت‌نام", "--json")
        #expect(try called.code == 0 && called.json["id"] as? String == "2-1")

        let before = try await peyvand("status", "--data", branch, "--json")
        #expect(before.code == 1)
        #expect(try before.json["state"] as? String == "yellow")
        let synchronised = try await peyvand("sync", "--data", branch, "--json")
        #expect(synchronised.code == 0)
        #expect(try synchronised.json["result"] as? String == "ok")
        let status = try await peyvand("status", "--data", branch)
        #expect(status.code == 0 && status.output.hasPrefix("green\n"))
        let fleet = try await peyvand("fleet", "--data", office.headOffice)
        #expect(fleet.code == 0 && fleet.output.contains("isfahan"))

        let page = try await peyvand("customer", "show", "09121234567", "--data", office.headOffice, "--json")
        #expect(page.code == 0)
        let customer = try page.json
        #expect(customer["id"] as? String == "2-1")
        #expect(customer["name"] as? String == "مریم رضایی")
        #expect((customer["fields"] as? [String: Any])?["city"] as? String == "اصفهان")
        #expect((customer["timeline"] as? [[String: Any]])?.first?["summary"] as? String == "پیگیری ثبت‌نام")
        #expect(try await dump(branch) == dump(office.headOffice))
    }

    @Test("Every JSON document has the keys that scripts rely on")
    func keys() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        try await addCustomer(branch, "مریم رضایی")
        func document(_ words: String..., at directory: String) async throws -> [String: Any] {
            let outcome = try await run(PeyvandProcess.binary, words + ["--data", directory, "--json"])
            #expect(outcome.message.isEmpty)
            let json = try outcome.json
            #expect(json["schema"] as? Int == 1)
            return json
        }
        func expect(_ keys: String, in value: Any?) throws {
            let object = try #require(value as? [String: Any])
            let missing = Set(keys.split(separator: " ").map(String.init)).subtracting(object.keys)
            #expect(missing.isEmpty)
        }
        let synchronised = try await document("sync", at: branch)
        try expect("result sent received conflicts parked milliseconds reason", in: synchronised)
        try expect("changeSets rows bytes", in: synchronised["sent"])
        try expect("changeSets rows bytes", in: synchronised["received"])
        for directory in [branch, office.headOffice] {
            let status = try await document("status", at: directory)
            try expect(
                "node software state reasons hub position ahead behind skewMilliseconds parked conflicts duplicates "
                    + "lease vector stable tables disk bytesToday",
                in: status
            )
            try expect("id name role origin", in: status["node"])
            try expect("changeSets rows", in: status["ahead"])
            try expect("position", in: status["stable"])
            try expect("databaseBytes walBytes freeBytes", in: status["disk"])
            try expect("sent received", in: status["bytesToday"])
            try expect("origin node seq", in: (status["vector"] as? [Any])?.first)
            try expect("name rows digest", in: (status["tables"] as? [Any])?.first)
            if directory == branch {
                try expect("name address connected lastContact", in: status["hub"])
                try expect("changeSets", in: status["behind"])
            } else {
                #expect(status["hub"] is NSNull && status["behind"] is NSNull)
            }
        }
        let fleet = try await document("fleet", at: office.headOffice)
        try expect(
            "id name origin role state reasons connected lastContact ahead behind skewMilliseconds parked conflicts "
                + "software lease",
            in: (fleet["nodes"] as? [Any])?.first
        )
        try expect(
            "id golden members name fields timeline duplicates conflicts",
            in: try await document("customer", "show", "2-1", at: branch)
        )
        try expect("id name", in: (try await document("customer", "list", at: branch)["customers"] as? [Any])?.first)
        try expect("id", in: try await document("customer", "add", "--name", "x", at: branch))
        try expect("id invitation", in: try await document("enroll", "shiraz", at: office.headOffice))
    }

    @Test("What is written at one running office is seen at the others about a second later")
    func live() async throws {
        let office = try await ProcessOffice.open()
        let isfahan = try await office.branch("isfahan")
        let shiraz = try await office.branch("shiraz")
        let nodes = try await [startBranch(isfahan), startBranch(shiraz)]
        let connected = try await becomesTrue {
            let fleet = try await peyvand("fleet", "--data", office.headOffice, "--json").json
            return (fleet["nodes"] as? [[String: Any]])?.allSatisfy { $0["connected"] as? Bool == true } == true
        }
        #expect(connected)
        for (writer, readers) in [
            (isfahan, [office.headOffice, shiraz]), (office.headOffice, [isfahan, shiraz]),
            (shiraz, [office.headOffice, isfahan]),
        ] {
            let id = try await addCustomer(writer, "از \(writer)")
            let start = ContinuousClock.now
            for reader in readers {
                let isSeen = try await becomesTrue {
                    try await peyvand("customer", "show", id, "--data", reader).code == 0
                }
                #expect(isSeen)
            }
            print("\(id) was seen by both others after \(ContinuousClock.now - start)")
        }
        for node in nodes {
            node.send(SIGTERM)
            #expect(await node.end().code == 0)
            #expect(node.messages.contains("has stopped."))
        }
        try office.process.send(SIGTERM)
        #expect(try await office.process.end().code == 0)
        #expect(try await dump(isfahan) == dump(shiraz))
    }

    @Test("Persian tables have Persian words, digits and Jalali days")
    func persian() async throws {
        let home = TemporaryDirectory()
        let hq = home.path + "/hq"
        _ = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "تهران")
        let made = try await peyvand(
            "customer", "add", "--data", hq, "--name", "سارا", "--birth-day", "1361/02/03", "--lang", "fa")
        #expect(made.code == 0 && made.output.contains("ساخته شد"))
        let list = try await peyvand("customer", "list", "--data", hq, "--lang", "fa")
        #expect(list.output.contains("۱-۱") && list.output.contains("شناسه"))
        #expect(list.output.firstMatch(of: #/[0-9]/#) == nil)
        let id = "1-1"
        let page = try await peyvand("customer", "show", id, "--data", hq, "--lang", "fa")
        #expect(page.output.contains("۱۳۶۱/۰۲/۰۳") && page.output.contains("تاریخ تولد") && page.output.contains("۱۴"))
        let english = try await peyvand("customer", "show", id, "--data", hq, environment: ["LANG": "en_US.UTF-8"])
        #expect(english.output.contains("1982-04-23"))
        let status = try await peyvand("status", "--data", hq, environment: ["LANG": "fa_IR.UTF-8"])
        #expect(status.output.hasPrefix("سبز"))
        // JSON never changes with the language.
        let json = try await peyvand("customer", "show", id, "--data", hq, "--lang", "fa", "--json")
        #expect((try json.json["fields"] as? [String: Any])?["birthDay"] as? String == "1982-04-23")
    }

    @Test("An edit made after seeing another wins, even two hours behind the true time")
    func slowClock() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        let late = ["PEYVAND_CLOCK_OFFSET": "-7200"]
        let id = try await addCustomer(office.headOffice, "x")
        try await synchronise(branch)
        let edited = try await peyvand(
            "customer", "edit", id, "--set", "city=شیراز", "--data", branch, environment: late)
        #expect(edited.code == 0)
        _ = try await peyvand("sync", "--data", branch, environment: late)
        let page = try await peyvand("customer", "show", id, "--data", office.headOffice, "--json").json
        #expect((page["fields"] as? [String: Any])?["city"] as? String == "شیراز")
        #expect(try await dump(branch) == dump(office.headOffice))
    }

    @Test("Twenty commands at once on one directory all succeed, whether the node runs or not")
    func crowd() async throws {
        let home = TemporaryDirectory()
        let hq = home.path + "/hq"
        _ = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "tehran-hq")
        func addTwenty() async throws -> Set<String> {
            try await withThrowingTaskGroup(of: String.self) { group in
                for number in 0..<20 { group.addTask { try await addCustomer(hq, "n \(number)") } }
                return try await group.reduce(into: []) { $0.insert($1) }
            }
        }
        #expect(try await addTwenty().count == 20)
        let node = try PeyvandProcess(["run", "--data", hq, "--listen", "127.0.0.1:0"])
        #expect(await becomesTrue { node.messages.contains("listens on") })
        #expect(try await addTwenty().count == 20)
        #expect(try await dump(hq).split(separator: "\n").count == 41)
    }
}

// MARK: - Killed

@Suite("Killed at any moment", .serialized, .timeLimit(.minutes(30)))
struct KilledProcessTests {
    private struct Reply: Decodable {
        let id: String
        let position: UInt64
    }

    @Test("What `write` has replied is there after a kill, and every other transaction is whole or absent")
    func write() async throws {
        var random = SeededRandom(seed: testSeed("KilledProcessTests.write"))
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        var replied: Set<String> = []
        for round in 0..<rounds(10) {
            // `write` has the replica itself, or asks a node that is killed in its place.
            let node = random.oneIn(2) ? try await startBranch(branch) : nil
            let writer = try PeyvandProcess(["write", "--jsonl", "-", "--data", branch], feedsInput: true)
            let input = transactions(400, round: round, of: "b")
            async let feeding: Void = withCheckedContinuation { done in
                DispatchQueue.global().async {
                    for line in input.split(separator: "\n") where !writer.write(line + "\n") { break }
                    writer.finishInput()
                    done.resume()
                }
            }
            let outputBytes = random.below(60_000)
            _ = await becomesTrue { writer.outputByteCount >= outputBytes || writer.hasEnded }
            (node ?? writer).killAtOnce()
            let end = await writer.end()
            await feeding
            if node != nil { #expect(end.code == 0 || end.code == 1, "\(writer.messages)") }
            #expect(!writer.messages.contains("unexpected"), "\(writer.messages)")

            let status = try await peyvand("status", "--data", branch, "--json").json
            let logEnd = try #require(status["position"] as? UInt64)
            // The last line may be cut.
            for line in writer.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
                let reply = try JSONDecoder().decode(Reply.self, from: Data(line.utf8))
                #expect(reply.position <= logEnd)
                replied.insert(reply.id)
            }
            try await expectWholeTransactions(in: branch, having: replied)
            #expect(try await peyvand("verify", "--data", branch).code == 0)
        }
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        print("\(replied.count) replies were found again")
    }

    private func expectWholeTransactions(in directory: String, having replied: Set<String>) async throws {
        var ids: Set<String> = []
        var rowsOf: [Substring: Int] = [:]
        for line in try await dump(directory).split(separator: "\n") where line.contains("\"table\":\"customer\"") {
            if let id = line.firstMatch(of: #/"id":"([0-9-]+)"/#) { ids.insert(String(id.1)) }
            if let note = line.firstMatch(of: #/"note":"(b\/\d+\/\d+)\/\d"/#) { rowsOf[note.1, default: 0] += 1 }
        }
        #expect(replied.isSubset(of: ids))
        #expect(rowsOf.values.allSatisfy { $0 == 3 })
    }

    @Test("A file that is imported again after a kill is there exactly once")
    func importing() async throws {
        var random = SeededRandom(seed: testSeed("KilledProcessTests.importing"))
        let home = TemporaryDirectory()
        let hq = home.path + "/hq"
        _ = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "tehran-hq")
        let count = 9000
        for round in 0..<rounds(3) {
            let file = home.path + "/\(round).csv"
            let rows = (0..<count).map { "r\(round)-\($0),مشتری \($0)\n" }.joined()
            try ("externalKey,name\n" + rows).write(toFile: file, atomically: false, encoding: .utf8)
            var node: PeyvandProcess?
            if random.oneIn(2) {
                let started = try PeyvandProcess(["run", "--data", hq, "--listen", "127.0.0.1:0"])
                #expect(await becomesTrue { started.messages.contains("listens on") })
                node = started
            }
            let before = fileBytes(hq)
            let importing = try PeyvandProcess(["import", file, "--as", "customers", "--data", hq])
            let bytes = random.below(2_500_000)
            _ = await becomesTrue { fileBytes(hq) >= before + bytes || importing.hasEnded }
            (node ?? importing).killAtOnce()
            _ = await importing.end()
            #expect(!importing.messages.contains("unexpected"), "\(importing.messages)")

            let again = try await peyvand("import", file, "--as", "customers", "--data", hq, "--json")
            #expect(again.code == 0, "\(again.message)")
            let summary = try again.json
            let created = try #require(summary["created"] as? Int)
            let skipped = try #require(summary["skipped"] as? Int)
            #expect(created + skipped == count)
            let lines = try await dump(hq).split(separator: "\n").filter { $0.contains("\"externalKey\":\"r\(round)-") }
            #expect(lines.count == count)
            #expect(try await peyvand("verify", "--data", hq).code == 0)
        }
    }

    /// The bytes of the replica and its write-ahead log.
    private func fileBytes(_ directory: String) -> Int {
        ["/replica.db", "/replica.db-wal"].reduce(0) { total, name in
            var status = stat()
            return total + (stat(directory + name, &status) == 0 ? Int(status.st_size) : 0)
        }
    }

    @Test("Branch and head office agree after either was killed in the middle of their session")
    func sync() async throws {
        var random = SeededRandom(seed: testSeed("KilledProcessTests.sync"))
        let office = try await ProcessOffice.open()
        let line = try BadLine { office.port }
        let branch = try await office.branch("isfahan", port: line.port)
        var interrupted = 0
        for round in 0..<rounds(8) {
            for directory in [branch, office.headOffice] {
                let node = directory == branch ? "b" : "h"
                let written = try await peyvand(
                    "write", "--jsonl", "-", "--data", directory,
                    input: transactions(60, round: round, of: node) + customers(200, "\(node) \(round)"))
                #expect(written.code == 0, "\(written.message)")
            }
            let killsHub = random.oneIn(2)
            let hub = try office.process
            let victim = Mutex<PeyvandProcess?>(killsHub ? hub : nil)
            line.set(.event(afterBytes: 1 + random.below(12_000)) { victim.withLock { $0 }?.killAtOnce() })
            let session = try PeyvandProcess(["sync", "--data", branch])
            if !killsHub { victim.withLock { $0 = session } }
            let end = await session.end()
            line.set(.none)
            if end.code != 0 { interrupted += 1 }
            if killsHub {
                #expect(end.code != 1 || session.output.contains("Not synchronised."))
                if hub.hasEnded { try await office.start() }
            }
            for directory in [branch, office.headOffice] {
                #expect(try await peyvand("verify", "--data", directory).code == 0)
            }
            // Sometimes the rest waits for the next round.
            if random.oneIn(2) { try await synchronise(branch) }
        }
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        print("\(interrupted) sessions were interrupted")
    }

    @Test("A branch that was killed while it joined finishes with the same line")
    func joining() async throws {
        let office = try await ProcessOffice.open()
        let file = try office.file("many.jsonl", customers(1500, "n"))
        #expect(try await peyvand("write", "--jsonl", file, "--data", office.headOffice).code == 0)
        let line = try BadLine { office.port }
        let directory = office.home.path + "/isfahan"
        let invitation = try await office.invitation("isfahan", port: line.port)
        for bytes in [20, 150, 250, 400, 4000] {
            let joining = Mutex<PeyvandProcess?>(nil)
            line.set(.event(afterBytes: bytes) { joining.withLock { $0 }?.killAtOnce() })
            let process = try PeyvandProcess(["init", "--data", directory, "--role", "branch", "--join", invitation])
            joining.withLock { $0 = process }
            _ = await process.end()
        }
        line.set(.none)
        let joined = try await peyvand("init", "--data", directory, "--role", "branch", "--join", invitation)
        #expect(joined.code == 0 || joined.message.contains("holds a node already"), "\(joined.message)")
        try await synchronise(directory)
        #expect(try await dump(directory) == dump(office.headOffice))
        let nodes = try await peyvand("node", "list", "--data", office.headOffice, "--json").json
        #expect((nodes["nodes"] as? [Any])?.count == 1)
    }

    @Test("Told to stop during an import, it stops between two transactions and says how far it came")
    func stoppedImport() async throws {
        let home = TemporaryDirectory()
        let hq = home.path + "/hq"
        _ = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "tehran-hq")
        let file = home.path + "/many.csv"
        let rows = (0..<40_000).map { "k\($0),n \($0)\n" }.joined()
        try ("externalKey,name\n" + rows).write(toFile: file, atomically: false, encoding: .utf8)
        let before = fileBytes(hq)
        let importing = try PeyvandProcess(["import", file, "--as", "customers", "--data", hq])
        #expect(await becomesTrue { fileBytes(hq) > before + 200_000 })
        importing.send(SIGTERM)
        #expect(await importing.end().code == 1)
        let count = try #require(importing.messages.firstMatch(of: #/Stopped\. (\d+) rows were done/#)?.1)
        let lines = try await dump(hq).split(separator: "\n").filter { $0.contains("externalKey") }
        #expect(Int(count) == lines.count && lines.count % 1000 == 0 && lines.count < 40_000)
    }
}

// MARK: - Bad lines

@Suite("A bad line", .serialized, .timeLimit(.minutes(10)))
struct BadLineTests {
    @Test("However often and wherever the line is cut, the work arrives in the end, once")
    func cuts() async throws {
        var random = SeededRandom(seed: testSeed("BadLineTests.cuts"))
        let office = try await ProcessOffice.open()
        let line = try BadLine { office.port }
        let branch = try await office.branch("isfahan", port: line.port)
        var cut = 0
        for round in 0..<rounds(16) {
            if round % 3 == 0 {
                for directory in [branch, office.headOffice] {
                    let input = customers(120, "\(round)")
                    _ = try await peyvand("write", "--jsonl", "-", "--data", directory, input: input)
                }
            }
            // From the first byte of the greeting to the last of the farewell.
            let bytes = round < 4 ? [0, 1, 100, 300][round] : random.below(5000)
            line.set(.cut(afterBytes: bytes))
            let outcome = try await peyvand("sync", "--data", branch)
            #expect([0, 1].contains(outcome.code))
            if outcome.code == 1 {
                cut += 1
                #expect(outcome.output.hasPrefix("Not synchronised. ") && outcome.output.hasSuffix(".\n"))
            }
        }
        line.set(.none)
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        print("\(cut) sessions were cut")
    }

    @Test("Nonsense on the line changes nothing on either side, and head office goes on serving others")
    func nonsense() async throws {
        var random = SeededRandom(seed: testSeed("BadLineTests.nonsense"))
        let office = try await ProcessOffice.open()
        let line = try BadLine { office.port }
        let branch = try await office.branch("isfahan", port: line.port)
        let other = try await office.branch("shiraz")
        try await addCustomer(branch, "x")
        line.set(.none)
        try await synchronise(branch)
        let session = line.heardFromBranches
        try await addCustomer(branch, "y")
        let before = try await (dump(branch), dump(office.headOffice))

        let noise = (0..<3000).map { _ in UInt8(random.below(256)) }
        let samples: [[UInt8]] = [
            [], [0], Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), noise, [UInt8](repeating: 0xFF, count: 100_000),
            session,
        ]
        for sample in samples {
            line.set(.says(sample))
            let outcome = try await peyvand("sync", "--data", branch)
            #expect(outcome.code == 1 && outcome.output.hasPrefix("Not synchronised. "), "\(outcome.output)")
            #expect(outcome.message.isEmpty)
            // The same to head office; an old session once more among it.
            _ = BadLine.speak(sample, toPort: office.port)
        }
        #expect(try await dump(branch) == before.0)
        #expect(try await dump(office.headOffice) == before.1)
        try await synchronise(other)
        line.set(.none)
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        #expect(try !office.process.hasEnded)
    }

    @Test("A bit that turns on the line is noticed, and the next session finds both sides as they were")
    func flippedBits() async throws {
        var random = SeededRandom(seed: testSeed("BadLineTests.flippedBits"))
        let office = try await ProcessOffice.open()
        let line = try BadLine { office.port }
        let branch = try await office.branch("isfahan", port: line.port)
        for round in 0..<rounds(12) {
            for directory in [branch, office.headOffice] {
                _ = try await peyvand("write", "--jsonl", "-", "--data", directory, input: customers(3, "\(round)"))
            }
            line.set(.flip(atByte: random.below(450), towardsHub: random.oneIn(2)))
            let outcome = try await peyvand("sync", "--data", branch)
            #expect([0, 1, 2].contains(outcome.code), "\(outcome.message)")
            line.set(.none)
            try await synchronise(branch)
            #expect(try await dump(branch) == dump(office.headOffice))
        }
    }
}
