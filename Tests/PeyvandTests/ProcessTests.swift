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

// MARK: - Receipts, and what a command says when it is stopped

@Suite("Receipts and signals of the program", .timeLimit(.minutes(15)))
struct ReceiptProcessTests {
    @Test("A machine may be replaced once head office has signed for everything, and not before")
    func receipt() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        try await addCustomer(branch, "مریم رضایی")
        let before = try await peyvand("receipt", "--data", branch)
        #expect(before.code == 1 && before.message.isEmpty)
        #expect(before.output.contains("1 change set with 1 row exists only here: do not replace this machine"))
        #expect(try await peyvand("sync", "--data", branch).code == 0)
        let after = try await peyvand("receipt", "--data", branch)
        #expect(after.code == 0)
        #expect(after.output.hasPrefix("Everything of isfahan up to change set 1 is durable at head office since "))
        #expect(after.output.contains("nothing exists only here"))
        let json = try await peyvand("receipt", "--data", branch, "--json").json
        #expect(json["schema"] as? Int == 1 && json["replaceable"] as? Bool == true && json["seq"] as? Int == 1)
        #expect((json["ahead"] as? [String: Int]) == ["changeSets": 0, "rows": 0, "unsealed": 0])
        let hub = try await peyvand("receipt", "isfahan", "--data", office.headOffice, "--json")
        #expect(try hub.code == 0 && hub.json["chain"] as? String == json["chain"] as? String)
        #expect(try await peyvand("receipt", "yazd", "--data", office.headOffice).code == 2)

        // Nothing new: hello, welcome, comparison, farewell.
        _ = try await peyvand("sync", "--data", branch)
        let idle = try await peyvand("sync", "--data", branch, "--json").json
        let sent = (idle["sent"] as? [String: Int])?["bytes"] ?? 999
        let received = (idle["received"] as? [String: Int])?["bytes"] ?? 999
        #expect(sent + received < 200)
    }

    @Test("write that is stopped says what stays")
    func stoppedWrite() async throws {
        let office = try await ProcessOffice.open()
        let process = try PeyvandProcess(["write", "--jsonl", "-", "--data", office.headOffice], feedsInput: true)
        process.write("{\"op\":\"put\",\"table\":\"customer\",\"set\":{\"name\":\"مریم\"}}\n")
        _ = await becomesTrue { !process.output.isEmpty || process.hasEnded }
        process.write("{\"op\":\"begin\"}\n")
        process.send(SIGINT)
        #expect(await process.end().code == 1)
        #expect(process.messages.contains("Stopped. Before that, 1 line in 1 transaction were committed and stay."))
    }
}

// MARK: - A day

