import Foundation
import TestKit
import Testing

@testable import peyvand

@Suite("The service, as the system's own manager sees it", .serialized, .timeLimit(.minutes(15)))
struct ServiceProcessTests {
    @Test("It says when it is ready, alive, reading its settings and stopping, and is what it says")
    func notices() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        try office.process.send(SIGTERM)
        _ = try await office.process.end()
        let manager = try NoticeSocket()
        try await office.start(environment: manager.environment.merging(["WATCHDOG_USEC": "200000"]) { $1 })
        let ready = await manager.next()
        let number = try office.process.number
        #expect(ready["READY"] == "1" && ready["MAINPID"] == "\(number)")
        #expect(ready["STATUS"]?.contains("listens on 127.0.0.1:\(office.port).") == true)
        #expect(try await peyvand(at: hq, "customer list --json").code == 0)
        for _ in 0..<3 { #expect(await manager.next() == ["WATCHDOG": "1"]) }

        try office.process.send(SIGHUP)
        let reloading = await manager.next { $0["WATCHDOG"] == nil }
        #expect(reloading["RELOADING"] == "1" && reloading["MONOTONIC_USEC"].flatMap(UInt64.init) ?? 0 > 0)
        #expect(await manager.next { $0["WATCHDOG"] == nil } == ["READY": "1"])

        // A node that nobody can ask gives no sign of life, although its process is well.
        try FileManager.default.removeItem(atPath: hq + "/peyvand.sock")
        while await manager.next(within: .seconds(1)) != [:] {}
        #expect(try !office.process.hasEnded)

        try office.process.send(SIGTERM)
        #expect(await manager.next()["STOPPING"] == "1")
        #expect(try await office.process.end().code == 0)
    }

