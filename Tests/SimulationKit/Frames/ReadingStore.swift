import CRM
import Causality
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// Answers a session as a store does, without one: it reads all that comes with the readers of the real store, takes
/// what they take, refuses what they refuse, and keeps nothing.
final class ReadingStore {
    private let tape: FrameTape
    private let compressor = ZstdCompressor()
    private let decompressor = ZstdDecompressor()
    private let scratch = TemporaryDirectory()
    /// How much of the child's work has come, at a hub.
    var received: UInt64 = 0
    /// What was taken for something else than it is.
    private(set) var violations: [String] = []
    /// Contents that the readers have taken, and refused.
    private(set) var taken = 0
    private(set) var refused = 0
    /// What a session has wanted to be done with what came.
    private(set) var changes = 0

    init(_ tape: FrameTape) { self.tape = tape }

    func takeViolations() -> [String] {
        defer { violations = [] }
        return violations
    }

    /// What the session is told of an action; nil when it waits for nothing.
    func perform(_ action: SyncSession.Action, isHub: Bool, _ random: inout SeededRandom) -> SyncSession.Event? {
        switch action {
        case .send, .startTimer, .joined, .close, .record:
            return nil
        case .readFacts:
            guard !tape.hellos.isEmpty else { return nil }
            return .factsRead(.success(tape.hellos[random.below(tape.hellos.count)]))
        case .adoptWelcome:
            changes += 1
            return .welcomeAdopted(.success(step(&random)))
        case .takeAnswer(let answer, let question):
            changes += 1
            return .stepDecided(result(of: { try read(answer, to: question) }, step(&random)))
        case .consult:
            return .stepDecided(.success(step(&random)))
        case .answer(let question, _):
            changes += 1
            let answer = tape.answers[question.kind] ?? SyncAnswer(payload: question.payload)
            return .answered(result(of: { try read(question) }, answer))
        case .decideJoin:
            changes += 1
            return .joinDecided(.failure(.refused(Refusal(.invitationUnknown, "There is no such invitation."))))
        case .decideWelcome(let hello, _):
            changes += 1
            return welcome(hello, &random)
        case .readBatch(let request):
            return .batchRead(.success(batch(request, &random)))
        case .readPart(let part):
            let count = min(part.bytesMax, part.body.byteCount - part.offset, 2048)
            guard count > 0 else { return .partRead(.failure(.unavailable("There is no such part."))) }
            return .partRead(.success([UInt8](repeating: 7, count: count)))
        case .openSpool(let body, _):
            changes += 1
            return .spooled(.success(random.oneIn(3) ? body.byteCount : 0))
        case .spool(let bytes, let offset, _, _):
            changes += 1
            return .spooled(.success(offset + bytes.count))
        case .apply(let batches, _):
            changes += 1
            return .applied(result(of: { try read(batches) }, outcome(batches, isHub: isHub)))
        case .readRoot:
            return .rootRead(.success(random.oneIn(2) ? nil : DatabaseRoot(first: 1, second: 2, rows: 3)))
        }
    }

    private func result<Value>(of read: () throws -> Void, _ value: Value) -> Result<Value, SyncStoreFailure> {
        do {
            try read()
            taken += 1
            return .success(value)
        } catch {
            refused += 1
            return .failure(.refused(error as? Refusal ?? Refusal(.invalidChange, "It cannot be read.")))
        }
    }

    private func step(_ random: inout SeededRandom) -> SyncStep {
        guard random.oneIn(3), !tape.questions.isEmpty else { return random.oneIn(30) ? .reconnect : .goOn }
        return .ask(tape.questions[random.below(tape.questions.count)])
    }

