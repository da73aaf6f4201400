import Foundation

/// The shared vectors, as far as these tests read them.
struct PersianVectors: Decodable, Sendable {
    struct Text: Decodable, Sendable {
        let input, display, key, joined, codepoints: String
    }
    struct SoundPair: Decodable, Sendable {
        let a, b, keyA, keyB: String
    }
    struct NamePair: Decodable, Sendable {
        let a, b: String
        let samePersonPossible: Bool
    }
    struct NamePrefix: Decodable, Sendable {
        let stripToAttribute, keepAsFlag: [String]
    }
    struct Code: Decodable, Sendable {
        let input: String
        let valid: Bool
        let canonical: String?
    }
    struct Phone: Decodable, Sendable {
        struct Result: Decodable, Sendable {
            let type, e164, national: String
            let area, ext: String?
        }
        let input: String
        let valid: Bool
        let result: Result?
    }
    struct Area: Decodable, Sendable {
        let area, provinceFa, provinceEn: String
    }
    struct Postal: Decodable, Sendable {
        let input, level: String
        let canonical: String?
    }
    struct JalaliDay: Decodable, Sendable {
        let jalali: String
        let gregorian, weekday: String?
        let valid: Bool
    }

    let text: [Text]
    let textSameKey, textSameJoined, textMustDiffer: [[String]]
    let phoneticSame, phoneticMustDiffer: [SoundPair]
    let namePairs: [NamePair]
    let namePrefix: NamePrefix
    let nationalCode, nationalCodeDisagreements, legalId, iban: [Code]
    let phone: [Phone]
    let areaCodes: [Area]
    let postalCode: [Postal]
    let jalali: [JalaliDay]
    let jalaliLeapYearsSample: [Int]

    static let shared: PersianVectors = {
        let file = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "Vectors/persian-vectors.json")
        do {
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            return try decoder.decode(PersianVectors.self, from: Data(contentsOf: file))
        } catch {
            fatalError("The vectors beside the tests cannot be read: \(error)")
        }
    }()
}

/// The bytes of a text: Swift's `==` is canonical, SQLite compares bytes.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// A generator whose every run can be repeated: the seed is printed, and taken from `PEYVAND_TEST_SEED`.
struct SeededGenerator: RandomNumberGenerator {
    let seed: UInt64
    private var state: UInt64

    init(_ purpose: String) {
        let given = ProcessInfo.processInfo.environment["PEYVAND_TEST_SEED"].flatMap { UInt64($0) }
        seed = given ?? UInt64.random(in: 1...UInt64.max >> 16)
        state = seed
        print("\(purpose): seed \(seed)")
    }

    // SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
