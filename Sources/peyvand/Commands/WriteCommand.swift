import ArgumentParser
import Foundation
import SyncTransport

/// `write --jsonl FILE`: bulk edits, one JSON object a line.
struct WriteCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "write",
        abstract: "Write rows in bulk, one JSON object a line."
    )

    @OptionGroup var node: NodeOptions
    @Option(help: ArgumentHelp("A file of JSON lines, or - for standard input.", valueName: "file"))
    var jsonl: String

    func run(_ session: CommandSession) async throws {
        let words = session.words
        let file = jsonl == "-" ? FileHandle.standardInput : FileHandle(forReadingAtPath: jsonl)
        guard let file else { throw CommandFailure(.failed, words.cannotRead(jsonl)) }
        var lines = LineReader(file.fileDescriptor)
        var writing = Writing(session: session)
        Interruption.watch()
        do {
            while !Interruption.isRequested, let line = try lines.next() {
                try await writing.take(line)
                // Whoever writes a line and waits for the answer gets it.
                if !lines.isReady { try await writing.flush() }
            }
            if Interruption.isRequested {
                // Whole transactions that were read are still written; one that is open is not.
                try await writing.flush()
                let committed = words.committedBefore(
                    writing.committedLines,
                    transactions: writing.committedTransactions
                )
                throw CommandFailure(.failed, "\(words.stopped) \(committed)")
            }
            try await writing.finish()
        } catch is ClosedOutput {
            // Not the quiet end of a list that nobody reads to the end: there is more to write.
            throw CommandFailure(
                .failed,
                words.repliesNotRead(writing.committedLines, transactions: writing.committedTransactions)
            )
        } catch let failure as SyncTransportFailure {
            let committed = words.committedBefore(
                writing.committedLines,
                transactions: writing.committedTransactions
            )
            throw CommandFailure(.failed, "\(failure) \(committed)")
        } catch let refusal as LineRefusal {
            throw CommandFailure(
                refusal.reason.exit == .usage ? .failed : refusal.reason.exit,
                words.lineRefused(
                    refusal.line,
                    refusal.reason.sentence,
                    committedLines: writing.committedLines,
                    transactions: writing.committedTransactions
                )
            )
        }
    }
}

/// Why `write` stopped.
private struct LineRefusal: Error {
    let line: Int
    let reason: CommandFailure
}

/// Gathers lines into transactions, and transactions into batches for the node.
private struct Writing {
    private let session: CommandSession
    private var batch: [[WriteBatch.Step]] = []
    private var batchBytes = 0
    /// The lines since `begin`, nil outside a transaction.
    private var open: [WriteBatch.Step]?
    private var openLine = 0
    private var openBytes = 0
    private(set) var committedLines = 0
    private(set) var committedTransactions = 0

    /// A change set is smaller than this; its JSON is not much larger.
    private static let transactionBytesMax = 48 << 20
    private static let batchBytesMax = 256 << 10

    init(session: CommandSession) { self.session = session }

    private var words: Words { session.words }

    mutating func take(_ line: LineReader.Line) async throws {
        let parsed: WriteLine
        do {
            guard !line.isTooLong else {
                throw CommandFailure(.failed, words.lineTooLong(LineReader.lineBytesMax))
            }
            parsed = try WriteLine(line: line.bytes)
        } catch {
            try await refuse(line.number, CommandFailure(error))
        }
        let step = WriteBatch.Step(number: line.number, line: parsed)
        switch (parsed.op, open) {
        case (.begin, nil):
            open = []
            openLine = line.number
            openBytes = 0
        case (.begin, _):
            try await refuse(line.number, CommandFailure(.failed, words.beginInsideBegin))
        case (.commit, nil):
            try await refuse(line.number, CommandFailure(.failed, words.commitWithoutBegin))
        case (.commit, let steps?):
            open = nil
            try await add(steps, bytes: openBytes)
        case (_, nil):
            try await add([step], bytes: line.bytes.count)
        case (_, _?):
            open?.append(step)
            openBytes += line.bytes.count
            guard openBytes <= Self.transactionBytesMax else {
                let reason = CommandFailure(.failed, words.transactionTooLarge(Self.transactionBytesMax))
                try await refuse(line.number, reason)
            }
        }
    }

