import Causality

/// All records that matching knows, and what each is found by.
///
/// A plain value: whoever owns it adds and removes records one at a time. What it answers depends on the records
/// in it, and not on the order in which they came.
///
/// Memory: about half a KB a record. Finding what matches one record costs as many comparisons as records share a key
/// with it, and not more than ``MatchingWeights/blockMax`` for each of its keys.
package struct MatchingIndex: Sendable {
    /// What looks like one customer, and what is one by rule.
    package struct Matches: Sendable {
        /// From the threshold on, in the order of the queue.
        package var likely: [ScoredPair] = []
        /// In ascending order of pairs.
        package var links: [RuleLink] = []
        /// How many pairs were compared.
        package var comparedCount = 0
    }

    /// One holder of a key, in a list of all its holders.
    private struct Holder: Sendable {
        var slot: Int32
        /// The place of the next holder; -1 at the end.
        var next: Int32
    }

    private struct Block: Sendable {
        var first: Int32 = -1
        var count: Int32 = 0
    }

    private var slots: [RowID: Int32] = [:]
    private var records: [MatchingRecord?] = []
    private var freeSlots: [Int32] = []
    private var blocks: [MatchingKey: Block] = [:]
    private var holders: [Holder] = []
    private var freeHolders: Int32 = -1
    private var comparison: MatchingComparison
    /// What is generic because somebody said so.
    private let named: Set<MatchingKey>

    /// Makes an empty index.
    ///
    /// - Parameter named: Keys of values that say nothing about anybody, see ``GenericValues``.
    package init(weights: MatchingWeights = .customers, named: Set<MatchingKey> = []) {
        self.named = named
        comparison = MatchingComparison(weights: weights, genericValues: named)
    }

    /// How many records there are.
    package var count: Int { slots.count }

    /// How records are compared now.
    package var comparing: MatchingComparison { comparison }

    /// Returns a record.
    package subscript(_ id: RowID) -> MatchingRecord? { slots[id].flatMap { records[Int($0)] } }

    /// Adds a record, or replaces the one of the same identifier.
    ///
    /// - Returns: Other records whose matches may have changed because a value became generic or is no longer.
    @discardableResult
    package mutating func set(_ record: MatchingRecord) -> [RowID] {
        if self[record.id] == record { return [] }
        var changed = remove(record.id)
        let slot: Int32
        if let free = freeSlots.popLast() {
            slot = free
            records[Int(slot)] = record
        } else {
            slot = Int32(records.count)
            records.append(record)
        }
        slots[record.id] = slot
        for key in record.keys {
            var block = blocks[key] ?? Block()
            block.first = link(slot, before: block.first)
            block.count += 1
            blocks[key] = block
            changed += judge(key, block)
        }
        return Set(changed).subtracting([record.id]).sorted()
    }

    /// Removes a record, if it is there.
    ///
    /// - Returns: Other records whose matches may have changed because a value is no longer generic.
    @discardableResult
    package mutating func remove(_ id: RowID) -> [RowID] {
        guard let slot = slots.removeValue(forKey: id), let record = records[Int(slot)] else { return [] }
        records[Int(slot)] = nil
        freeSlots.append(slot)
        var changed: [RowID] = []
        for key in record.keys {
            guard var block = blocks[key] else { continue }
            block.first = unlink(slot, from: block.first)
            block.count -= 1
            blocks[key] = block.count > 0 ? block : nil
            changed += judge(key, block)
        }
        return changed.sorted()
    }

    /// Returns what one record matches among the others; it need not be in the index itself.
    package func matches(of record: MatchingRecord) -> Matches {
        var matches = Matches()
        var seen: Set<Int32> = []
        gather(record, into: &seen)
        for slot in seen.sorted() {
            guard let other = records[Int(slot)], other.id != record.id else { continue }
            note(record, other, in: &matches)
        }
        finish(&matches)
        return matches
    }

    /// Returns all matches among the records.
    package func allMatches() -> Matches { allMatches { _ in } }

    /// Returns all matches among the records.
    ///
    /// - Parameter progress: Told now and then how many records are done; what it throws ends the search.
    package func allMatches(progress: (Int) throws -> Void) rethrows -> Matches {
        var matches = Matches()
        // A record was a candidate of the present one if its mark is the present one.
        var marks = [Int32](repeating: -1, count: records.count)
        for slot in records.indices {
            if slot % 1000 == 0 { try progress(slot) }
            guard let record = records[slot] else { continue }
            for key in record.keys {
                guard let block = usable(key) else { continue }
                var place = block.first
                while place >= 0 {
                    let holder = holders[Int(place)]
                    place = holder.next
                    guard holder.slot < slot, marks[Int(holder.slot)] != slot else { continue }
                    marks[Int(holder.slot)] = Int32(slot)
                    guard let other = records[Int(holder.slot)] else { continue }
                    note(record, other, in: &matches)
                }
            }
        }
        finish(&matches)
        return matches
    }
}

