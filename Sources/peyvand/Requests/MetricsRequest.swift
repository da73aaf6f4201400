import CRM
import Foundation
import ReplicaStore

/// Reads what monitoring watches: the numbers of `status`, at head office those of `fleet` too, and of the process
/// when the node runs.
struct ShowMetrics: NodeRequest {
    static let name = "metrics"
    static let worksDuringFirstLoad = true

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [Metric] {
        let status = try ShowStatus().perform(in: node, progress: progress)
        var metrics = Metric.all(of: status)
        if node.replica.node.role == .headOffice {
            metrics += Metric.all(of: try ShowFleet().perform(in: node, progress: progress))
        }
        return metrics + Metric.ofProcess(isRunning: node.isRunning)
    }
}

extension Metric {
    private static func one(_ id: String, _ kind: Kind = .gauge, _ help: String, _ value: Double?) -> Metric {
        Metric(id: id, kind: kind, help: help, samples: value.map { [Sample(value: $0)] } ?? [])
    }

    private static func seconds(_ printed: String?) -> Double? {
        printed.flatMap(CivilTime.milliseconds(ofRFC3339:)).map { Double($0) / 1000 }
    }

    fileprivate static func all(of status: PrintedStatus) -> [Metric] {
        let isBranch = status.hub != nil
        return [
            Metric(
                id: "peyvand_info",
                kind: .gauge,
                help: "Always 1; the labels say which node this is.",
                samples: [
                    Sample(
                        labels: [
                            "node": status.node.id, "name": status.node.name, "role": status.node.role,
                            "origin": "\(status.node.origin)", "software": status.software,
                        ],
                        value: 1
                    )
                ]
            ),
            one("peyvand_state", "How the node is: 0 green, 1 yellow, 2 red.", Double(status.state.exitCode)),
            Metric(
                id: "peyvand_reason",
                kind: .gauge,
                help: "Why the node is not green: 1 yellow, 2 red. `peyvand status` has the sentences.",
                samples: reasons(status.reasons)
            ),
            one("peyvand_log_position", "Change sets in the log of this node.", Double(status.position)),
            one(
                "peyvand_stable_position",
                "The position up to which everybody has the log.",
                Double(status.stable.position)
            ),
            one(
                "peyvand_connected",
                "Whether a session with head office is open.",
                isBranch ? flag(status.hub?.connected) : nil
            ),
            one(
                "peyvand_last_contact_timestamp_seconds",
                "When head office was last heard, in seconds since 1970.",
                seconds(status.hub?.lastContact ?? nil)
            ),
            one(
                "peyvand_ahead_change_sets",
                "Change sets that exist only here.",
                isBranch ? Double(status.ahead.changeSets) : nil
            ),
            one(
                "peyvand_ahead_rows",
                "Rows of the change sets that exist only here.",
                isBranch ? Double(status.ahead.rows) : nil
            ),
            one(
                "peyvand_behind_change_sets",
                "Change sets of head office that have not been received, if known.",
                status.behind.map { Double($0.changeSets) }
            ),
            one(
                "peyvand_clock_skew_seconds",
                "This clock minus head office's at the last contact.",
                status.skewMilliseconds.map { Double($0) / 1000 }
            ),
            one(
                "peyvand_lease_expiry_timestamp_seconds",
                "Until when head office keeps what this node lacks, in seconds since 1970.",
                seconds(status.lease?.expires)
            ),
            one("peyvand_parked_changes", "Changes of rows that could not be applied and wait.", Double(status.parked)),
            one(
                "peyvand_conflicts",
                "Values that lost against others and wait for somebody.",
                Double(status.conflicts)
            ),
            one("peyvand_duplicates", "Likely duplicates that wait for somebody.", Double(status.duplicates)),
            one(
                "peyvand_unsealed_rows",
                "Rows that other programs have written and that are in no change set yet.",
                Double(status.unsealed)
            ),
            one(
                "peyvand_erased_writes_dropped",
                "Writes to erased rows that were dropped.",
                Double(status.erasedDropped)
            ),
            Metric(
                id: "peyvand_rows",
                kind: .gauge,
                help: "Rows of a table.",
                samples: status.tables.map { Sample(labels: ["table": $0.name], value: Double($0.rows)) }
            ),
            Metric(
                id: "peyvand_disk_bytes",
                kind: .gauge,
                help: "Bytes of the replica on disk.",
                samples: [
                    Sample(labels: ["file": "database"], value: Double(status.disk.databaseBytes)),
                    Sample(labels: ["file": "log"], value: Double(status.disk.walBytes)),
                ]
            ),
            one("peyvand_disk_free_bytes", "Bytes free on that disk.", Double(status.disk.freeBytes)),
            Metric(
                id: "peyvand_line_bytes_today",
                kind: .gauge,
                help: "Bytes on the line since midnight UTC.",
                samples: [
                    Sample(labels: ["direction": "sent"], value: Double(status.bytesToday.sent)),
                    Sample(labels: ["direction": "received"], value: Double(status.bytesToday.received)),
                ]
            ),
            one(
                "peyvand_checked_timestamp_seconds",
                "When every row was last read and added up, in seconds since 1970.",
                seconds(status.checkedAt)
            ),
        ]
    }

