import Foundation
import TestKit
import Testing

@Suite("Backups with the real program", .serialized, .timeLimit(.minutes(15)))
struct BackupProcessTests {
    /// Turns a bit wherever a text stands in a file.
    private func turnBit(of text: String, in path: String) throws {
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        var start = bytes.startIndex
        while let range = bytes.range(of: Data(text.utf8), in: start..<bytes.endIndex) {
            bytes[range.lowerBound] ^= 1
            start = range.upperBound
        }
        try #require(start > bytes.startIndex)
        try bytes.write(to: URL(fileURLWithPath: path))
    }

    @Test("A branch that is put back takes a new number by itself, and nothing of either life is lost")
    func branch() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        let file = office.home.path + "/isfahan.backup"
        try await addCustomer(branch, "before")
        try await synchronise(branch)
        // A value that this branch loses, so that its inbox is not empty.
        try await done(at: branch, "customer edit 2-1 --set note=isfahan")
        try await done(at: hq, "customer edit 2-1 --set note=tehran")
        try await synchronise(branch)
        let made = try await done(at: branch, "backup \(file) --json").json
        #expect(made["node"] as? String == "isfahan" && made["file"] as? String == file && made["rows"] as? Int == 4)
        for (target, code, sentence) in [
            (file, 2, "There is a file \(file) already. Nothing was changed"),
            (office.home.path + "/none/x", 1, "cannot be written"),
        ] as [(String, Int32, String)] {
            let again = try await peyvand(at: branch, "backup \(target)")
            #expect(again.code == code && again.message.contains(sentence), "\(again.message)")
        }
        try await addCustomer(branch, "sent")
        try await synchronise(branch)
        try await addCustomer(branch, "unsent")

        let copies = ["cut", "bit", "text"].map { office.home.path + "/" + $0 }
        try Data(contentsOf: URL(fileURLWithPath: file)).dropLast(300_000).write(to: URL(fileURLWithPath: copies[0]))
        try FileManager.default.copyItem(atPath: file, toPath: copies[1])
        try turnBit(of: "before", in: copies[1])
        try Data("hello".utf8).write(to: URL(fileURLWithPath: copies[2]))
        let ofHeadOffice = office.home.path + "/hq.backup"
        try await done(at: hq, "backup \(ofHeadOffice)")
        for (line, code, sentence) in [
            ("restore \(file)", 2, "holds a node already. Restoring puts the backup in its place"),
            ("restore \(office.home.path)/none --force", 2, "There is no file"),
            ("restore \(copies[0]) --force", 1, "is damaged"), ("restore \(copies[1]) --force", 1, "is damaged"),
            ("restore \(copies[2]) --force", 1, "is no backup of a node: It is no database"),
            ("restore \(branch)/replica.db --force", 1, "Make backups with `peyvand backup`"),
            ("restore \(ofHeadOffice) --force", 2, "holds isfahan, and this is a backup of tehran-hq"),
        ] as [(String, Int32, String)] {
            let refused = try await peyvand(at: branch, line)
            #expect(refused.code == code && refused.message.contains(sentence), "\(line): \(refused.message)")
        }
        let running = try await peyvand(at: hq, "restore \(ofHeadOffice) --force")
        #expect(running.code == 2 && running.message.contains("is at work. Stop it, and restore then."))
        #expect(try await done(at: branch, "customer list --json").list("customers").count == 3)

