import CRM
import Causality
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// Messages of real sessions between real nodes, each with its receiver as it was when the message came: what the
/// mutations begin with.
///
/// Recorded once in a process; a copy of a session is a value, so any of them can be begun again at any message.
package final class FrameTape {
    /// A message that came to somebody.
    final class Arrival {
        /// 0 is the child, 1 the hub.
        let receiver: Int
        let message: FramedMessage
        let session: SyncSession
        /// How much of the child's work has come so far, at the hub.
        let received: UInt64
        /// The question that the message answers.
        let asked: SyncQuestion?
        /// What came to the same receiver after it; nil at the end.
        fileprivate(set) var next: Int?
        let layout: Layout

        init(
            _ receiver: Int,
            _ message: FramedMessage,
            _ session: SyncSession,
            received: UInt64 = 0,
            asked: SyncQuestion? = nil
        ) {
            self.receiver = receiver
            self.message = message
            self.session = session
            self.received = received
            self.asked = asked
            layout = Layout(of: message, asked: asked?.kind)
        }
    }

    private(set) var arrivals: [Arrival] = []
    /// Arrivals by what they are: the type of the message, and what was asked.
    private(set) var kinds: [[Int]] = []
    /// Names of what ``kinds`` holds, for showing what was recorded.
    package private(set) var labels: [String] = []
    /// Change sets as they travel, by themselves.
    private(set) var bodies: [ChangeEntry] = []
    /// What a child has asked, and what the hub has answered, by the number of the question.
    private(set) var questions: [SyncQuestion] = []
    private(set) var answers: [UInt16: SyncAnswer] = [:]
    private(set) var hellos: [Hello] = []
    private(set) var welcomes: [Welcome] = []

    private let codec = SyncMessageCodec()
    private var indexes: [String: Int] = [:]

    /// Plays the scripts and listens.
    ///
    /// - Parameter isShort: Leaves out what takes long to prepare.
    package init(isShort: Bool = false) throws {
        for script in isShort ? [.comparing] : CrashScript.taped { try record(script, .standard) }
        try record(.exchange, .tight)
        addStrangers()
    }

    private func record(_ script: CrashScript, _ limits: SyncLimits) throws {
        let stage = try Stage()
        stage.limits = limits
        var ear = Ear()
        stage.onArrival = { [self] receiver, message, session in
            listen(&ear, receiver, message, session)
        }
        try script.playWhole(on: stage)
    }

    /// What is remembered of one conversation while it is listened to.
    private struct Ear {
        var asked: SyncQuestion?
        var hello: Hello?
        var received: UInt64 = 0
        /// The last arrival of each receiver.
        var last: [Int?] = [nil, nil]
    }

    private func listen(_ ear: inout Ear, _ receiver: Int, _ message: FramedMessage, _ session: SyncSession) {
        guard let message = short(message), let meaning = try? codec.decode(message) else { return }
        var variants = [message]
        var isAnswer = false
        switch meaning {
        case .hello(let hello):
            ear = Ear()
            ear.hello = hello
            hellos.append(hello)
        case .welcome(let welcome):
            ear.received = welcome.repeatsHello ? ear.hello?.ownSeq ?? 0 : welcome.acceptedSeq
            welcomes.append(welcome)
        case .ask(let question):
            ear.asked = question
            questions.append(question)
        case .answer(let answer):
            isAnswer = true
            if let asked = ear.asked { answers[asked.kind] = answer }
            if let opened = opened(answer, asked: ear.asked) {
                variants.append(codec.encode(.answer(opened)))
            }
        case .changes(let batch):
            for entry in batch.entries { if case .changeSet = entry { bodies.append(entry) } }
            variants = plain(batch) + variants
        default:
            break
        }
        for (index, variant) in variants.enumerated() {
            add(
                Arrival(
                    receiver,
                    variant,
                    session,
                    received: receiver == 1 ? ear.received : 0,
                    asked: isAnswer ? ear.asked : nil
                )
            )
            guard index == 0 else { continue }
            if let last = ear.last[receiver] { arrivals[last].next = arrivals.count - 1 }
            ear.last[receiver] = arrivals.count - 1
        }
        if case .changes(let batch) = meaning, receiver == 1 { ear.received += UInt64(batch.entries.count) }
    }

    /// Messages that are large show nothing that a short one of their kind does not.
    private func short(_ message: FramedMessage) -> FramedMessage? {
        guard message.payload.count > Self.payloadBytesMax else { return message }
        guard case .ask(var question)? = try? codec.decode(message) else { return nil }
        question.payload = Array(question.payload.prefix(Self.payloadBytesMax / 32))
        return codec.encode(.ask(question))
    }

    private static let payloadBytesMax = 48 << 10

    private func add(_ arrival: Arrival) {
        let meaning = try? codec.decode(arrival.message)
        var label = "\(arrival.receiver == 0 ? "to child" : "to hub  ") \(meaning?.label ?? "?")"
        if case .ask(let question) = meaning { label += " \(question.kind)" }
        if let asked = arrival.asked { label += " \(asked.kind)" }
        if case .changes(let batch) = meaning {
            label += arrival.message.payload.first == 0 ? " plain" : " compressed"
            if batch.largeBody != nil { label += " large" }
        }
        arrivals.append(arrival)
        if let index = indexes[label] {
            // Two hundred of a kind show all that a thousand do.
            if kinds[index].count < 200 { kinds[index].append(arrivals.count - 1) }
        } else {
            indexes[label] = kinds.count
            kinds.append([arrivals.count - 1])
            labels.append(label)
        }
    }

    /// The message without compression, of the message and of its bodies, so that its fields can be found.
    private func plain(_ batch: ChangeBatch) -> [FramedMessage] {
        var whole = batch
        let decompressor = ZstdDecompressor()
        for (index, entry) in whole.entries.enumerated() {
            guard case .changeSet(let time, var body) = entry, body.isCompressed,
                let content = try? body.bytes.withUnsafeBytes({ try decompressor.decompress($0, sizeMax: 1 << 20) })
            else { continue }
            body = ChangeBody(isCompressed: false, bytes: content)
            whole.entries[index] = .changeSet(time: time, body: body)
        }
        let compressed = codec.encode(.changes(whole))
        var stripped = compressed
        if compressed.payload.first == 1 {
            let frame = Array(compressed.payload.dropFirst())
            guard let bytes = try? frame.withUnsafeBytes({ try decompressor.decompress($0, sizeMax: 2 << 20) }) else {
                return []
            }
            stripped.payload = [0] + bytes
        }
        return stripped == compressed ? [stripped] : [stripped, compressed]
    }

    /// Row states without their compression.
    private func opened(_ answer: SyncAnswer, asked: SyncQuestion?) -> SyncAnswer? {
        guard let kind = asked?.kind, kind == 21 || kind == 32 else { return nil }
        let bytes = answer.payload
        var start = 1
        guard start < bytes.count else { return nil }
        while start < bytes.count, bytes[start] >= 0x80 { start += 1 }
        start += 1
        guard start + 9 < bytes.count, bytes[start + 8] == 1,
            let content = try? bytes[(start + 9)...].withUnsafeBytes({
                try ZstdDecompressor().decompress($0, sizeMax: 1 << 20)
            })
        else { return nil }
        let body = [0] + content
        var writer = ByteWriter()
        writer.raw(bytes[..<start])
        writer.fixed64(body.withUnsafeBytes { ChangeChain.checksum(of: $0) })
        writer.raw(body)
        return SyncAnswer(payload: writer.bytes)
    }

    /// What no two nodes of ours say to each other when all goes well, and what is said without a stage.
    private func addStrangers() {
        guard let id = UniqueID(bytes: [UInt8](repeating: 4, count: 16)),
            let key = Key256(bytes: [UInt8](repeating: 5, count: 32)), let origin = Origin(rawValue: 2)
        else { return }
        let join = Join(tokenID: id, proof: key, node: id, nodeKey: key, software: Replica.software)
        let joined = Joined(
            organisation: id,
            origin: origin,
            name: "اصفهان",
            hubNode: id,
            hubName: "تهران",
            hubOrigin: Origin(rawValue: 1) ?? .none,
            branchRow: RowID(origin: origin, counter: 4),
            organisationKey: key.bytes
        )
        var hub = SyncSession(role: .hub)
        _ = hub.handle(.linkOpened)
        var joiner = SyncSession(role: .joiner(join))
        _ = joiner.handle(.linkOpened)
        let sessions = arrivals.filter { $0.session.isPeerTrusted }.map { ($0.receiver, $0.session) }
        let child = sessions.first { $0.0 == 0 }?.1 ?? joiner
        let streaming = sessions.first { $0.0 == 1 }?.1 ?? hub
        let refusal = Refusal(.busy, "Come back later.", retryAfterSeconds: 30)
        var writer = ByteWriter()
        writer.write([LogPrefix(position: 4, digest: 5)])
        writer.raw([1, 1, 3])
        let progress = SyncQuestion(kind: QuestionKind.refillProgress.rawValue, payload: writer.bytes)
        let said: [(Int, SyncMessage, SyncSession)] = [
            (1, .join(join), hub), (0, .joined(joined), joiner), (0, .refuse(refusal), child),
            (1, .refuse(Refusal(.other(999), "پیام")), streaming), (0, .ping(nonce: 7), child),
            (1, .ping(nonce: 7), streaming), (0, .pong(nonce: 2), child), (1, .pong(nonce: 2), streaming),
            (1, .ask(progress), streaming), (0, .bye(reason: "پایان"), child), (1, .bye(reason: "done"), streaming),
        ]
        for (receiver, message, session) in said {
            add(Arrival(receiver, codec.encode(message), session))
        }
    }
}