@Suite("A day with the program", .serialized, .timeLimit(.minutes(15)))
struct DayTests {
    @Test("From the first command to the customer's page at head office, a day goes as the manual says")
    func day() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        let made = try await peyvand(
            "customer",
            "add",
            "--data",
            branch,
            "--name",
            "مریم رضایی",
            "--mobile",
            "09121234567",
            "--city",
            "اصفهان"
        )
        #expect(made.code == 0 && made.output == "Made customer 2-1.\n" && made.message.isEmpty)
        let called = try await peyvand(
            "activity",
            "add",
            "2-1",
            "--data",
            branch,
            "--kind",
            "call",
            "--subject",
            "پیگیری ثبت‌نام",
            "--json"
        )
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
            "customer",
            "add",
            "--data",
            hq,
            "--name",
            "سارا",
            "--birth-day",
            "1361/02/03",
            "--lang",
            "fa"
        )
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
            "customer",
            "edit",
            id,
            "--set",
            "city=شیراز",
            "--data",
            branch,
            environment: late
        )
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
        var rest = rounds(10)
        var replyCount = 0
        while rest > 0 {
            // Everything is read again in every round, so a long run begins anew now and then.
            replyCount += try await write(rounds: min(rest, 10), &random)
            rest -= 10
        }
        print("\(replyCount) replies were found again")
    }

    /// Plays so many rounds at one branch; how many replies there were.
    private func write(rounds: Int, _ random: inout SeededRandom) async throws -> Int {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        var replied: Set<String> = []
        for round in 0..<rounds {
            // `write` has the replica itself, or asks a node that is killed in its place.
            let node = random.oneIn(2) ? try await startBranch(branch) : nil
            let writer = try PeyvandProcess(["write", "--jsonl", "-", "--data", branch], feedsInput: true)
            let input = transactions(150, round: round, of: "b")
            async let feeding: Void = withCheckedContinuation { done in
                DispatchQueue.global().async {
                    for line in input.split(separator: "\n") where !writer.write(line + "\n") { break }
                    writer.finishInput()
                    done.resume()
                }
            }
            let outputBytes = random.below(21_000)
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
            #expect(try await peyvand("verify", "--deep", "--data", branch).code == 0)
        }
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        return replied.count
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
        let count = 5000
        for round in 0..<rounds(3) {
            let home = TemporaryDirectory()
            let hq = home.path + "/hq"
            _ = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "tehran-hq")
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
            let bytes = random.below(1_500_000)
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
            #expect(try await peyvand("verify", "--deep", "--data", hq).code == 0)
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
        for round in 0..<rounds(6) {
            for directory in [branch, office.headOffice] {
                let node = directory == branch ? "b" : "h"
                let written = try await peyvand(
                    "write",
                    "--jsonl",
                    "-",
                    "--data",
                    directory,
                    input: transactions(20, round: round, of: node) + customers(60, "\(node) \(round)")
                )
                #expect(written.code == 0, "\(written.message)")
            }
            let killsHub = random.oneIn(2)
            let hub = try office.process
            let victim = Mutex<PeyvandProcess?>(killsHub ? hub : nil)
            line.set(.event(afterBytes: 1 + random.below(5000)) { victim.withLock { $0 }?.killAtOnce() })
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
                #expect(try await peyvand("verify", "--deep", "--data", directory).code == 0)
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
        let file = try office.file("many.jsonl", customers(400, "n"))
        #expect(try await peyvand("write", "--jsonl", file, "--data", office.headOffice).code == 0)
        let line = try BadLine { office.port }
        let directory = office.home.path + "/isfahan"
        let invitation = try await office.invitation("isfahan", port: line.port)
        for bytes in [20, 150, 250, 400, 2000] {
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

@Suite("A bad line", .serialized, .timeLimit(.minutes(15)))
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
            // Whoever hangs up, or says nonsense, is found out at once, not when patience ends.
            #expect(!outcome.output.contains("Nobody greeted"))
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
                let input = customers(3, "\(round)")
                _ = try await peyvand("write", "--jsonl", "-", "--data", directory, input: input)
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

// MARK: - Other programs

@Suite("Other programs write", .serialized, .timeLimit(.minutes(15)))
struct OtherProgramTests {
    private func sqlite(_ directory: String, _ sql: String) async throws -> Outcome {
        try await run("sqlite3", ["-cmd", ".timeout 10000", directory + "/replica.db", sql])
    }

    @Test("A row that sqlite3 makes, changes and deletes goes everywhere, while the node runs and while it does not")
    func everywhere() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        for runs in [false, true] {
            let node = runs ? try await startBranch(branch) : nil
            func arrives(_ text: String, _ isThere: Bool = true) async throws -> Bool {
                try await becomesTrue {
                    if !runs { try await synchronise(branch) }
                    return try await dump(office.headOffice).contains(text) == isThere
                }
            }
            let name = runs ? "while it runs" : "while it does not"
            let insert = "INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), '\(name)')"
            #expect(try await sqlite(branch, insert).code == 0)
            #expect(try await arrives("\"name\":\"\(name)\""))
            #expect(try await sqlite(branch, "UPDATE customer SET city = 'شیراز' WHERE name = '\(name)'").code == 0)
            #expect(try await arrives("\"city\":\"شیراز\""))
            #expect(try await sqlite(branch, "DELETE FROM customer WHERE name = '\(name)'").code == 0)
            #expect(try await arrives(name, false))
            #expect(try await dump(branch) == dump(office.headOffice))
            node?.killAtOnce()
        }
    }

    @Test("What would break the rules is refused, with the rule")
    func refused() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        try await addCustomer(branch, "x")
        try await synchronise(branch)
        let before = try await dump(branch)
        let one = "WHERE name = 'x'"
        for (sql, sentence) in [
            ("INSERT INTO customer(name) VALUES ('y')", "give the new row an id of this node"),
            ("INSERT INTO customer(id, name) VALUES ((7 << 43) + 5, 'y')", "give the new row an id of this node"),
            ("UPDATE customer SET id = id + 1 \(one)", "the id of a row never changes"),
            ("UPDATE customer SET _time = _time + 1 \(one)", "its clock was written"),
            ("UPDATE customer SET _fields = x'00' \(one)", "its clock was written"),
            ("UPDATE branch SET name = 'y'", "only head office writes this table"),
            ("INSERT INTO branch(id, name) VALUES ((2 << 43) + 1, 'y')", "only head office writes this table"),
            ("DELETE FROM branch", "only head office writes this table"),
            ("UPDATE customer SET stageAt = 'now' \(one)", "these columns hold whole numbers"),
            ("UPDATE customer SET stageAt = 1.5 \(one)", "these columns hold whole numbers"),
            ("UPDATE customer SET name = x'00' \(one)", "these columns hold text"),
            ("UPDATE customer SET note = hex(zeroblob(40000)) \(one)", "these columns hold text of at most"),
        ] {
            let outcome = try await sqlite(branch, sql)
            #expect(outcome.code != 0 && outcome.message.contains(sentence), "\(sql): \(outcome.message)")
        }
        _ = try await sqlite(branch, "BEGIN; UPDATE customer SET name = 'y'; DELETE FROM customer; ROLLBACK")
        #expect(try await peyvand("status", "--data", branch).code == 0)
        #expect(try await dump(branch) == before)
    }

    @Test("Replacing, upserting and ignoring rows are taken for what they did")
    func conflictClauses() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        try await addCustomer(branch, "x")
        let id = "(SELECT id FROM customer)"
        for (sql, names) in [
            ("INSERT OR REPLACE INTO customer(id, name) VALUES (\(id), 'replaced')", "replaced"),
            ("REPLACE INTO customer(id, name) SELECT id, 'again' FROM customer", "again"),
            (
                "INSERT INTO customer(id, name) VALUES (\(id), 'upserted') "
                    + "ON CONFLICT(id) DO UPDATE SET name = excluded.name", "upserted"
            ),
            ("INSERT OR IGNORE INTO customer(id, name) VALUES (\(id), 'ignored')", "upserted"),
            ("BEGIN; DELETE FROM customer; ROLLBACK", "upserted"),
        ] {
            let outcome = try await sqlite(branch, sql)
            #expect(outcome.code == 0, "\(outcome.message)")
            try await synchronise(branch)
            #expect(try await dump(office.headOffice).contains("\"name\":\"\(names)\""))
            #expect(try await dump(branch) == dump(office.headOffice))
        }
        #expect(try await peyvand("verify", "--deep", "--data", branch).code == 0)
    }

    @Test("Text that is not UTF-8 did not make the offices differ")
    func notUTF8() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        let insert = "INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), CAST(x'41ff80fe' AS TEXT))"
        #expect(try await sqlite(branch, insert).code == 0)
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        #expect(try await dump(branch).contains("\"name\":\"A\u{FFFD}\u{FFFD}\u{FFFD}\""))
        // It is mended again when the same comes again, and when it has become too long.
        #expect(try await sqlite(branch, "UPDATE customer SET name = CAST(x'41ff80fe' AS TEXT)").code == 0)
        let long = "UPDATE customer SET note = CAST(replace(hex(zeroblob(32768)), '00', x'ffff') AS TEXT)"
        #expect(try await sqlite(branch, long).code == 0)
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        #expect(try await peyvand("status", "--data", branch).code == 0)
    }

    @Test("A transaction of another program that was too large for one change set blocked the node for good")
    func tooLargeForOneChangeSet() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        // 90 MB of text that hardly compresses to less than 45 MB.
        let insert = """
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
            INSERT INTO customer(id, note) SELECT (2 << 43) + i, hex(randomblob(30000)) FROM n
            """
        #expect(try await sqlite(branch, insert).code == 0)
        try await addCustomer(branch, "x")
        let status = try await peyvand("status", "--data", branch, "--json").json
        #expect((status["ahead"] as? [String: Any])?["rows"] as? Int == 1501)
        #expect(try await peyvand("verify", "--deep", "--data", branch).code == 0)
    }

    @Test("A command waits for another program's transaction to end")
    func heldLock() async throws {
        let home = TemporaryDirectory()
        let hq = home.path + "/hq"
        _ = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "tehran-hq")
        let other = try PeyvandProcess([hq + "/replica.db"], program: "sqlite3", feedsInput: true)
        other.write("BEGIN IMMEDIATE;\nSELECT 'begun';\n")
        #expect(await becomesTrue { other.output.contains("begun") })
        let adding = try PeyvandProcess(["customer", "add", "--name", "x", "--data", hq])
        other.write("SELECT count(*) FROM branch;\nCOMMIT;\n")
        other.finishInput()
        #expect(await adding.end().code == 0)
        #expect(await other.end().code == 0)
    }
}