    private func welcome(_ hello: Hello, _ random: inout SeededRandom) -> SyncSession.Event {
        guard !random.oneIn(8), !tape.welcomes.isEmpty else {
            return .welcomeDecided(.failure(.unavailable("The disk is full.")))
        }
        var welcome = tape.welcomes[random.below(tape.welcomes.count)]
        welcome.repeatsHello = false
        if random.oneIn(2) {
            (welcome.acceptedSeq, welcome.acceptedChain) = (hello.ownSeq, hello.ownChain)
            welcome.end = hello.cursor
        }
        received = welcome.acceptedSeq
        return .welcomeDecided(.success(welcome))
    }

    private func batch(_ request: ReadRequest, _ random: inout SeededRandom) -> OutgoingBatch {
        let none = ChangeBatch(firstPosition: 0, entries: [], end: .empty)
        var batch = none
        if !random.oneIn(3), !tape.bodies.isEmpty {
            let entries = (0...random.below(3)).map { _ in tape.bodies[random.below(tape.bodies.count)] }
            switch request {
            case .own(let seq, _, _):
                // There is no log beyond what a file can number.
                if seq < UInt64(Int64.max) - 8 { batch.entries = entries }
            case .log(let position, _, _, _):
                if position < UInt64(Int64.max) - 8 {
                    let end = LogPrefix(position: position + UInt64(entries.count), digest: position)
                    batch = ChangeBatch(firstPosition: position + 1, entries: entries, end: end)
                }
            }
        }
        let count = batch.entries.count
        return OutgoingBatch(batch: batch, changeSets: count, rows: count, isAtEnd: count == 0 || random.oneIn(2))
    }

    private func outcome(_ batches: [ChangeBatch], isHub: Bool) -> ApplyOutcome {
        ApplyOutcome(
            durable: isHub ? .seq(received, chain: 7) : .position(batches.last?.end ?? .empty),
            changeSets: 1,
            rows: 1,
            conflicts: 0,
            parked: 0
        )
    }

    // MARK: Reading

    private func read(_ batches: [ChangeBatch]) throws {
        for entry in batches.flatMap(\.entries) {
            guard case .changeSet(let time, let body) = entry else { continue }
            // What the real store makes of it besides, to keep it, takes longer than reading it.
            if !body.isCompressed, body.bytes.first != StoredContent.redactedFirstByte, body.bytes.count % 4 != 0 {
                do {
                    let changeSet = try body.bytes.withUnsafeBytes { ChangeSet(try ChangeSetReader($0)) }
                    try expectSame(changeSet)
                } catch let failure as ChangeSetFailure {
                    throw Refusal(failure)
                }
                continue
            }
            let set = try IncomingChangeSet(
                time: time,
                body: body,
                schema: .current,
                compressor: compressor,
                decompressor: decompressor,
                scratch: scratch.path
            )
            try withExtendedLifetime(set) { try expectSame(ChangeSet(set.reader)) }
        }
    }

    /// What was read is written again, and read again: it must be the same.
    private func expectSame(_ changeSet: ChangeSet) throws {
        guard let content = try? changeSet.content() else {
            violations.append("a change set was read that cannot be written: \(changeSet)")
            return
        }
        let again = content.withUnsafeBytes { content in
            (try? ChangeSetReader(content)).map { ChangeSet($0) }
        }
        if again != changeSet { violations.append("a change set is another one when it is written: \(changeSet)") }
    }

    private func copied(_ bytes: [UInt8]) throws -> (Int, [TableStates]) {
        let reader = try bytes.withUnsafeBytes { try RowStatesReader($0, decompressor: decompressor) }
        // What is shown are views into what the reader holds.
        return withExtendedLifetime(reader) { (reader.schemaVersion, reader.blocks.map { TableStates($0) }) }
    }

    private func readStates(_ bytes: [UInt8]) throws {
        let (version, tables) = try copied(bytes)
        let again = try? copied(RowStates.encoded(tables, schemaVersion: version, compressor: nil)).1
        guard let again else { return violations.append("rows were read that cannot be written: \(tables)") }
        for (table, written) in zip(tables, again) {
            for (row, other) in zip(table.rows, written.rows) where row != other {
                violations.append("a row is another one when it is written:\n    \(row)\n    \(other)")
            }
        }
        if again.map(\.rows.count) != tables.map(\.rows.count) {
            violations.append("rows are gone when they are written")
        }
    }

