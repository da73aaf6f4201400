import DecoderFuzzing
import Foundation

#if FUZZING
    /// libFuzzer's own command line.
    @_silgen_name("LLVMFuzzerRunDriver")
    private func runFuzzer(
        _ count: UnsafeMutablePointer<Int32>,
        _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
        _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
    ) -> Int32

    /// What libFuzzer calls with one input after the other. Zero keeps the input if it led to something new.
    @_cdecl("LLVMFuzzerTestOneInput")
    public func readInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
        PeyvandFuzz.read(Array(UnsafeBufferPointer(start: bytes, count: count)))
        return 0
    }
#endif

/// Reads inputs of decoders. Built by `scripts/fuzz` it is libFuzzer, and makes them up; else it reads those of the files
/// that are named, so that what was found can be looked at with any build.
@main
enum PeyvandFuzz {
    static func main() {
        #if FUZZING
            var (count, arguments) = (CommandLine.argc, CommandLine.unsafeArgv)
            exit(runFuzzer(&count, &arguments, readInput))
        #else
            let files = CommandLine.arguments.dropFirst()
            for file in files {
                guard let input = FileManager.default.contents(atPath: file) else {
                    FileHandle.standardError.write(Data("\(file) cannot be read.\n".utf8))
                    exit(1)
                }
                read([UInt8](input))
            }
            print("\(files.count) inputs were read, and every promise was kept.")
        #endif
    }

    fileprivate static func read(_ input: [UInt8]) {
        do { try Decoder.read(input) } catch { fatalError("\(error)") }
    }
}
