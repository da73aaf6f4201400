import Causality
import TestKit
import Testing

@Suite("Version vector")
struct VersionVectorTests {
    @Test("Merging is commutative, associative and idempotent, and covers both")
    func lattice() {
        var random = SeededRandom(seed: testSeed("version vector"))
        for _ in 0..<500 {
            let (a, b, c) = (vector(&random), vector(&random), vector(&random))
            #expect(merged(a, b) == merged(b, a))
            #expect(merged(merged(a, b), c) == merged(a, merged(b, c)))
            #expect(merged(a, a) == a)
            #expect(merged(a, b).covers(a) && merged(a, b).covers(b))
        }
    }

    @Test("An entry never goes down")
    func neverLowered() throws {
        let origin = try #require(Origin(rawValue: 3))
        var vector = VersionVector()
        vector.raise(origin, to: 9)
        vector.raise(origin, to: 4)
        #expect(vector[origin] == 9)
        #expect(vector.covers(ChangeSetID(origin: origin, seq: 9)))
        #expect(!vector.covers(ChangeSetID(origin: origin, seq: 10)))
    }

    private func merged(_ left: VersionVector, _ right: VersionVector) -> VersionVector {
        var result = left
        result.merge(right)
        return result
    }

    private func vector(_ random: inout SeededRandom) -> VersionVector {
        var entries: [ChangeSetID] = []
        for _ in 0..<random.below(6) {
            guard let origin = Origin(rawValue: UInt32(1 + random.below(5))) else { continue }
            entries.append(ChangeSetID(origin: origin, seq: UInt64(random.below(9))))
        }
        return VersionVector(entries)
    }
}
