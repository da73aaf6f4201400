import Causality
import Testing

@testable import SyncProtocol

/// The limits of lines are tested beside what they bound; these are of content, and of what is made of it.
@Suite("Limits of content")
struct LimitTests {
    /// A change set of one new row of a table of so many columns.
    private func content(_ values: [FieldValue]) throws -> [UInt8] {
        let columns = ColumnMask(first: values.count + 1).subtracting(ColumnMask(column: 0))
        let row = RowChange(
            id: RowID(origin: .child, counter: 1),
            operation: .birth,
            columns: columns,
            values: values
        )
        return try ChangeSet(
            header: ChangeSetHeader(
                id: ChangeSetID(origin: .child, seq: 1),
                schemaVersion: 1,
                context: CausalContext(lives: [], hubs: []),
                previousChain: ChangeChain.empty.prefix
            ),
            tables: [TableChanges(number: 1, columnCount: values.count + 1, rows: [row])]
        ).content()
    }

    private func isTaken(_ content: [UInt8]) -> Bool {
        content.withUnsafeBytes { (try? ChangeSetReader($0)) != nil }
    }

    @Test("A text of the longest length is taken, one byte more is not", arguments: [-1, 0, 1])
    func text(extra: Int) throws {
        let text = String(repeating: "x", count: SyncLimits.textBytesMax + extra)
        #expect(isTaken(try content([.text(text)])) == (extra <= 0))
        // Counted in bytes, not in letters.
        let letters = String(repeating: "ی", count: SyncLimits.textBytesMax / 2) + (extra > 0 ? "x" : "")
        #expect(isTaken(try content([.text(letters)])) == (extra <= 0))
    }

    @Test("A value of bytes of the greatest size is taken, one byte more is not", arguments: [-1, 0, 1])
    func blob(extra: Int) throws {
        let bytes = [UInt8](repeating: 7, count: SyncLimits.blobBytesMax + extra)
        #expect(isTaken(try content([.blob(bytes)])) == (extra <= 0))
    }

    @Test("A table of as many columns as there may be is taken, one more is not", arguments: [62, 63])
    func columns(valueCount: Int) throws {
        let content = try content([FieldValue](repeating: .integer(5), count: valueCount))
        #expect(isTaken(content))
        guard valueCount + 1 == SyncLimits.columnsMax else { return }
        // Nothing that we have writes another column, so the count is changed in the bytes, wherever it stands.
        let places = content.indices.filter { content[$0] == UInt8(SyncLimits.columnsMax) }
        #expect(!places.isEmpty)
        for place in places {
            var more = content
            more[place] += 1
            #expect(!isTaken(more))
        }
    }

    @Test(
        "What decompresses to the limit is opened, a byte more is refused by its announcement",
        arguments: [-1, 0, 1]
    )
    func decompression(extra: Int) throws {
        let size = 10_000
        let frame = ZstdCompressor().compress([UInt8](repeating: 0, count: size + extra))
        let decompressor = ZstdDecompressor()
        let opened = Result { try frame.withUnsafeBytes { try decompressor.decompress($0, sizeMax: size).count } }
        switch opened {
        case .success(let count): #expect(extra <= 0 && count == size + extra)
        case .failure(let failure):
            #expect(extra > 0 && failure as? ZstdFailure == .tooLarge(UInt64(size + extra), limit: size))
        }
    }

    @Test("A message may grow by the greatest factor, and by no more", arguments: [-1, 0, 1])
    func ratio(extra: Int) throws {
        let frame = ZstdCompressor().compress([UInt8](repeating: 0, count: 100_000))
        var limits = SyncLimits()
        limits.ratioFreeBytesMax = 100_000 + extra
        limits.decompressionRatioMax = 1
        let framed = FramedMessage(type: MessageType.changes.rawValue, payload: [1] + frame)
        do {
            _ = try SyncMessageCodec(limits: limits).decode(framed)
            Issue.record("Zeros were taken for a batch.")
        } catch {
            // Within the limit it is opened, and found to be no batch.
            if case .compressed(_, .tooLarge) = error {
                #expect(extra < 0)
            } else {
                #expect(extra >= 0)
            }
        }
    }
}
