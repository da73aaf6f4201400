import CRM
import Causality
import SyncProtocol

/// What reads bytes that come from elsewhere: the line, a file, a person's keyboard.
///
/// A fuzzer's input is the number of one of them and then its bytes. Arbitrary bytes are read or refused, never trap, and
/// what is read says the same when it is written and read again.
package enum Decoder: UInt8, CaseIterable, Sendable {
    case frames, strangersFrames, message, changeSet, rowStates, snapshotHead, snapshotPlace, snapshotPiece
    case receipt, compressed, text, code, day

    /// A promise that some bytes have broken.
    package struct Broken: Error, Hashable, Sendable, CustomStringConvertible {
        package let decoder: Decoder
        package let promise: String

        package var description: String { "\(decoder): \(promise)" }
    }

    /// More than this shows nothing that less does not.
    package static let bytesMax = 1 << 20

    /// Reads an input. Whether its bytes are good or bad does not matter.
    ///
    /// - Throws: ``Broken``.
    package static func read(_ input: [UInt8]) throws(Broken) {
        guard let first = input.first, input.count <= bytesMax else { return }
        let decoder = allCases[Int(first) % allCases.count]
        try decoder.read(Array(input.dropFirst()))
    }

    /// The input that gives bytes to this decoder.
    package func input(_ bytes: [UInt8]) -> [UInt8] { [rawValue] + bytes }

    private func read(_ bytes: [UInt8]) throws(Broken) {
        switch self {
        case .frames: try frames(bytes, isTrusted: true)
        case .strangersFrames: try frames(bytes, isTrusted: false)
        case .message: try message(bytes)
        case .changeSet: try changeSet(bytes)
        case .rowStates: try rowStates(bytes)
        case .snapshotHead: try same(bytes) { try? SnapshotHead($0).encoded() }
        case .snapshotPlace: try same(bytes) { try? SnapshotPlace($0).encoded() }
        case .snapshotPiece: try same(bytes) { try? SnapshotPiece($0).encoded() }
        case .receipt: try same(bytes) { _ in try? ReceiptStatement(bytes: bytes).bytes }
        case .compressed: try compressed(bytes)
        case .text: try text(String(decoding: bytes, as: UTF8.self))
        case .code: code(String(decoding: bytes, as: UTF8.self))
        case .day: try day(String(decoding: bytes, as: UTF8.self))
        }
    }

    private func promise(_ isKept: Bool, _ promise: String) throws(Broken) {
        guard isKept else { throw Broken(decoder: self, promise: promise) }
    }

    // MARK: The line

    /// However a line chops bytes, the same messages come out, and the same refusal ends them.
    private func frames(_ bytes: [UInt8], isTrusted: Bool) throws(Broken) {
        let whole = Self.messages(in: bytes, step: max(bytes.count, 1), isTrusted)
        for step in [1, 7] where bytes.count < 4096 {
            try promise(Self.messages(in: bytes, step: step, isTrusted) == whole, "chopped bytes read differently")
        }
        let again = whole.messages.flatMap { $0.frames() }
        try promise(
            Self.messages(in: again, step: again.count, isTrusted).messages == whole.messages,
            "written differently"
        )
        let limits = SyncLimits.standard
        let most = isTrusted ? limits.messageBytesMax : limits.unauthenticatedBytesMax
        try promise(whole.messages.allSatisfy { $0.payload.count <= most }, "a message above its limit was taken")
    }

    private struct Taken: Hashable {
        var messages: [FramedMessage] = []
        var failure: SyncWireFailure?
    }

    private static func messages(in bytes: [UInt8], step: Int, _ isTrusted: Bool) -> Taken {
        var decoder = FrameDecoder()
        if isTrusted { decoder.trustPeer() }
        var taken = Taken()
        do throws(SyncWireFailure) {
            for start in stride(from: 0, to: bytes.count, by: max(step, 1)) {
                decoder.feed(bytes[start..<min(start + step, bytes.count)])
                while let message = try decoder.next() { taken.messages.append(message) }
            }
        } catch {
            taken.failure = error
        }
        return taken
    }

    private func message(_ bytes: [UInt8]) throws(Broken) {
        guard let type = bytes.first else { return }
        let codec = SyncMessageCodec()
        let framed = FramedMessage(type: type & 0x7F, payload: Array(bytes.dropFirst()))
        guard let message = try? codec.decode(framed) else { return }
        try promise((try? codec.decode(codec.encode(message))) == message, "read again, it says something else")
    }

    // MARK: Rows

    /// Shapes and forms of columns are the writer's choice, so other bytes may say the same.
    private func changeSet(_ bytes: [UInt8]) throws(Broken) {
        func changeSet(_ bytes: [UInt8]) -> ChangeSet? {
            bytes.withUnsafeBytes { try? ChangeSet(ChangeSetReader($0)) }
        }
        guard let read = changeSet(bytes) else { return }
        guard let written = try? read.content() else { return try promise(false, "what was taken cannot be written") }
        try promise(changeSet(written) == read, "read again, it says something else")
        try promise((try? changeSet(written)?.content()) == written, "written again, it has other bytes")
    }

    private func rowStates(_ bytes: [UInt8]) throws(Broken) {
        let decompressor = ZstdDecompressor()
        func tables(_ bytes: [UInt8]) -> (version: Int, tables: [TableStates])? {
            bytes.withUnsafeBytes { buffer in
                guard let reader = try? RowStatesReader(buffer, decompressor: decompressor) else { return nil }
                return (reader.schemaVersion, reader.blocks.map(TableStates.init))
            }
        }
        guard let read = tables(bytes) else { return }
        let written = try? RowStates.encoded(read.tables, schemaVersion: read.version, compressor: nil)
        // A table without rows is lawful, and not written.
        let kept = read.tables.filter { !$0.rows.isEmpty }
        let again = written.flatMap(tables)
        try promise(again?.tables == kept && again?.version == read.version, "read again, it says something else")
    }

    private func compressed(_ bytes: [UInt8]) throws(Broken) {
        let decompressor = ZstdDecompressor()
        let content = bytes.withUnsafeBytes { try? decompressor.decompress($0, sizeMax: Self.bytesMax) }
        guard let content else { return }
        let frame = ZstdCompressor().compress(content)
        let again = frame.withUnsafeBytes { try? decompressor.decompress($0, sizeMax: Self.bytesMax) }
        try promise(again == content, "compressed again, it is something else")
    }

    /// What is taken is just what would be written.
    private func same(_ bytes: [UInt8], _ written: (UnsafeRawBufferPointer) -> [UInt8]?) throws(Broken) {
        guard let again = bytes.withUnsafeBytes({ written($0) }) else { return }
        let hexadecimal = again.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        try promise(again == bytes, "what was taken would be written as \(hexadecimal)")
    }

    // MARK: What people type

    private func text(_ text: String) throws(Broken) {
        let forms: [(String, (String) -> String)] = [
            ("display", PersianText.display), ("key", PersianText.key), ("joined", PersianText.joined),
            ("digits", PersianText.foldDigits),
        ]
        for (name, form) in forms {
            let once = form(text)
            try promise(form(once) == once, "\(name) of \(name) is another")
        }
        try promise(
            PersianText.key(PersianText.display(text)) == PersianText.key(text),
            "what is shown has another key"
        )
        _ = PersianText.phon(text)
    }

    private func code(_ text: String) {
        _ = NationalCode.read(text)
        _ = LegalIdentifier.read(text)
        _ = PhoneNumber.read(text, branchAreaCode: "21")
        _ = PostalCode.read(text)
        _ = IBAN.read(text)
    }

    private func day(_ text: String) throws(Broken) {
        guard let day = try? JalaliCalendar.read(text) else { return }
        try promise((try? JalaliCalendar.read(day)) == day, "a day that was read is read as another")
        if let jalali = JalaliCalendar.text(ofDay: day) {
            try promise((try? JalaliCalendar.read(jalali)) == day, "a day's Jalali form is read as another")
        }
    }
}
