import DecoderFuzzing

@testable import SyncProtocol

extension FrameTape {
    /// One short input for each kind of message and content that was recorded: what fuzzers begin with.
    package func fuzzerInputs() -> [[UInt8]] {
        var inputs: [[UInt8]] = []
        func add(_ decoder: Decoder, _ bytes: [UInt8]) {
            if bytes.count <= 4096 { inputs.append(decoder.input(bytes)) }
        }
        for kind in kinds {
            let shortest = kind.map { arrivals[$0].message }.min { $0.payload.count < $1.payload.count }
            guard let shortest else { continue }
            add(.message, [shortest.type] + shortest.payload)
            add(.frames, shortest.frames())
            add(.strangersFrames, shortest.frames())
        }
        let decompressor = ZstdDecompressor()
        for body in bodies.prefix(400) {
            guard case .changeSet(_, let body) = body else { continue }
            if body.isCompressed {
                add(.compressed, body.bytes)
                let content = try? body.bytes.withUnsafeBytes { try decompressor.decompress($0, sizeMax: 1 << 20) }
                add(.changeSet, content ?? [])
            } else {
                add(.changeSet, body.bytes)
            }
        }
        for (kind, answer) in answers.sorted(by: { $0.key < $1.key }) {
            for decoder in [Decoder.rowStates, .snapshotHead, .snapshotPiece, .receipt] {
                for start in [0, SignedReceipt.signatureByteCount] where kind > 0 && start < answer.payload.count {
                    add(decoder, Array(answer.payload.dropFirst(start)))
                }
            }
            if case .rows(_, _, let states)? = try? answer.payload.withUnsafeBytes({ try SnapshotPiece($0) }) {
                add(.rowStates, states)
            }
        }
        for question in questions.prefix(400) { add(.snapshotPlace, question.payload) }
        return inputs
    }
}
