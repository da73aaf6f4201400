import Foundation

/// xoshiro256** seeded by SplitMix64 (Blackman and Vigna, 2018): the same seed gives the same run everywhere.
package struct SeededRandom: RandomNumberGenerator {
    private var state: (UInt64, UInt64, UInt64, UInt64)

    package init(seed: UInt64) {
        var value = seed
        func next() -> UInt64 {
            value &+= 0x9E37_79B9_7F4A_7C15
            var mixed = value
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
        state = (next(), next(), next(), next())
    }

    package mutating func next() -> UInt64 {
        let result = ((state.1 &* 5) << 7 | (state.1 &* 5) >> 57) &* 9
        let shifted = state.1 << 17
        state.2 ^= state.0
        state.3 ^= state.1
        state.1 ^= state.2
        state.0 ^= state.3
        state.2 ^= shifted
        state.3 = state.3 << 45 | state.3 >> 19
        return result
    }

    /// A number below `bound`.
    package mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

    /// True once in `times`.
    package mutating func oneIn(_ times: Int) -> Bool { below(times) == 0 }
}

/// The seed of a random test: `PEYVAND_TEST_SEED` if it is set, else a new one. Printed, so that a failure
/// can be repeated.
package func testSeed(_ name: String) -> UInt64 {
    let given = ProcessInfo.processInfo.environment["PEYVAND_TEST_SEED"].flatMap { UInt64($0) }
    let seed = given ?? UInt64.random(in: 0..<1_000_000)
    print("\(name): PEYVAND_TEST_SEED=\(seed)")
    return seed
}
