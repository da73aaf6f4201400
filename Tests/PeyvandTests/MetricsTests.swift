import Foundation
import TestKit
import Testing

@testable import peyvand

@Suite("What monitoring reads", .serialized, .timeLimit(.minutes(15)))
struct MetricsTests {
    /// The samples of a text, by name and labels as they stand. Every line has to be one that Prometheus reads.
    private func samples(_ text: String) throws -> [String: Double] {
        var samples: [String: Double] = [:]
        var described: Set<Substring> = []
        for line in text.split(separator: "\n") {
            if let help = line.wholeMatch(of: #/# (HELP|TYPE) ([a-z_]+) (.+)/#) {
                described.insert(help.2)
                #expect(help.1 == "HELP" || ["gauge", "counter"].contains(help.3))
                continue
            }
            let label = #/[a-z]+="(?:[^"\\\n]|\\["\\n])*"/#
            let parts = try #require(line.wholeMatch(of: #/(([a-z_]+)(?:\{(.*)\})?) (\S+)/#), "\(line)")
            #expect(described.contains(parts.2), "\(line)")
            if let labels = parts.3 {
                #expect(labels.replacing(label, with: "L").split(separator: ",").allSatisfy { $0 == "L" }, "\(line)")
            }
            #expect(samples.updateValue(try #require(Double(parts.4)), forKey: String(parts.1)) == nil, "\(line)")
        }
        return samples
    }

    /// Numbers that a node which has just joined and is well does not have.
    private let sometimesKnown: [Substring] = ["peyvand_reason", "peyvand_branch_reason"]

    /// A file that is installed with the program.
    private func deployed(_ name: String) throws -> String {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return try String(contentsOf: root.appendingPathComponent("deploy/" + name), encoding: .utf8)
    }

    @Test("The numbers are those of status and fleet, with the node running or not, at the command and at /metrics")
    func sameSource() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        try office.process.killAtOnce()
        try await office.start(environment: ["PEYVAND_CONSOLE": "127.0.0.1:0"])
        let branch = try await office.branch("isfahan")
        _ = try await peyvand("write", "--jsonl", "-", "--data", branch, input: customers(3, "CanaryName"))

        let alone = try await samples(done(at: branch, "metrics").output)
        let status = try await peyvand(at: branch, "status --json").json
        #expect(alone["peyvand_running"] == 0 && alone["process_open_fds"] == nil)
        #expect(alone["peyvand_state"] == 1 && alone["peyvand_reason{code=\"unsent\"}"] == 1)
        #expect(alone["peyvand_ahead_change_sets"] == 3 && alone["peyvand_rows{table=\"customer\"}"] == 3)
        #expect(alone["peyvand_log_position"] == (status["position"] as? Int).map(Double.init))
        let disk = try #require(status["disk"] as? [String: Any])
        #expect(alone["peyvand_disk_bytes{file=\"database\"}"] == (disk["databaseBytes"] as? Int).map(Double.init))

        try await synchronise(branch)
        let port = try #require(
            office.process.messages.firstMatch(of: #/console listens address=127\.0\.0\.1:(\d+)/#).flatMap { Int($0.1) }
        )
        let reply = try await PlainLine(port: port).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(reply.hasPrefix("HTTP/1.1 200 OK") && reply.contains("content-type: text/plain; version=0.0.4"))
        let page = try samples(String(try #require(reply.split(separator: "\r\n\r\n", maxSplits: 1).last)))
        let asked = try await samples(done(at: hq, "metrics").output)
        #expect(Set(page.keys) == Set(asked.keys) && page["peyvand_running"] == 1)
        #expect(page["peyvand_branch_state{branch=\"isfahan\"}"] == 0)
        #expect(page["peyvand_rows{table=\"customer\"}"] == 3 && page["peyvand_connected"] == nil)
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            #expect(page[name] ?? 0 > 0, "\(name)")
        }
        let start = try #require(page["process_start_time_seconds"])
        #expect((0..<600).contains(Date().timeIntervalSince1970 - start))
        #expect(!reply.contains("CanaryName"))

        // What would wake somebody must exist.
        let known = Set((Array(page.keys) + Array(alone.keys)).map { $0.prefix { $0 != "{" } } + sometimesKnown)
        let rules = try deployed("prometheus/peyvand.rules.yml")
        let named = rules.split(separator: "\n").filter { $0.contains(" expr: ") }
            .flatMap { $0.matches(of: #/(?:peyvand|process)_[a-z_]+/#).map { Substring($0.0) } }
        #expect(named.count > 10 && Set(named).isSubset(of: known), "\(Set(named).subtracting(known))")

        let document = try await peyvand(at: hq, "metrics --json")
        #expect(try document.json["schema"] as? Int == 1 && document.ids("metrics").contains("peyvand_info"))
    }

    @Test("A name with quotes, backslashes and line ends stays one label; what has no number is not there")
    func labels() throws {
        let metric = Metric(
            id: "a_name",
            kind: .gauge,
            help: "One\\two\nthree.",
            samples: [Metric.Sample(labels: ["z": "1", "branch": "a\"b\\c\nd"], value: 0.5)]
        )
        let empty = Metric(id: "not_there", kind: .gauge, help: "Nothing.", samples: [])
        #expect(
            Metric.text([metric, empty])
                == "# HELP a_name One\\\\two\\nthree.\n# TYPE a_name gauge\na_name{branch=\"a\\\"b\\\\c\\nd\",z=\"1\"} 0.5\n"
        )
        #expect(try samples(Metric.text([metric])).count == 1)
    }
}