extension CrashScript {
    /// What two nodes do while somebody listens; nothing in it is cut.
    static var taped: [CrashScript] { [exchange, refilling, comparing] + all.filter(\.hasPeer) }

    /// Plays all of it.
    func playWhole(on stage: Stage) throws {
        try prepare(stage)
        try playRest(on: stage)
    }

    /// Plays what follows the preparation.
    func playRest(on stage: Stage) throws {
        let victim = victim(of: stage)
        for node in [stage.hub, stage.branch] where !node.isOpen && node.exists && (opensVictim || node !== victim) {
            try node.open()
        }
        // A script that opens its victim itself.
        if !opensVictim, victim.isOpen { try victim.close() }
        try play(stage)
    }

    private static func write(at node: CrashNode, _ stage: Stage, rows: Int) throws {
        stage.clock.milliseconds += 10
        var random = SeededRandom(seed: UInt64(rows))
        _ = try node.replica.write { transaction in
            for number in 0..<rows {
                let note = random.text(60)
                let id = try transaction.insert("customer", ["name": .text("مشتری \(number)"), "note": .text(note)])
                try transaction.insert(
                    "activity",
                    ["customer": .integer(id.rawValue), "kind": .text("call"), "body": .text(note)]
                )
            }
        }
    }

    /// Both have work, some of it more than fits a batch.
    static let exchange = CrashScript(name: "both have much to tell") { stage in
        for round in 0..<3 {
            for node in [stage.hub, stage.branch] {
                try write(at: node, stage, rows: 1 + round)
                try write(at: node, stage, rows: 60 + round)
                try stage.edit(stage.ids[round], note: "ویرایش \(round) \(node === stage.hub)", at: node)
            }
            try stage.delete(stage.ids[round + 3], at: stage.branch)
            try stage.sync()
        }
    }

