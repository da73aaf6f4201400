import ArgumentParser
import CZstd
import Foundation
import SyncProtocol

/// Trains a dictionary for small change sets.
@main
struct PeyvandTrain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peyvand-train",
        abstract: "Trains a dictionary for the compression of small change sets, and prints it as Swift.",
        discussion: """
            Offices with invented customers write change sets of one to some rows; what those have in common is the dictionary. \
            How much it saves is measured on other offices, and told on standard error.
            """
    )

    @Option(help: "The number that frames will name it by; the last one in use and one more.")
    var number = CompressionDictionary.firstNumber

    @Option(help: "What the file calls it.")
    var name = "firstDictionary"

    @Option(help: "How many bytes it may have.")
    var bytes = 8192

    @Option(help: "What the offices are drawn from.")
    var seed: UInt64 = 1

    @Option(help: "How many offices it is trained on, and half as many it is measured on.")
    var offices = 8

    @Option(help: "How many change sets each writes.")
    var changes = 1500

    func validate() throws {
        guard bytes >= 1024, offices > 1, changes > 9 else {
            throw ValidationError("--bytes needs 1024 or more, --offices 2, --changes 10.")
        }
    }

    func run() throws {
        let training = try contents(of: 0..<offices)
        let dictionary = try train(training)
        try measure(dictionary, on: contents(of: offices..<(offices + offices / 2)))
        print("// Made by `scripts/train-dictionary`, never by hand, and never changed: logs hold frames that need it.")
        print("let \(name): StaticString = \"\"\"")
        for start in stride(from: 0, to: dictionary.count, by: 60) {
            let line = dictionary[start..<min(start + 60, dictionary.count)]
            print("    " + line.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())
        }
        print("    \"\"\"")
    }

    private func contents(of numbers: Range<Int>) throws -> [[UInt8]] {
        try numbers.flatMap { number in
            var office = try SampleOffice(seed: seed &+ UInt64(number))
            return try office.contents(changes).filter { $0.count <= CompressionDictionary.contentBytesMax }
        }
    }

    private func train(_ samples: [[UInt8]]) throws -> [UInt8] {
        let joined = samples.flatMap { $0 }
        let sizes = samples.map(\.count)
        let trained = try checked("train on \(samples.count) change sets", bytes) {
            ZDICT_trainFromBuffer($0, bytes, joined, sizes, UInt32(sizes.count))
        }
        // The trainer puts the best at the end, behind tables of its own and a number drawn by chance.
        let content = Array(trained.dropFirst(ZDICT_getDictHeaderSize(trained, trained.count)))
        var parameters = ZDICT_params_t()
        parameters.dictID = number
        return try checked("finish the dictionary", bytes) {
            ZDICT_finalizeDictionary($0, bytes, content, content.count, joined, sizes, UInt32(sizes.count), parameters)
        }
    }

    private func checked(_ what: String, _ size: Int, _ body: (UnsafeMutableRawPointer?) -> Int) throws -> [UInt8] {
        var result = [UInt8](repeating: 0, count: size)
        let count = result.withUnsafeMutableBytes { body($0.baseAddress) }
        guard ZDICT_isError(count) == 0 else {
            throw ValidationError("zstd could not \(what): \(String(cString: ZDICT_getErrorName(count))).")
        }
        return Array(result.prefix(count))
    }

    private func measure(_ dictionary: [UInt8], on samples: [[UInt8]]) throws {
        let context = ZSTD_createCCtx()
        defer { ZSTD_freeCCtx(context) }
        var output = [UInt8](repeating: 0, count: ZSTD_compressBound(CompressionDictionary.contentBytesMax))
        for (name, sizes) in [("up to 256 bytes", 0...256), ("up to 1 KiB", 257...1024), ("larger", 1025...1 << 20)] {
            let chosen = samples.filter { sizes.contains($0.count) }
            var counts = (plain: 0, without: 0, with: 0)
            for sample in chosen {
                counts.plain += sample.count
                for (isWith, dictionary) in [(false, []), (true, dictionary)] {
                    let count = ZSTD_compress_usingDict(
                        context,
                        &output,
                        output.count,
                        sample,
                        sample.count,
                        dictionary,
                        dictionary.count,
                        ZSTD_defaultCLevel()
                    )
                    // What does not become smaller stays plain.
                    if isWith {
                        counts.with += min(count, sample.count)
                    } else {
                        counts.without += min(count, sample.count)
                    }
                }
            }
            let mean = [counts.plain, counts.without, counts.with].map { $0 / max(chosen.count, 1) }
            FileHandle.standardError.write(
                Data(
                    "\(name): \(chosen.count) change sets of \(mean[0]) bytes, compressed \(mean[1]), with it \(mean[2])\n"
                        .utf8
                )
            )
        }
    }
}
