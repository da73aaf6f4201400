extension SyncSession.Action {
    /// Whether a session waits for its store to do this; what else there is to do, the line does.
    package var isForStore: Bool {
        switch self {
        case .readFacts, .adoptWelcome, .takeAnswer, .consult, .answer, .decideJoin, .decideWelcome, .readBatch,
            .readPart, .openSpool, .spool, .apply, .readRoot, .record:
            true
        case .send, .startTimer, .joined, .close:
            false
        }
    }

    /// Whether this fetches what is to be sent: it may be done beside everything else.
    package var isFetch: Bool {
        switch self {
        case .readBatch, .readPart: true
        default: false
        }
    }

    /// Whether this may be done while somebody writes.
    package var isRead: Bool {
        switch self {
        case .readBatch, .readPart, .openSpool, .spool, .readRoot: true
        default: false
        }
    }
}

extension SyncStore {
    /// Does what a session wants of its store, on the calling thread, which may block.
    ///
    /// - Returns: What the session is to be told; nil when it waits for nothing.
    /// - Throws: What went wrong with something whose outcome no session waits for.
    /// - Precondition: ``SyncSession/Action/isForStore``.
    package func perform(_ action: SyncSession.Action) throws(SyncStoreFailure) -> SyncSession.Event? {
        switch action {
        case .readFacts:
            return .factsRead(result { () throws(SyncStoreFailure) in try childFacts() })
        case .adoptWelcome(let welcome, let clock):
            return .welcomeAdopted(result { () throws(SyncStoreFailure) in try adoptWelcome(welcome, clock: clock) })
        case .takeAnswer(let answer, let question):
            return .stepDecided(result { () throws(SyncStoreFailure) in try take(answer, to: question) })
        case .consult(let occasion):
            return .stepDecided(result { () throws(SyncStoreFailure) in try consult(on: occasion) })
        case .answer(let question, let peer):
            return .answered(result { () throws(SyncStoreFailure) in try self.answer(question, from: peer) })
        case .decideJoin(let join):
            return .joinDecided(result { () throws(SyncStoreFailure) in try decideJoin(join) })
        case .decideWelcome(let hello, let time):
            return .welcomeDecided(
                result { () throws(SyncStoreFailure) in try decideWelcome(hello, receivedAtMilliseconds: time) }
            )
        case .readBatch(let request):
            return .batchRead(result { () throws(SyncStoreFailure) in try read(request) })
        case .readPart(let request):
            return .partRead(result { () throws(SyncStoreFailure) in try readPart(request) })
        case .openSpool(let body, let peer):
            return .spooled(result { () throws(SyncStoreFailure) in try openSpool(for: body, from: peer) })
        case .spool(let bytes, let offset, let body, let peer):
            return .spooled(
                result { () throws(SyncStoreFailure) in try spool(bytes, at: offset, of: body, from: peer) }
            )
        case .apply(let batches, let peer):
            return .applied(result { () throws(SyncStoreFailure) in try apply(batches, from: peer) })
        case .readRoot(let prefix, let child):
            return .rootRead(result { () throws(SyncStoreFailure) in try currentRoot(at: prefix, child: child) })
        case .record(let fact, let peer):
            try record(fact, of: peer)
            return nil
        case .send, .startTimer, .joined, .close:
            preconditionFailure("Not for the store")
        }
    }

    private func read(_ request: ReadRequest) throws(SyncStoreFailure) -> OutgoingBatch {
        switch request {
        case .own(let seq, let bytesMax, let entriesMax):
            try readOwn(afterSeq: seq, bytesMax: bytesMax, entriesMax: entriesMax)
        case .log(let position, let reader, let bytesMax, let entriesMax):
            try readLog(afterPosition: position, for: reader, bytesMax: bytesMax, entriesMax: entriesMax)
        }
    }

    private func result<Value>(
        _ body: () throws(SyncStoreFailure) -> Value
    ) -> Result<Value, SyncStoreFailure> {
        do throws(SyncStoreFailure) { return .success(try body()) } catch { return .failure(error) }
    }
}
