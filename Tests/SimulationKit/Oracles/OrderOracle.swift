import Causality
import SyncProtocol

/// Says whether head office's log could have come about: every origin's change sets follow each other in number and
/// time, none says that it had seen what stands behind it, and each is later than all that it had seen.
///
/// Knows nothing but the log, in its order.
package struct OrderOracle {
    private var last: [Origin: (seq: UInt64, time: HybridTimestamp)] = [:]
    private var prefix = LogPrefix.empty
    /// Of each position, from 1: the prefix that ends there, and the greatest time in it.
    private var prefixes: [(prefix: LogPrefix, timeMax: HybridTimestamp)] = [(.empty, .zero)]

    /// What is wrong, a sentence each with the name of its invariant.
    package private(set) var found: [(invariant: String, sentence: String)] = []

    package init() {}

    /// Takes the next change set.
    package mutating func add(_ header: ChangeSetHeader, time: HybridTimestamp, chain: ChangeChain) {
        let id = header.id
        let before = last[id.origin]
        if id.seq != (before?.seq ?? 0) + 1 { found.append(("I11", "\(id) follows \(before?.seq ?? 0)")) }
        if let before, time <= before.time {
            found.append(("I14", "\(id) of \(time) is not later than the one before it, of \(before.time)"))
        }
        for seen in header.context.hubs where seen.position > 0 {
            guard let position = Int(exactly: seen.position), position < prefixes.count else {
                // A log that was lost had other numbers.
                continue
            }
            let known = prefixes[position]
            if known.prefix == seen, time <= known.timeMax {
                found.append(("I5", "\(id) of \(time) had seen what is of \(known.timeMax)"))
            }
        }
        for life in header.context.lives {
            if life.origin != id.origin, let known = last[life.origin], life.seq > known.seq {
                found.append(("I11", "\(id) says that it had seen \(life), which is not before it"))
            }
        }
        last[id.origin] = (id.seq, time)
        prefix = prefix.appending(id, chain: chain)
        prefixes.append((prefix, max(prefixes[prefixes.count - 1].timeMax, time)))
    }
}
