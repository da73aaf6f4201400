import CRM
import Causality
import SyncProtocol

/// A change set that has arrived: decompressed, validated, and ready for the writer.
///
/// Made outside the writer's turn. Keeps the bytes that its reader looks at: small ones in memory, large ones in a
/// file without a name, so that they take no more memory than the system has to spare.
final class IncomingChangeSet {
    let time: HybridTimestamp
    let reader: ChangeSetReader
    /// Columns, by table number, with values of another type than they hold: those would be stored as something
    /// else than was hashed, so the rows that have them are parked.
    let wrongTypes: [Int: ColumnMask]
    /// Whether it comes out of this node's own log.
    private(set) var isLogged = false
    /// What the log will keep.
    let body: StoredBody
    /// When rows of it were erased: what stands for its chain.
    let redaction: Redaction?
    var content: UnsafeRawBufferPointer { storage.bytes }
    private let storage: ContentStorage

    /// Contents up to this size are kept in memory.
    static let memoryBytesMax = 4 << 20

    /// - Parameter scratch: The directory for large contents.
    /// - Throws: ``Refusal`` when the bytes are not a change set, or hold what no node of ours would write.
    convenience init(
        time: HybridTimestamp,
        body: ChangeBody,
        schema: Schema,
        compressor: ZstdCompressor,
        decompressor: ZstdDecompressor,
        scratch: String
    ) throws {
        if body.bytes.first == StoredContent.redactedFirstByte {
            try self.init(time: time, redacted: body.bytes, .bytes(body.bytes), schema, decompressor, scratch: scratch)
        } else if body.isCompressed {
            let storage = try body.bytes.withUnsafeBytes {
                try ContentStorage(decompressing: $0, decompressor, scratch: scratch)
            }
            try self.init(time: time, body: .bytes(body.bytes), storage: storage, schema: schema)
        } else {
            let frame = compressor.compress(body.bytes)
            try self.init(
                time: time,
                body: .bytes(frame.count < body.bytes.count ? frame : body.bytes),
                storage: ContentStorage(copying: body.bytes),
                schema: schema
            )
        }
    }

    /// A change set whose body came in parts.
    convenience init(
        time: HybridTimestamp,
        file: MappedFile,
        schema: Schema,
        decompressor: ZstdDecompressor,
        scratch: String
    ) throws {
        if file.bytes.first == StoredContent.redactedFirstByte {
            try self.init(time: time, redacted: Array(file.bytes), .file(file), schema, decompressor, scratch: scratch)
            return
        }
        let isCompressed = file.bytes.first == Replica.zstdFirstByte
        let storage =
            isCompressed
            ? try ContentStorage(decompressing: file.bytes, decompressor, scratch: scratch) : ContentStorage(file)
        try self.init(time: time, body: .file(file), storage: storage, schema: schema)
    }

    /// A change set of this node's own log, some of whose rows are taken now.
    convenience init(time: HybridTimestamp, logged content: ContentStorage, schema: Schema) throws {
        try self.init(time: time, body: .bytes([]), storage: content, schema: schema)
        isLogged = true
    }

    /// What an erasure has left of a change set.
    private convenience init(
        time: HybridTimestamp,
        redacted bytes: [UInt8],
        _ body: StoredBody,
        _ schema: Schema,
        _ decompressor: ZstdDecompressor,
        scratch: String
    ) throws {
        guard let left = StoredContent(bytes) else {
            throw Refusal(.invalidChange, "What is left of a change set after an erasure ends too early.")
        }
        let storage =
            left.isCompressed
            ? try left.stored.withUnsafeBytes { try ContentStorage(decompressing: $0, decompressor, scratch: scratch) }
            : ContentStorage(copying: Array(left.stored))
        try self.init(time: time, body: body, redaction: left.redaction, storage: storage, schema: schema)
    }

    private init(
        time: HybridTimestamp,
        body: StoredBody,
        redaction: Redaction? = nil,
        storage: ContentStorage,
        schema: Schema
    ) throws {
        self.time = time
        self.body = body
        self.redaction = redaction
        self.storage = storage
        do {
            reader = try ChangeSetReader(storage.bytes)
        } catch {
            throw Refusal(error)
        }
        wrongTypes = reader.blocks.reduce(into: [:]) { found, block in
            guard let columns = schema.table(number: block.number)?.wrongTypes(in: block), !columns.isEmpty else {
                return
            }
            found[block.number] = columns
        }
    }
}

extension TableDescription {
    /// The columns of a block with values of another type than they hold: others would be stored as something
    /// else than was hashed.
    func wrongTypes(in block: TableBlock) -> ColumnMask {
        var found = ColumnMask()
        for (number, form) in block.storedForms where number < columns.count {
            let column = columns[number]
            let expected: TableBlock.StoredForm =
                column.type.isInteger ? .integers : column.type == .bytes ? .blobs : .texts
            if form != expected { found.formUnion(ColumnMask(column: number)) }
        }
        return found
    }

    /// Checks that values have the type of their column.
    ///
    /// - Parameter what: What holds the values, as the sentence begins.
    func checkTypes(of block: TableBlock, in what: String) throws {
        for column in wrongTypes(in: block).numbers {
            throw Refusal(
                .invalidChange,
                "\(what) holds values of a wrong type in \(name).\(columns[column].name). "
                    + "Check the software version of the node that made it."
            )
        }
    }
}

extension Refusal {
    /// What a node says about a change set that it cannot read.
    init(_ failure: ChangeSetFailure) {
        if case .unknownFormat = failure {
            // Nothing is wrong with it, and coming back at once will not help.
            self.init(.protocolVersion, failure.description, retryAfterSeconds: 60)
        } else {
            self.init(.invalidChange, failure.description)
        }
    }
}

/// A body on its way into the log.
enum StoredBody {
    case bytes([UInt8])
    case file(MappedFile)
}

/// The bytes that a reader looks at, wherever they are.
final class ContentStorage {
    let bytes: UnsafeRawBufferPointer
    private let memory: UnsafeMutableRawBufferPointer?
    private let file: MappedFile?

    init(copying content: [UInt8]) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(content.count, 1), alignment: 8)
        content.withUnsafeBytes { memory.copyMemory(from: $0) }
        self.memory = memory
        file = nil
        bytes = UnsafeRawBufferPointer(rebasing: memory[0..<content.count])
    }

    init(_ file: MappedFile) {
        self.file = file
        memory = nil
        bytes = file.bytes
    }

    convenience init(
        decompressing frame: UnsafeRawBufferPointer,
        _ decompressor: ZstdDecompressor,
        scratch: String
    ) throws {
        do {
            let size = try decompressor.announcedSize(of: frame, sizeMax: ChangeSet.contentBytesMax)
            if size <= IncomingChangeSet.memoryBytesMax {
                self.init(copying: try decompressor.decompress(frame, sizeMax: size))
            } else {
                let file = try MappedFile(scratchIn: scratch, byteCount: size) {
                    try decompressor.decompress(frame, into: $0)
                }
                self.init(file)
            }
        } catch let failure as ZstdFailure {
            throw Refusal(.invalidChange, "\(failure)")
        }
    }

    deinit { memory?.deallocate() }
}