    private func read(_ question: SyncQuestion) throws {
        switch question.kind {
        case 1: _ = try ChainsQuestion(question)
        case 2: _ = try NewLifeQuestion(question)
        case 3:
            let asked = try AlreadyHaveQuestion(question)
            if asked.question != question, (try? AlreadyHaveQuestion(asked.question))?.identities != asked.identities {
                violations.append("identities are others when they are written: \(asked.identities)")
            }
        case 10:
            _ = try reading(question.payload) { reader throws(MalformedBytes) in try reader.prefixes(max: 64) }
        case 11:
            _ = try reading(question.payload) { reader throws(MalformedBytes) in try reader.vector(max: 65_536) }
        case 12:
            let offer = try reading(question.payload) { reader throws(MalformedBytes) in try reader.refillOffer() }
            var writer = ByteWriter()
            writer.write(offer)
            let again = try? reading(writer.bytes) { reader throws(MalformedBytes) in try reader.refillOffer() }
            if again != offer { violations.append("an offer is another one when it is written: \(offer)") }
        case 21:
            let place = try question.payload.withUnsafeBytes { bytes throws(MalformedBytes) in try SnapshotPlace(bytes)
            }
            let again = try? place.encoded().withUnsafeBytes { bytes throws(MalformedBytes) in try SnapshotPlace(bytes)
            }
            if again != place { violations.append("a place is another one when it is written: \(place)") }
        case 30...32:
            try question.payload.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                _ = try SharedKnowledge(&reader, child: .none)
                guard question.kind != 30 else { return }
                _ = try reader.table(.current)
                _ =
                    question.kind == 31
                    ? try reader.buckets().count : try reader.ascendingIdentifiers(max: 200).count
            }
        default: break
        }
    }

    private func read(_ answer: SyncAnswer, to question: SyncQuestion) throws {
        let payload = answer.payload
        switch question.kind {
        case 1: _ = try ChainsQuestion(question).entries(in: answer)
        case 2: _ = try NewLifeQuestion.given(in: answer)
        case 3: _ = try AlreadyHaveQuestion(question).found(in: answer)
        case 11:
            _ = try reading(payload) { reader throws(MalformedBytes) in
                (try reader.refillOutcome(), try reader.vector(max: 65_536), try reader.prefixes(max: 1))
            }
        case 12:
            _ = try reading(payload) { reader throws(MalformedBytes) in
                (try reader.refillOutcome(), try reader.varint(), try reader.prefixes(max: 1))
            }
        case 20:
            let head = try payload.withUnsafeBytes { bytes throws(MalformedBytes) in try SnapshotHead(bytes) }
            let again = try? head.encoded().withUnsafeBytes { bytes throws(MalformedBytes) in try SnapshotHead(bytes) }
            if again != head { violations.append("the head of a snapshot is another one when it is written: \(head)") }
        case 21:
            let piece = try payload.withUnsafeBytes { bytes throws(MalformedBytes) in try SnapshotPiece(bytes) }
            if case .rows(_, _, let states) = piece { try readStates(states) }
        case 32:
            let states = try payload.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                guard try reader.byte() == 1 else { return [UInt8]() }
                _ = try reader.varint()
                return [UInt8](try reader.raw(reader.remaining))
            }
            if !states.isEmpty { try readStates(states) }
        case 40:
            guard let signed = SignedReceipt(payload: payload) else { throw Refusal(.invalidChange, "No receipt.") }
            let statement = try ReceiptStatement(bytes: signed.statement)
            if (try? ReceiptStatement(bytes: statement.bytes)) != statement {
                violations.append("a receipt is another one when it is written: \(statement)")
            }
        default: break
        }
    }
}