extension MatchingIndex {
    private func gather(_ record: MatchingRecord, into seen: inout Set<Int32>) {
        for key in record.keys {
            guard let block = usable(key) else { continue }
            var place = block.first
            while place >= 0 {
                seen.insert(holders[Int(place)].slot)
                place = holders[Int(place)].next
            }
        }
    }

    /// The holders of a key, if it is worth to compare with all of them.
    private func usable(_ key: MatchingKey) -> Block? {
        guard let block = blocks[key], !isGeneric(key), block.count <= key.holdersMax ?? .max else { return nil }
        return block
    }

    private func isGeneric(_ key: MatchingKey) -> Bool { comparison.genericValues.contains(key) }

    private func note(_ record: MatchingRecord, _ other: MatchingRecord, in matches: inout Matches) {
        guard let pair = CustomerPair(record.id, other.id) else { return }
        matches.comparedCount += 1
        let score = comparison.score(record, other)
        if score >= comparison.weights.threshold { matches.likely.append(ScoredPair(pair: pair, score: score)) }
        if let rule = comparison.rule(record, other) { matches.links.append(RuleLink(pair: pair, rule: rule)) }
    }

    private func finish(_ matches: inout Matches) {
        matches.likely.sort(by: ScoredPair.queueOrder)
        matches.links.sort { $0.pair < $1.pair }
    }

    /// Finds out anew whether a value is generic.
    ///
    /// - Returns: Its holders, if that changed.
    private mutating func judge(_ key: MatchingKey, _ block: Block) -> [RowID] {
        guard let namesMax = key.namesMax else { return [] }
        let wasGeneric = isGeneric(key)
        guard !named.contains(key), wasGeneric || block.count > namesMax else { return [] }
        var names: Set<UInt64> = []
        var place = block.first
        while place >= 0, names.count <= namesMax {
            if let record = records[Int(holders[Int(place)].slot)] { names.insert(record.soundNumber) }
            place = holders[Int(place)].next
        }
        let isGeneric = names.count > namesMax
        guard isGeneric != wasGeneric else { return [] }
        var values = comparison.genericValues
        if isGeneric { values.insert(key) } else { values.remove(key) }
        comparison = MatchingComparison(weights: comparison.weights, genericValues: values)
        var ids: [RowID] = []
        place = block.first
        while place >= 0 {
            if let record = records[Int(holders[Int(place)].slot)] { ids.append(record.id) }
            place = holders[Int(place)].next
        }
        return ids
    }

    private mutating func link(_ slot: Int32, before next: Int32) -> Int32 {
        if freeHolders >= 0 {
            let place = freeHolders
            freeHolders = holders[Int(place)].next
            holders[Int(place)] = Holder(slot: slot, next: next)
            return place
        }
        holders.append(Holder(slot: slot, next: next))
        return Int32(holders.count - 1)
    }

    /// Takes a holder out of a list and returns where the list begins now.
    private mutating func unlink(_ slot: Int32, from first: Int32) -> Int32 {
        var (place, previous): (Int32, Int32) = (first, -1)
        while place >= 0, holders[Int(place)].slot != slot {
            previous = place
            place = holders[Int(place)].next
        }
        guard place >= 0 else { return first }
        let next = holders[Int(place)].next
        holders[Int(place)] = Holder(slot: -1, next: freeHolders)
        freeHolders = place
        guard previous >= 0 else { return next }
        holders[Int(previous)].next = next
        return first
    }
}
