import Causality
import Crypto

// A frame:
//
//   bytes  content
//   1-3    length of the payload, LEB128 (7 bits a byte, lowest first)
//   1      type of the message; +128: more frames of the same message follow
//   4      checksum: the first 4 bytes of the SHA-256 of length, type and payload
//   ...    payload
//
// TCP's own checksum lets a damaged segment pass now and then. A change set that was taken damaged would look
// like a fork of its origin for ever, and a damaged acknowledgement like a restored copy.
//
// A message is the payloads of its frames in a row. Only the last frame may be empty.

enum FrameFormat {
    static let lengthBytesMax = 3
    static let checksumBytes = 4
    /// The longest header.
    static let headerBytesMax = lengthBytesMax + 1 + checksumBytes
    static let moreFlag: UInt8 = 0x80

    static func checksum(of header: some Collection<UInt8>, _ payload: ArraySlice<UInt8>) -> [UInt8] {
        var hash = SHA256()
        hash.update(data: Array(header))
        payload.withUnsafeBytes { hash.update(bufferPointer: $0) }
        return Array(hash.finalize().prefix(checksumBytes))
    }
}

extension FramedMessage {
    /// How many frames the message takes.
    package func frameCount(limits: SyncLimits = .standard) -> Int {
        let each = limits.framePayloadBytesMax
        return max(1, (payload.count + each - 1) / each)
    }

    /// The header of one frame, and which part of ``payload`` follows it.
    ///
    /// - Precondition: `index` is less than ``frameCount(limits:)``.
    package func frame(
        _ index: Int,
        limits: SyncLimits = .standard
    ) -> (header: [UInt8], payload: ArraySlice<UInt8>) {
        let count = frameCount(limits: limits)
        precondition(index >= 0 && index < count, "The message has \(count) frames")
        let each = limits.framePayloadBytesMax
        let part = payload[(index * each)..<min((index + 1) * each, payload.count)]
        var writer = ByteWriter(capacity: FrameFormat.headerBytesMax)
        writer.varint(UInt64(part.count))
        writer.byte(index + 1 < count ? type | FrameFormat.moreFlag : type)
        let header = writer.bytes
        return (header + FrameFormat.checksum(of: header, part), part)
    }

    /// All frames in a row, for messages that are known to be small, and tests.
    package func frames(limits: SyncLimits = .standard) -> [UInt8] {
        var bytes: [UInt8] = []
        for index in 0..<frameCount(limits: limits) {
            let frame = frame(index, limits: limits)
            bytes += frame.header
            bytes += frame.payload
        }
        return bytes
    }
}

/// Cuts a stream of bytes into messages, however the line chopped it up.
///
/// Holds what was fed and not taken yet, and the message that is being put together: take messages until
/// there are none after every ``feed(_:)``. After an error it only repeats that error.
package struct FrameDecoder: Sendable {
    private let limits: SyncLimits
    private var isTrusted = false
    private var buffer: [UInt8] = []
    private var start = 0
    private var partial: FramedMessage?
    private var failure: SyncWireFailure?

    package init(limits: SyncLimits = .standard) {
        self.limits = limits
    }

    /// Accepts messages of full size from here on: the peer has been let in.
    package mutating func trustPeer() {
        isTrusted = true
    }

    /// Takes bytes from the line.
    package mutating func feed(_ bytes: some Collection<UInt8>) {
        guard failure == nil else { return }
        if start > 0 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// Returns the next whole message, or nil when more bytes are needed.
    ///
    /// - Throws: ``SyncWireFailure`` as soon as a length or type shows that nothing good can follow.
    package mutating func next() throws(SyncWireFailure) -> FramedMessage? {
        if let failure { throw failure }
        do throws(SyncWireFailure) {
            return try takeMessage()
        } catch {
            failure = error
            buffer = []
            start = 0
            partial = nil
            throw error
        }
    }

    private mutating func takeMessage() throws(SyncWireFailure) -> FramedMessage? {
        while let frame = try takeFrame() {
            let type = frame.type & ~FrameFormat.moreFlag
            var message: FramedMessage
            if let partial {
                guard partial.type == type else { throw .mixedFrames(type: type, after: partial.type) }
                message = partial
            } else {
                message = FramedMessage(type: type, payload: [])
            }
            // Only one owner left, so appending does not copy what came before.
            partial = nil
            message.payload += buffer[frame.payload]
            start = frame.payload.upperBound
            if frame.type & FrameFormat.moreFlag == 0 { return message }
            partial = message
        }
        return nil
    }

    /// Checks the next frame and returns where its payload lies; nil when it is not all there.
    private func takeFrame() throws(SyncWireFailure) -> (type: UInt8, payload: Range<Int>)? {
        let payloadBytesMax =
            isTrusted
            ? limits.framePayloadBytesMax
            : min(limits.framePayloadBytesMax, limits.unauthenticatedBytesMax - FrameFormat.headerBytesMax)
        let messageBytesMax = isTrusted ? limits.messageBytesMax : limits.unauthenticatedBytesMax
        var length = 0
        var cursor = start
        while true {
            guard cursor < buffer.count else { return nil }
            length |= Int(buffer[cursor] & 0x7F) << (7 * (cursor - start))
            cursor += 1
            guard length <= payloadBytesMax else { throw .frameTooLarge(bytes: UInt64(length), limit: payloadBytesMax) }
            if buffer[cursor - 1] < 0x80 { break }
            guard cursor - start < FrameFormat.lengthBytesMax else { throw .frameLength }
        }
        let total = length + (partial?.payload.count ?? 0)
        guard total <= messageBytesMax else { throw .messageTooLarge(bytes: total, limit: messageBytesMax) }
        guard cursor < buffer.count else { return nil }
        let type = buffer[cursor]
        cursor += 1
        // Refused before its payload is waited for.
        let number = type & ~FrameFormat.moreFlag
        guard MessageType(rawValue: number) != nil else { throw .unknownType(number) }
        if length == 0, type != number { throw .emptyFrame(type: number) }
        let first = cursor + FrameFormat.checksumBytes
        guard buffer.count - first >= length else { return nil }
        let checksum = FrameFormat.checksum(of: buffer[start..<cursor], buffer[first..<first + length])
        guard buffer[cursor..<first].elementsEqual(checksum) else {
            throw .damagedFrame(type: number, bytes: length)
        }
        return (type, first..<first + length)
    }
}

extension SyncLimits {
    /// What fits into one frame.
    package var framePayloadBytesMax: Int { frameBytesMax - FrameFormat.headerBytesMax }
}
