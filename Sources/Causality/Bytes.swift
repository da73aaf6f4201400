/// Why bytes from a peer or a file could not be read. Offsets count from the start of the piece read.
package enum MalformedBytes: Error, Hashable, Sendable {
    case truncated(offset: Int, wanted: Int)
    case numberTooLong(offset: Int)
    case outOfRange(String, offset: Int)
    case leftOver(Int)
}

extension MalformedBytes: CustomStringConvertible {
    package var description: String {
        switch self {
        case .truncated(let offset, let wanted):
            "The bytes end at offset \(offset), where \(wanted) more were announced."
        case .numberTooLong(let offset): "The number at offset \(offset) does not fit 64 bits, or has a shorter form."
        case .outOfRange(let what, let offset): "Out of range at offset \(offset): \(what)."
        case .leftOver(let count): "\(count) bytes follow the end."
        }
    }
}

/// Builds canonical bytes: little-endian integers, and LEB128 numbers (7 bits a byte, lowest first).
package struct ByteWriter: Sendable {
    package private(set) var bytes: [UInt8]

    package init(capacity: Int = 0) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    package var count: Int { bytes.count }

    /// Appends one byte.
    package mutating func byte(_ value: UInt8) { bytes.append(value) }

    /// Appends bytes as they are.
    package mutating func raw(_ content: some Collection<UInt8>) { bytes.append(contentsOf: content) }

    /// Appends bytes as they are.
    package mutating func raw(_ content: UnsafeRawBufferPointer) { bytes.append(contentsOf: content) }

    /// Appends 8 bytes, the lowest first.
    package mutating func fixed64(_ value: UInt64) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Appends a number in 1 to 10 bytes.
    package mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// Appends a signed number so that small ones of either sign are short.
    package mutating func zigzag(_ value: Int64) { varint(value.zigzagEncoded) }

    /// Appends a length, then the bytes.
    package mutating func sized(_ content: some Collection<UInt8>) {
        varint(UInt64(content.count))
        bytes.append(contentsOf: content)
    }
}

extension Int64 {
    /// 0, -1, 1, -2 ... as 0, 1, 2, 3 ...
    package var zigzagEncoded: UInt64 { UInt64(bitPattern: (self << 1) ^ (self >> 63)) }

    package init(zigzag value: UInt64) {
        self = Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }
}

extension UInt64 {
    /// How many bytes ``ByteWriter/varint(_:)`` takes for this number.
    package var varintCount: Int { self == 0 ? 1 : (64 - leadingZeroBitCount + 6) / 7 }
}

/// Reads what ``ByteWriter`` writes, out of memory that outlives it. Never traps, never reads beyond
/// the end, and never believes a count before it is checked against the bytes that are left.
package struct ByteReader {
    package let buffer: UnsafeRawBufferPointer
    package private(set) var offset: Int

    package init(_ buffer: UnsafeRawBufferPointer) {
        self.buffer = buffer
        offset = 0
    }

    package var remaining: Int { buffer.count - offset }

    /// Takes one byte.
    package mutating func byte() throws(MalformedBytes) -> UInt8 {
        guard offset < buffer.count else { throw .truncated(offset: offset, wanted: 1) }
        defer { offset += 1 }
        return buffer[offset]
    }

    /// Takes 8 bytes, the lowest first.
    package mutating func fixed64() throws(MalformedBytes) -> UInt64 {
        guard remaining >= 8 else { throw .truncated(offset: offset, wanted: 8) }
        defer { offset += 8 }
        return UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// Takes a number of 1 to 10 bytes.
    package mutating func varint() throws(MalformedBytes) -> UInt64 {
        let start = offset
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard offset < buffer.count else { throw .truncated(offset: offset, wanted: 1) }
            let next = buffer[offset]
            offset += 1
            if shift == 63, next > 1 { throw .numberTooLong(offset: start) }
            value |= UInt64(next & 0x7F) << shift
            if next < 0x80 {
                // One number has one form, so that the same content cannot have two hashes.
                if next == 0, shift > 0 { throw .numberTooLong(offset: start) }
                return value
            }
            shift += 7
            if shift > 63 { throw .numberTooLong(offset: start) }
        }
    }

    /// Takes a signed number.
    package mutating func zigzag() throws(MalformedBytes) -> Int64 {
        Int64(zigzag: try varint())
    }

    /// Reads a count of things that take at least `bytesEach` bytes each of what is left.
    ///
    /// - Throws: When so many cannot follow, so that nothing is allocated for a lie.
    package mutating func count(bytesEach: Int, max: Int = .max) throws(MalformedBytes) -> Int {
        let start = offset
        let value = try varint()
        guard value <= UInt64(Swift.max(remaining, 0) / Swift.max(bytesEach, 1)), value <= UInt64(max) else {
            throw .outOfRange("a count of \(value) with \(remaining) bytes left, at most \(max)", offset: start)
        }
        return Int(value)
    }

    /// Takes the next bytes without copying them.
    package mutating func raw(_ count: Int) throws(MalformedBytes) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= remaining else { throw .truncated(offset: offset, wanted: count) }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: buffer[offset..<offset + count])
    }

    /// Takes a length, then that many bytes, without copying them.
    package mutating func sized(max: Int = .max) throws(MalformedBytes) -> UnsafeRawBufferPointer {
        try raw(try count(bytesEach: 1, max: max))
    }

    /// - Throws: When bytes are left over.
    package func finish() throws(MalformedBytes) {
        guard remaining == 0 else { throw .leftOver(remaining) }
    }
}