    mutating func finish() async throws {
        if open != nil {
            try await refuse(openLine, CommandFailure(.failed, words.beginWithoutCommit(openLine)))
        }
        try await flush()
    }

    /// Sends what was gathered, and prints the replies: what is printed is durable.
    mutating func flush() async throws {
        guard !batch.isEmpty else { return }
        let outcome = try await session.ask(WriteBatch(transactions: batch, language: session.output.language))
        batch = []
        batchBytes = 0
        committedLines += outcome.rows.count
        committedTransactions += outcome.transactions
        var text = ""
        for row in outcome.rows {
            let position = row.position.map { String($0) } ?? "null"
            text += "{\"table\":\"\(row.table)\",\"id\":\"\(row.id)\",\"position\":\(position)}\n"
        }
        try session.output.print(bytes: Array(text.utf8))
        if let failure = outcome.failure { throw LineRefusal(line: failure.number, reason: failure.reason) }
    }

    private mutating func add(_ steps: [WriteBatch.Step], bytes: Int) async throws {
        guard !steps.isEmpty else { return }
        batch.append(steps)
        batchBytes += bytes
        if batchBytes >= Self.batchBytesMax { try await flush() }
    }

    /// Commits what stands before a bad line, then stops.
    private mutating func refuse(_ line: Int, _ reason: CommandFailure) async throws -> Never {
        try await flush()
        throw LineRefusal(line: line, reason: reason)
    }
}

/// Reads lines from a file or pipe, without ever holding more than one and a buffer.
struct LineReader {
    /// One line without its line break.
    struct Line {
        let number: Int
        let bytes: [UInt8]
        /// Longer than ``LineReader/lineBytesMax``: `bytes` is only its beginning.
        let isTooLong: Bool
    }

    /// The longest line: more than the largest row in JSON.
    static let lineBytesMax = 8 << 20

    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var start = 0
    private var searched = 0
    private var number = 0
    private var isEnd = false

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// Whether another line, or the end, can be had without waiting for the writer.
    var isReady: Bool {
        if isEnd || buffer[max(start, searched)...].contains(UInt8(ascii: "\n")) { return true }
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&request, 1, 0) != 0
    }

    /// Reads the next line that is not blank; nil at the end.
    mutating func next() throws -> Line? {
        while true {
            if let feed = buffer[max(start, searched)...].firstIndex(of: UInt8(ascii: "\n")) {
                let line = buffer[start..<feed]
                start = feed + 1
                searched = start
                number += 1
                if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { continue }
                return Line(number: number, bytes: Array(line), isTooLong: false)
            }
            searched = buffer.count
            if buffer.count - start > Self.lineBytesMax {
                return Line(number: number + 1, bytes: [], isTooLong: true)
            }
            if isEnd {
                guard start < buffer.count else { return nil }
                // The last line may lack its line break.
                buffer.append(UInt8(ascii: "\n"))
                continue
            }
            guard waitForInput() else { return nil }
            try fill()
        }
    }

    /// Waits until there is something to read; false when ^C came first.
    private func waitForInput() -> Bool {
        while !Interruption.isRequested {
            var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            // Looks up now and then: a signal just before the call would not end it.
            if poll(&request, 1, 200) > 0 { return true }
        }
        return false
    }

    private mutating func fill() throws {
        buffer.removeFirst(start)
        searched -= start
        start = 0
        let count = buffer.count
        let size = 256 << 10
        let readCount = withUnsafeTemporaryAllocation(byteCount: size, alignment: 1) { chunk in
            var result = read(descriptor, chunk.baseAddress, size)
            while result < 0 && errno == EINTR { result = read(descriptor, chunk.baseAddress, size) }
            if result > 0 { buffer.append(contentsOf: chunk[0..<result]) }
            return result
        }
        guard readCount >= 0 else {
            throw CommandFailure(.failed, "The input cannot be read: \(String(cString: strerror(errno))).")
        }
        isEnd = readCount == 0 && buffer.count == count
    }
}
