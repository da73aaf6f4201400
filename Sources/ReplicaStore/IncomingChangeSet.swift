import CRM
import Causality
import SyncProtocol

/// A change set that has arrived: decompressed, validated, and ready for the writer.
///
/// Made outside the writer's turn. Keeps the bytes that its reader looks at.
final class IncomingChangeSet {
    let time: HybridTimestamp
    let reader: ChangeSetReader
    /// What the log will keep.
    let body: [UInt8]
    let content: UnsafeRawBufferPointer
    private let storage: UnsafeMutableRawBufferPointer

    /// - Throws: ``Refusal`` when the bytes are not a change set, or hold what no node of ours would write.
    init(
        time: HybridTimestamp,
        body: ChangeBody,
        schema: Schema,
        compressor: ZstdCompressor,
        decompressor: ZstdDecompressor
    ) throws {
        var content = body.bytes
        if body.isCompressed {
            do {
                content = try body.bytes.withUnsafeBytes { bytes in
                    try decompressor.decompress(bytes, sizeMax: ChangeSet.contentBytesMax)
                }
            } catch {
                throw Refusal(.invalidChange, "\(error)")
            }
            self.body = body.bytes
        } else {
            let frame = compressor.compress(content)
            self.body = frame.count < content.count ? frame : content
        }
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: max(content.count, 1), alignment: 8)
        content.withUnsafeBytes { storage.copyMemory(from: $0) }
        self.storage = storage
        self.content = UnsafeRawBufferPointer(rebasing: storage[0..<content.count])
        self.time = time
        do {
            reader = try ChangeSetReader(self.content)
        } catch {
            storage.deallocate()
            throw Refusal(.invalidChange, error.description)
        }
        for block in reader.blocks {
            guard let table = schema.table(number: block.number) else { continue }
            try table.checkTypes(of: block, in: "Change set \(reader.header.id)")
        }
    }

    deinit { storage.deallocate() }
}

extension TableDescription {
    /// Checks that values have the type of their column: others would be stored as something else than was hashed.
    ///
    /// - Parameter what: What holds the values, as the sentence begins.
    func checkTypes(of block: TableBlock, in what: String) throws {
        for (number, form) in block.storedForms where number < columns.count {
            let column = columns[number]
            let expected: TableBlock.StoredForm =
                column.type.isInteger ? .integers : column.type == .bytes ? .blobs : .texts
            guard form == expected else {
                throw Refusal(
                    .invalidChange,
                    "\(what) holds values of a wrong type in \(name).\(column.name). "
                        + "Check the software version of the node that made it."
                )
            }
        }
    }
}