    /// A head office has lost the end of its log, with a change set that is larger than a question.
    static let refilling = CrashScript(
        name: "a head office that has lost much is filled again",
        prepare: { stage in
            try stage.makeBoth()
            try stage.loseEndOfHub {
                var random = SeededRandom(seed: 3)
                _ = try stage.branch.replica.write { transaction in
                    for _ in 0..<15 {
                        try transaction.insert("customer", ["name": .text("بزرگ"), "note": .text(random.text(60_000))])
                    }
                }
                try stage.sync()
            }
        },
        play: { stage in
            try stage.sync()
            try stage.sync()
        }
    )

    /// Rows differ, and are looked for, named and repaired.
    static let comparing = CrashScript(
        name: "rows differ and are repaired",
        prepare: { stage in
            try stage.makeBoth()
            try write(at: stage.branch, stage, rows: 12)
            try stage.sync()
            try stage.damage(stage.ids[0], at: stage.branch)
            _ = try stage.branch.replica.verifyDeep { _, _ in }
        },
        play: { stage in
            try stage.branch.replica.wish(.compare(repairs: true))
            try stage.sync()
        }
    )
}

extension SyncLimits {
    /// So little fits into a message that change sets travel in parts, and batches end early.
    fileprivate static let tight: SyncLimits = {
        var limits = SyncLimits()
        limits.batchBytesMax = 1200
        limits.partBytesMax = 500
        limits.batchEntriesMax = 3
        limits.frameBytesMax = 700
        return limits
    }()
}

extension SeededRandom {
    /// Letters that do not compress well.
    fileprivate mutating func text(_ count: Int) -> String {
        String(decoding: (0..<count).map { _ in UInt8(33 + below(94)) }, as: UTF8.self)
    }
}

extension Stage {
    /// Changes a row in the file behind everybody's back.
    fileprivate func damage(_ id: RowID, at node: CrashNode) throws {
        try node.otherProgram { db in
            let triggers = try Row.fetchAll(db, sql: "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            for trigger in triggers { try db.execute(sql: "DROP TRIGGER \(trigger[0] as String)") }
            try db.execute(sql: "UPDATE customer SET city = 'جای دیگر' WHERE id = \(id.rawValue)")
            for trigger in triggers { try db.execute(sql: trigger[1]) }
        }
    }
}