// MARK: - Bad input

@Suite("Bad input", .serialized, .timeLimit(.minutes(15)))
struct BadInputTests {
    /// What a failed command must be like: its exit, one sentence to people that says what, and nothing of anybody.
    private func expect(
        _ outcome: Outcome,
        _ code: Int32,
        _ sentence: String,
        location: SourceLocation = #_sourceLocation
    ) {
        let text = outcome.message + (outcome.output.hasPrefix("Not synchronised") ? outcome.output : "")
        #expect(outcome.code == code, "\(text)", sourceLocation: location)
        #expect(text.contains(sentence), "\(text)", sourceLocation: location)
        #expect(!text.contains("SECRET"), "\(text)", sourceLocation: location)
        for trace in ["Fatal error", "unexpected", "Swift.", "NIO", " at /", "Stack dump", "Optional("] {
            #expect(!text.contains(trace), "\(text)", sourceLocation: location)
        }
    }

    private func headOffice() async throws -> (home: TemporaryDirectory, directory: String) {
        let home = TemporaryDirectory()
        let directory = home.path + "/hq"
        let made = try await peyvand("init", "--data", directory, "--role", "head-office", "--name", "tehran-hq")
        try #require(made.code == 0, "\(made.message)")
        return (home, directory)
    }

    @Test("A wrong command line ends with 64 and the right words")
    func usage() async throws {
        let (home, hq) = try await headOffice()
        for (words, sentence) in [
            (["frobnicate"], "There is no command"), (["customer", "frobnicate"], "There is no command"),
            (["customer", "add", "--frob", "x"], "Unknown option '--frob'"),
            (["customer", "add"], "Nothing was given for the new customer"),
            (["customer", "add", "--set", "frob=SECRET"], "customer has no field \"frob\""),
            (["customer", "add", "--set", "_time=5"], "customer has no field \"_time\""),
            (
                ["customer", "add", "--name", "x", "--set", "birthDay=1404/13/01"],
                "customer.birthDay: There is no such month"
            ),
            (["customer", "add", "--name", "x", "--set", "stage=SECRET"], "customer.stage: This is not one of"),
            (["customer", "show", "SECRET"], "This names no customer"), (["write"], "Missing expected argument"),
            (["import", "x.csv", "--as", "frogs"], "is invalid for '--as"),
            (["run", "--listen", "SECRET99"], "is not an address"), (["sync", "--timeout", "0"], "--timeout takes"),
            (["enroll", "a b"], "cannot name a node"), (["enroll", "a", "--ttl", "5"], "is not a duration"),
            (["enroll", "a", "--address", "127.0.0.1:0"], "no address that a branch can call"),
            (["init", "--role", "branch"], "needs --join"),
        ] {
            let data = words.contains("frobnicate") ? [] : ["--data", hq]
            let outcome = try await run(PeyvandProcess.binary, words + data)
            #expect(outcome.code == 64 && outcome.message.contains(sentence), "\(words): \(outcome.message)")
        }
        #expect(try await dump(hq).split(separator: "\n").count == 1)
        withExtendedLifetime(home) {}
    }

