import TestKit

/// Changes inputs of decoders a little, without knowing what they mean: the short run that every test makes. libFuzzer,
/// which looks what each change leads to, goes deeper: `scripts/fuzz`.
struct InputMutator {
    private var random: SeededRandom
    private static let edges: [UInt8] = [0, 1, 0x7F, 0x80, 0xFF, 0x28, 0x52]

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    /// One of the inputs, or what two of them have become, changed in one to four places.
    mutating func mutated(_ inputs: [[UInt8]]) -> [UInt8] {
        var input = inputs[random.below(inputs.count)]
        for _ in 0...random.below(4) {
            guard input.count > 1 else { return input + [UInt8(random.below(256))] }
            let place = 1 + random.below(input.count - 1)
            switch random.below(8) {
            case 0: input[place] = UInt8(random.below(256))
            case 1: input[place] ^= 1 << UInt8(random.below(8))
            case 2: input[place] = Self.edges[random.below(Self.edges.count)]
            case 3: input.remove(at: place)
            case 4: input.insert(UInt8(random.below(256)), at: place)
            case 5: input.removeSubrange(place...)
            case 6: input.insert(contentsOf: input[place..<min(place + 1 + random.below(32), input.count)], at: place)
            default:
                let other = inputs[random.below(inputs.count)]
                input.replaceSubrange(place..., with: other.dropFirst(1 + random.below(max(other.count, 1))))
            }
        }
        return input
    }
}