    @Test("A manager that is not there, or wants no signs of life, changes nothing")
    func otherManagers() async throws {
        #expect(ServiceManager(environment: [:]) == nil)
        #expect(ServiceManager(environment: ["NOTIFY_SOCKET": ""]) == nil)
        #expect(ServiceManager(environment: ["NOTIFY_SOCKET": "relative"]) == nil)
        #expect(ServiceManager(environment: ["NOTIFY_SOCKET": "/" + String(repeating: "x", count: 107)]) == nil)
        let gone = try #require(ServiceManager(environment: ["NOTIFY_SOCKET": "/nonexistent/socket"]))
        #expect(gone.watchdogInterval == nil && !gone.tell("READY=1"))
        let abstract = try NoticeSocket(isAbstract: true)
        let own = abstract.environment.merging(["WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "\(getpid())"]) { $1 }
        let manager = try #require(ServiceManager(environment: own))
        #expect(manager.watchdogInterval == .seconds(3) && manager.tell("A=1", "B=2"))
        #expect(await abstract.next() == ["A": "1", "B": "2"])
        let others = own.merging(["WATCHDOG_PID": "1"]) { $1 }
        #expect(ServiceManager(environment: others)?.watchdogInterval == nil)
    }

    @Test("It stops within five seconds whatever its peers do, and keeps all that it has acknowledged")
    func stopsInTime() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let many = try await peyvand("write", "--jsonl", "-", "--data", hq, input: customers(2000, "before"))
        #expect(many.code == 0)
        // One says nothing, one stops in the middle, one never reads its answer to the end.
        let silent = try PlainLine(port: office.port)
        let branch = try await office.branch("isfahan")
        let session = try await startBranch(branch)
        #expect(try await becomesTrue { try await peyvand(at: branch, "status --json").json["hub"] is [String: Any] })
        session.send(SIGSTOP)
        defer { session.send(SIGCONT) }
        let reader = try PeyvandProcess(["dump", "--data", hq])
        #expect(await becomesTrue { reader.outputByteCount > 0 || reader.hasEnded })
        reader.send(SIGSTOP)
        let writer = try PeyvandProcess(["write", "--jsonl", "-", "--data", hq], feedsInput: true)
        DispatchQueue.global().async { while writer.write(customers(1, "meanwhile")) {} }
        #expect(await becomesTrue { writer.output.split(separator: "\n").count > 50 })

        let began = ContinuousClock.now
        try office.process.send(SIGTERM)
        let end = try await office.process.end()
        let duration = ContinuousClock.now - began
        #expect(end.code == 0 && duration < .seconds(5), "\(end.code) after \(duration)")
        #expect(try office.process.messages.contains("has stopped."))
        _ = await writer.end()
        withExtendedLifetime(silent) {}
        reader.killAtOnce()

        let acknowledged = ids(in: writer.output)
        let kept = try await dump(hq)
        #expect(acknowledged.count > 50 && acknowledged.isSubset(of: ids(in: kept)))
    }

    /// The ids of rows of head office in lines of JSON.
    private func ids(in lines: String) -> Set<Substring> {
        Set(lines.split(separator: "\n").compactMap { $0.split(separator: "\"").first { $0.hasPrefix("1-") } })
    }

    @Test("Its log is what the settings say, one object a line if they want, and never tells of customers")
    func logs() async throws {
        let office = try await ProcessOffice.open()
        try office.process.killAtOnce()
        let (name, mobile) = ("CanaryName", "09121234567")
        try await office.start(environment: ["PEYVAND_LOGLEVEL": "trace"])
        let branch = try await office.branch("isfahan")
        let running = try await startBranch(branch, environment: ["PEYVAND_LOGLEVEL": "trace"])
        // Text until the settings say otherwise; a setting that is none changes nothing.
        #expect(running.messages.contains("isfahan is running."))
        let settings = branch + "/peyvand.toml"
        let before = (try? String(contentsOfFile: settings, encoding: .utf8)) ?? ""
        try (before + "\nlog = \"xml\"\n").write(toFile: settings, atomically: true, encoding: .utf8)
        running.send(SIGHUP)
        #expect(await becomesTrue { running.messages.contains("The setting log is \"xml\"; it can be text or json.") })
        try (before + "\nlog = \"json\"\n").write(toFile: settings, atomically: true, encoding: .utf8)
        running.send(SIGHUP)
        #expect(await becomesTrue { running.messages.contains("\"message\":\"Settings were read again") })

        let id = try await addCustomer(branch, name)
        try await done(at: branch, "customer edit \(id) --set mobile=\(mobile)")
        let wrong =
            "{\"op\":\"put\",\"table\":\"customer\",\"set\":{\"name\":\"\(name)\",\"nationalCode\":\"x\",\"no\":1}}\n"
        #expect(try await peyvand("write", "--jsonl", "-", "--data", branch, input: wrong).code != 0)
        #expect(try await becomesTrue { try await peyvand(at: office.headOffice, "customer show \(id)").code == 0 })
        for edited in [branch, office.headOffice] {
            try await done(at: edited, "customer edit \(id) --set city=\(name)\(edited == branch ? 1 : 2)")
        }
        try await synchronise(branch)
        running.send(SIGTERM)
        #expect(await running.end().code == 0)
        try office.process.send(SIGTERM)
        let hub = try office.process
        #expect(await hub.end().code == 0)

        let lines = running.messages.split(separator: "\n").drop { !$0.hasPrefix("{") }
        #expect(lines.count > 2)
        for line in lines {
            let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            #expect(Set(object.keys) == ["time", "level", "message", "details"], "\(line)")
        }
        #expect(hub.messages.contains("A session ended"))
        for text in [running.messages, hub.messages] {
            for canary in [name, mobile, "9121234567"] { #expect(!text.contains(canary), "\(canary)") }
        }
    }

    @Test("In JSON the reason why it cannot run is an object too")
    func failureInJSON() async throws {
        let home = TemporaryDirectory()
        let outcome = try await peyvand("run", "--data", home.path + "/none", "--log", "json")
        let object = try JSONSerialization.jsonObject(with: Data(outcome.message.utf8)) as? [String: Any]
        #expect(outcome.code == 2 && object?["level"] as? String == "critical")
        for (option, value) in [
            ("--log", "xml"), ("--log-level", "loud"), ("--console", "nowhere"), ("--listen", "nowhere"),
        ] {
            let hq = home.path + "/hq"
            _ = try await peyvand("init", "--data", hq, "--role", "head-office", "--name", "tehran-hq")
            #expect(try await peyvand("run", "--data", hq, option, value).code == 64, "\(option)")
        }
        let open = try await peyvand(
            "run",
            "--data",
            home.path + "/hq",
            "--listen",
            "127.0.0.1:0",
            "--console",
            "0.0.0.0:1"
        )
        #expect(open.code == 1 && open.message.contains("which other machines may reach"))
    }
}

/// The socket on which a service manager listens.
private final class NoticeSocket: Sendable {
    private let socket: Int32
    private let home = TemporaryDirectory()
    let environment: [String: String]

    init(isAbstract: Bool = false) throws {
        socket = Foundation.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        let path = home.path + "/notices"
        environment = ["NOTIFY_SOCKET": isAbstract ? "@" + path : path]
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = (isAbstract ? [0] : []) + Array(path.utf8)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket, $0, length) }
        }
        try #require(result == 0)
    }

    deinit { close(socket) }

    /// The next notice that fits; empty when none comes.
    func next(
        within limit: Duration = .seconds(30),
        where fits: @escaping @Sendable ([String: String]) -> Bool = { _ in true }
    ) async -> [String: String] {
        await withCheckedContinuation { done in
            DispatchQueue.global().async { [self] in
                let deadline = ContinuousClock.now + limit
                while ContinuousClock.now < deadline {
                    let notice = receive(within: limit)
                    if notice.isEmpty || fits(notice) { return done.resume(returning: notice) }
                }
                done.resume(returning: [:])
            }
        }
    }

    private func receive(within limit: Duration) -> [String: String] {
        var waiting = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, Int32(limit / .milliseconds(1))) == 1 else { return [:] }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(socket, &bytes, bytes.count, 0)
        let lines = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
        return Dictionary(
            lines.map { $0.split(separator: "=", maxSplits: 1).map(String.init) }.map {
                ($0[0], $0.count > 1 ? $0[1] : "")
            }
        ) { $1 }
    }
}