    @Test("What the state forbids ends with 2 and the right sentence")
    func state() async throws {
        let (home, hq) = try await headOffice()
        let empty = home.path + "/empty"
        try FileManager.default.createDirectory(atPath: empty, withIntermediateDirectories: false)
        for directory in [empty, home.path + "/missing"] {
            expect(try await peyvand("customer", "list", "--data", directory), 2, "There is no node in \(directory)")
            expect(try await peyvand("run", "--data", directory), 2, "There is no node in \(directory)")
            expect(try await peyvand("status", "--data", directory), 3, "There is no node in \(directory)")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: empty).isEmpty)
        #expect(!FileManager.default.fileExists(atPath: home.path + "/missing"))
        expect(try await peyvand("customer", "show", "1-99", "--data", hq), 2, "There is no customer 1-99 here")
        expect(try await peyvand("customer", "edit", "1-99", "--set", "city=x", "--data", hq), 2, "no customer 1-99")
        expect(
            try await peyvand("customer", "show", "09121234567", "--data", hq),
            2,
            "No customer here has this mobile"
        )
        expect(try await peyvand("sync", "--data", hq), 2, "This node is head office")
        let again = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "x")
        expect(again, 2, "holds a node already")
        let id = try await addCustomer(hq, "SECRET")
        #expect(try await peyvand("customer", "delete", id, "--data", hq).code == 0)
        expect(try await peyvand("customer", "edit", id, "--set", "city=x", "--data", hq), 2, "is deleted. Restore it")
    }

    @Test("A bad line of `write` is named with its number; what stands before it stays and is counted")
    func badLines() async throws {
        let (home, hq) = try await headOffice()
        let good = #"{"op":"put","table":"customer","set":{"name":"good"}}"# + "\n"
        var written = 0
        for (line, sentence) in [
            (#"{"op":"put","table":"customer","set":{"name":"SECRET"#, "It is not a JSON object."),
            ("SECRET", "It is not a JSON object."), ("[1]", "It is not a JSON object."),
            (#"{"op":"SECRET"}"#, "The op is unknown."), (#"{"op":"commit"}"#, "commit without a begin"),
            (#"{"op":"put","table":"customer","set":{"nam":"SECRET"}}"#, "customer has no field \"nam\""),
            (#"{"op":"put","table":"customer","set":{"name":["SECRET"]}}"#, "\"set.name\" is of the wrong kind"),
            (#"{"op":"put","table":"customer","set":{"stage":"SECRET"}}"#, "customer.stage: This is not one of"),
            (#"{"op":"put","table":"customer","id":"SECRET","set":{}}"#, "This is not the id of a customer"),
            (#"{"op":"put","table":"activity","set":{"kind":"call"}}"#, "needs the field \"customer\""),
            (String(repeating: "x", count: 9 << 20), "It is longer than 8388608 bytes"),
            (
                #"{"op":"put","table":"customer","set":{"note":""# + String(repeating: "x", count: 70_000) + #""}}"#,
                "was given 70000 bytes; at most 65536 fit"
            ),
        ] {
            let outcome = try await peyvand(
                "write",
                "--jsonl",
                "-",
                "--data",
                hq,
                input: good + good + line + "\n" + good
            )
            written += 2
            expect(outcome, 1, "Line 3: ")
            expect(outcome, 1, sentence)
            expect(outcome, 1, "which stay: 2, in 2 transactions.")
            #expect(outcome.lines.count == 2)
        }
        let open = try await peyvand("write", "--jsonl", "-", "--data", hq, input: good + "{\"op\":\"begin\"}\n" + good)
        expect(open, 1, "The transaction that begins in line 2 has no commit")
        #expect(try await peyvand("write", "--jsonl", "-", "--data", hq, input: "").code == 0)
        expect(try await peyvand("write", "--jsonl", home.path + "/none", "--data", hq), 1, "cannot be read")
        #expect(try await dump(hq).split(separator: "\n").count == 1 + written + 1)
    }

    @Test("A row of a file that cannot be used goes to the error file, the others in")
    func badRows() async throws {
        let (home, hq) = try await headOffice()
        let file = home.path + "/c.csv"
        let text = "externalKey,name,birthDay\nk1,SECRET1,1360/01/02\nk2,SECRET2,1360/13/45\nk3,SECRET3,1361/02/03\n"
        try text.write(toFile: file, atomically: false, encoding: .utf8)
        let errors = home.path + "/errors.csv"
        let outcome = try await peyvand("import", file, "--as", "customers", "--errors", errors, "--data", hq)
        #expect(outcome.output.hasPrefix("Imported: 2 created, 0 updated, 0 unchanged, 1 invalid.\n"))
        #expect(outcome.message.contains("Line 3, birthDay: There is no such month."))
        #expect(!outcome.message.contains("SECRET") && !outcome.message.contains("1360"))
        let rejected = try String(contentsOfFile: errors, encoding: .utf8)
        #expect(rejected.contains("k2,SECRET2,1360/13/45") && !rejected.contains("k1"))
        for (name, content, sentence) in [
            ("empty.csv", "", "has no header line"),
            ("unknown.csv", "foo,bar\n1,2\n", "No column of the file is known"),
        ] {
            let path = home.path + "/" + name
            try content.write(toFile: path, atomically: false, encoding: .utf8)
            expect(try await peyvand("import", path, "--as", "customers", "--data", hq), 1, sentence)
        }
        expect(try await peyvand("import", home.path + "/none", "--as", "customers", "--data", hq), 1, "cannot be read")
    }

    @Test("An invitation opens the door once, in time, whole, and only at its own head office")
    func invitations() async throws {
        let office = try await ProcessOffice.open()
        func join(_ directory: String, _ invitation: String) async throws -> Outcome {
            try await peyvand(
                "init",
                "--data",
                office.home.path + "/" + directory,
                "--role",
                "branch",
                "--join",
                invitation
            )
        }
        let used = try await office.invitation("isfahan")
        #expect(try await join("isfahan", used).code == 0)
        expect(try await join("again", used), 2, "This invitation was used already")
        expect(try await peyvand("enroll", "isfahan", "--data", office.headOffice), 2, "takes part already")

        let whole = try await office.invitation("shiraz")
        expect(try await join("shiraz", String(whole.dropLast())), 64, "The invitation is not whole")
        expect(try await join("shiraz", "peyvand:SECRET"), 64, "The invitation is not whole")
        let wrong = String(whole.dropLast(6)) + (whole.hasSuffix("AAAAAA") ? "BBBBBB" : "AAAAAA")
        expect(try await join("shiraz", wrong), 2, "The secret of the invitation is wrong")

        let other = try await ProcessOffice.open()
        let foreign = whole.replacing(":\(office.port)/", with: ":\(other.port)/")
        expect(try await join("shiraz", foreign), 2, "is not the one that has made the invitation")
        // After all that the true one works, in the directory where the others have failed.
        #expect(try await join("shiraz", whole).code == 0)

        // Head office an hour later.
        let late = try await office.invitation("yazd", ttl: "1m")
        try office.process.killAtOnce()
        try await office.start(environment: ["PEYVAND_CLOCK_OFFSET": "3600"])
        expect(try await join("yazd", late), 2, "This invitation has expired")
    }

    @Test("A branch that was first invited to a wrong address could never synchronise")
    func movedInvitation() async throws {
        let office = try await ProcessOffice.open()
        let directory = office.home.path + "/isfahan"
        func join(_ invitation: String) async throws -> Outcome {
            try await peyvand("init", "--data", directory, "--role", "branch", "--join", invitation)
        }
        expect(try await join(try await office.invitation("isfahan", port: 1)), 1, "No one answers at 127.0.0.1:1")
        #expect(try await join(try await office.invitation("isfahan")).code == 0)
        try await synchronise(directory)
    }

    @Test("A node of another organisation is sent away, and both say why")
    func foreigner() async throws {
        let office = try await ProcessOffice.open()
        let other = try await ProcessOffice.open()
        let port = Mutex(office.port)
        let line = try BadLine { port.withLock { $0 } }
        let branch = try await office.branch("isfahan", port: line.port)
        let before = try await dump(other.headOffice)
        port.withLock { $0 = other.port }
        expect(try await peyvand("sync", "--data", branch), 2, "This head office belongs to another organisation")
        #expect(try await dump(other.headOffice) == before)
        port.withLock { $0 = office.port }
        try await synchronise(branch)
    }

    @Test("A node that cannot listen says why and what to do")
    func listening() async throws {
        let office = try await ProcessOffice.open()
        let (home, second) = try await headOffice()
        func listen(_ address: String) async throws -> Outcome {
            try await peyvand("run", "--data", second, "--listen", address)
        }
        expect(try await listen("127.0.0.1:\(office.port)"), 1, "is taken by another program")
        expect(try await listen("192.0.2.1:7443"), 1, "is not an address of this machine")
        expect(try await listen("localhost.invalid:7443"), 1, "could not be resolved")
        expect(try await peyvand("run", "--data", office.headOffice), 2, "is running already")
        withExtendedLifetime(home) {}
    }

    @Test("A command that holds the node is waited for, by other commands and by the service")
    func waiting() async throws {
        let (home, hq) = try await headOffice()
        // A `write` that waits for its next line holds the node.
        let holder = try PeyvandProcess(["write", "--jsonl", "-", "--data", hq], feedsInput: true)
        holder.write(#"{"op":"put","table":"customer","set":{"name":"x"}}"# + "\n")
        #expect(await becomesTrue { holder.output.contains("1-1") })
        let listing = try PeyvandProcess(["customer", "list", "--data", hq])
        let service = try PeyvandProcess(["run", "--data", hq, "--listen", "127.0.0.1:0"])
        holder.write(#"{"op":"put","table":"customer","set":{"name":"y"}}"# + "\n")
        #expect(await becomesTrue { holder.output.contains("1-2") })
        #expect(!listing.hasEnded && !service.hasEnded)
        holder.finishInput()
        #expect(await holder.end().code == 0)
        #expect(await listing.end().code == 0)
        #expect(await becomesTrue { service.messages.contains("listens on") })
        withExtendedLifetime(home) {}
    }

    @Test("A reader that closes early ends a list in silence, and `write` with the truth")
    func closedOutput() async throws {
        let (home, hq) = try await headOffice()
        let file = home.path + "/many.jsonl"
        // Several times what is asked of the node at once.
        let note = String(repeating: "x", count: 20_000)
        let line = #"{"op":"put","table":"customer","set":{"note":""# + note + #""}}"# + "\n"
        try String(repeating: line, count: 60).write(toFile: file, atomically: false, encoding: .utf8)
        let binary = PeyvandProcess.binary
        func shell(_ script: String) async throws -> Outcome { try await run("bash", ["-c", script]) }
        let cut = try await shell("'\(binary)' write --jsonl '\(file)' --data '\(hq)' | head -1; exit ${PIPESTATUS[0]}")
        expect(cut, 1, "Nobody reads the replies any more")
        let count = try await dump(hq).split(separator: "\n").count - 1
        #expect(count > 0 && count < 60)
        let listed = try await shell("'\(binary)' dump --data '\(hq)' | head -1; exit ${PIPESTATUS[0]}")
        #expect(listed.code == 0 && listed.message.isEmpty && listed.lines.count == 1)
        let full = try await shell("'\(binary)' customer list --data '\(hq)' > /dev/full")
        expect(full, 1, "No space left on device")
        let closed = try await shell("'\(binary)' customer list --data '\(hq)' >&-")
        expect(closed, 1, "The output could not be written")
        #expect(try await peyvand("verify", "--deep", "--data", hq).code == 0)
    }

    @Test("Nobody but the node's own people can read its files")
    func permissions() async throws {
        let home = TemporaryDirectory()
        let hq = home.path + "/hq"
        try FileManager.default.createDirectory(atPath: hq, withIntermediateDirectories: false)
        let made = try await peyvand(
            "init",
            "--data",
            hq,
            "--role",
            "head-office",
            "--name",
            "tehran-hq",
            "--listen",
            "127.0.0.1:7443"
        )
        #expect(made.code == 0)
        for name in try FileManager.default.contentsOfDirectory(atPath: hq) {
            var status = stat()
            #expect(stat(hq + "/" + name, &status) == 0 && status.st_mode & 0o007 == 0, "\(name)")
        }
    }
}
