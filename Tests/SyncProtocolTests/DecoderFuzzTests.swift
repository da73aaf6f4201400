import Causality
import DecoderFuzzing
import Foundation
import TestKit
import Testing

@testable import SyncProtocol

@Suite("Decoders and arbitrary bytes")
struct DecoderFuzzTests {
    private static let corpus: [[UInt8]] = {
        let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("FuzzCorpus")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return names.sorted().compactMap {
            FileManager.default.contents(atPath: directory.path + "/" + $0).map(Array.init)
        }
    }()

    @Test("Inputs that fuzzers kept are read or refused, and keep every promise")
    func corpus() throws {
        #expect(Set(Self.corpus.compactMap(\.first)).count == Decoder.allCases.count)
        for input in Self.corpus { try Decoder.read(input) }
    }

    @Test("A short run: inputs that nobody has seen yet keep every promise")
    func shortRun() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var mutator = InputMutator(seed: seed)
        for number in 0..<20_000 {
            let input = mutator.mutated(Self.corpus)
            do { try Decoder.read(input) } catch {
                Issue.record("seed \(seed), input \(number): \(error): \(Data(input).base64EncodedString())")
                return
            }
        }
    }
}