    fileprivate static func all(of fleet: [PrintedFleetNode]) -> [Metric] {
        func each(_ id: String, _ help: String, _ value: (PrintedFleetNode) -> Double?) -> Metric {
            Metric(
                id: id,
                kind: .gauge,
                help: help,
                samples: fleet.compactMap { node in
                    value(node).map { Sample(labels: ["branch": node.name], value: $0) }
                }
            )
        }
        return [
            each("peyvand_branch_state", "How a branch is: 0 green, 1 yellow, 2 red.") { Double($0.state.exitCode) },
            Metric(
                id: "peyvand_branch_reason",
                kind: .gauge,
                help: "Why a branch is not green: 1 yellow, 2 red. `peyvand fleet` has the sentences.",
                samples: fleet.flatMap { node in reasons(node.reasons, labels: ["branch": node.name]) }
            ),
            each("peyvand_branch_connected", "Whether a session with a branch is open.") { flag($0.connected) },
            each(
                "peyvand_branch_last_contact_timestamp_seconds",
                "When a branch was last heard, in seconds since 1970."
            ) { seconds($0.lastContact) },
            each("peyvand_branch_ahead_change_sets", "Change sets that a branch has announced and not sent.") {
                Double($0.ahead.changeSets)
            },
            each("peyvand_branch_behind_change_sets", "Change sets that a branch has not received.") {
                Double($0.behind.changeSets)
            },
            each("peyvand_branch_parked_changes", "Changes of rows that a branch could not apply.") {
                Double($0.parked)
            },
            each("peyvand_branch_conflicts", "Conflicts that a branch shows.") { Double($0.conflicts) },
            each("peyvand_branch_clock_skew_seconds", "The clock of a branch minus this one.") {
                $0.skewMilliseconds.map { Double($0) / 1000 }
            },
            each("peyvand_branch_lease_expiry_timestamp_seconds", "Until when is kept what a branch lacks.") {
                seconds($0.lease?.expires)
            },
        ]
    }

    private static func flag(_ value: Bool?) -> Double? { value.map { $0 ? 1 : 0 } }

    /// One sample for each code: the worst of those that share it.
    private static func reasons(_ reasons: [HealthReason], labels: [String: String] = [:]) -> [Sample] {
        let worst = Dictionary(reasons.map { ($0.code, $0.state) }, uniquingKeysWith: max)
        return worst.sorted { $0.key < $1.key }.map { code, state in
            Sample(labels: labels.merging(["code": code]) { $1 }, value: Double(state.exitCode))
        }
    }

    /// The process that holds the replica, under the names that every exporter uses.
    ///
    /// - Source: proc(5), `/proc/self/stat` and `/proc/self/fd`.
    fileprivate static func ofProcess(isRunning: Bool) -> [Metric] {
        let running = one("peyvand_running", "Whether the service runs, and not a command alone.", isRunning ? 1 : 0)
        guard isRunning, let stat = try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8),
            let end = stat.lastIndex(of: ")")
        else { return [running] }
        // The name of the program stands in brackets and may hold anything; field 3 comes next.
        let fields = stat[stat.index(after: end)...].split(separator: " ").map { Double($0) ?? 0 }
        guard fields.count > 21 else { return [running] }
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        // Since the machine started, as the process's own start is told.
        var sinceBoot = timespec()
        clock_gettime(CLOCK_BOOTTIME, &sinceBoot)
        let age = Double(sinceBoot.tv_sec) + Double(sinceBoot.tv_nsec) / 1e9 - fields[19] / ticks
        let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd"))?.count
        return [
            running,
            one(
                "process_cpu_seconds_total",
                .counter,
                "Processor time that the node has used.",
                (fields[11] + fields[12]) / ticks
            ),
            one(
                "process_resident_memory_bytes",
                "Memory of the node.",
                fields[21] * Double(sysconf(Int32(_SC_PAGESIZE)))
            ),
            one(
                "process_start_time_seconds",
                "When the node was started, in seconds since 1970.",
                Date().timeIntervalSince1970 - age
            ),
            one("process_open_fds", "Files and connections that the node holds open.", descriptors.map(Double.init)),
        ]
    }

    private static func one(_ id: String, _ help: String, _ value: Double?) -> Metric { one(id, .gauge, help, value) }
}