        let restored = try await done(at: branch, "restore \(file) --force --json").json
        let aside = try #require(restored["keptAside"] as? String)
        #expect(FileManager.default.fileExists(atPath: aside))
        #expect(restored["unsentAside"] as? Int == 1 && restored["role"] as? String == "branch")
        let status = try await peyvand(at: branch, "status --json")
        #expect(try status.code == 1 && status.reasons == ["renewing", "conflicts"])
        let printed = try await addCustomer(branch, "after")
        for _ in 0..<2 { try await synchronise(branch) }
        let names = try await done(at: branch, "customer list --json").list("customers")
        #expect(Set(names.compactMap { $0["name"] as? String }) == ["before", "sent", "after"])
        #expect(try await dump(branch) == dump(hq))
        let now = try await peyvand(at: branch, "status --json").json
        #expect((now["node"] as? [String: Any])?["origin"] as? Int == 3)
        #expect(try await peyvand(at: branch, "receipt").code == 0)
        let found = try await done(at: branch, "customer show \(printed) --json")
        #expect(try found.json["name"] as? String == "after" && found.json["id"] as? String == "3-1")
        #expect(found.message.contains("\(printed) has the number 3-1 now."))
        let fleet = try await peyvand(at: hq, "fleet --json")
        let node = try #require(try fleet.list("nodes").first)
        let codes = (node["reasons"] as? [[String: Any]])?.compactMap { $0["code"] as? String }
        #expect(fleet.code == 1 && codes?.contains("forked") == true)
        // Work of the former number still has the branch's name, and its inbox is still its own.
        for directory in [branch, hq] {
            let why = try await done(at: directory, "why customer 2-1 name")
            #expect(why.output.contains("Written by isfahan, "), "\(why.output)")
        }
        let inbox = try await done(at: branch, "conflicts --json").list("conflicts")
        #expect(inbox.map { $0["mine"] as? Bool } == [true])
    }

    @Test("A standby takes over from head office at another address, and its branch goes on with it")
    func standby() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        let (file, ofBranch) = (office.home.path + "/hq.backup", office.home.path + "/isfahan.backup")
        try await addCustomer(hq, "before")
        try await synchronise(branch)
        try await done(at: hq, "backup \(file)")
        try await done(at: branch, "backup \(ofBranch)")
        let drill = try await done(at: hq, "drill hub-restore \(file) --json").json
        #expect(drill["isRight"] as? Bool == true && drill["rows"] as? Int == 3)
        let wrong = try await peyvand(at: hq, "drill hub-restore \(ofBranch)")
        #expect(wrong.code == 2 && wrong.message.contains("is the backup of a branch"))
        // What the backup does not have: work of head office, and of the branch.
        try await addCustomer(hq, "of head office")
        try await addCustomer(branch, "of the branch")
        try await synchronise(branch)
        let truth = try await done(at: hq, "customer list --json").list("customers")
        try office.process.killAtOnce()

        let standby = office.home.path + "/standby"
        try await done(at: standby, "restore \(file)")
        let service = try PeyvandProcess(["run", "--data", standby, "--listen", "127.0.0.1:0"])
        #expect(await becomesTrue { service.messages.contains("listens on") || service.hasEnded })
        let listens = service.messages.firstMatch(of: #/listens on (127\.0\.0\.1:\d+)\./#)
        let address = try #require(listens.map { String($0.1) }, "\(service.messages)")
        let lost = try await peyvand(at: branch, "sync")
        #expect(lost.code == 1 && lost.output.contains("No one answers at 127.0.0.1:\(office.port)"))
        #expect(try await peyvand(at: branch, "sync --hub nonsense").code == 64)
        try await done(at: branch, "sync --hub \(address)")
        // It has kept the address.
        try await addCustomer(branch, "afterwards")
        try await synchronise(branch)
        let customers = try await done(at: standby, "customer list --json").list("customers")
        #expect(customers.count == truth.count + 1)
        #expect(try await dump(standby) == dump(branch))
        let hub = try await done(at: branch, "status --json").json["hub"] as? [String: Any]
        #expect(hub?["address"] as? String == address)

        // A branch that runs is told by its settings, or by a command.
        func settings(_ address: String) throws {
            try "hub = \"\(address)\"\n".write(toFile: branch + "/peyvand.toml", atomically: true, encoding: .utf8)
        }
        try settings("127.0.0.1:\(office.port)")
        let running = try await startBranch(branch)
        #expect(try await peyvand(at: branch, "sync").code == 1)
        try await done(at: branch, "sync --hub \(address)")
        for (place, code) in [("127.0.0.1:\(office.port)", 1), (address, 0)] as [(String, Int32)] {
            try settings(place)
            running.send(SIGHUP)
            #expect(try await becomesTrue { try await peyvand(at: branch, "sync").code == code })
        }
        running.send(SIGTERM)
        #expect(await running.end().code == 0)
        service.send(SIGTERM)
        #expect(await service.end().code == 0)
    }
}
