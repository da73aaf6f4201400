import Causality
import SyncProtocol
import Synchronization

// What a branch asks its hub beside the stream, and what a hub answers. Each concern brings its own questions
// and steps, in its own file; here they are put in order.

/// The questions of a child. Raw values are permanent: they travel.
enum QuestionKind: UInt16 {
    case placeholder = 0
    case refillCommonPrefix = 10
    case refillVectors = 11
    case refillOffer = 12
    case refillPiece = 13
    case refillProgress = 14
    case chains = 1
    case newLife = 2
    case alreadyHave = 3
    case receipt = 40
    /// Equality: see `Comparison`.
    case bucketSums = 30
    case bucketRows = 31
    case rowStates = 32
    /// Erasure: head office's signatures of redacted bodies.
    case redactionSignatures = 50
    /// A snapshot is to begin, and one piece of it is wanted.
    case beginSnapshot = 20
    case snapshotPiece = 21
    /// A new certificate: ``SyncProtocol/SyncQuestion/renewal``.
    case renewal = 60
}

/// When the concerns of a branch may ask something.
enum ConsultationOccasion {
    /// The hub has welcomed this node, and nothing has moved yet.
    case welcomed(Welcome, ClockMeasurement)
    case during(SyncOccasion)
}

/// How far the concerns have come on one occasion.
struct Consultation {
    var occasion: ConsultationOccasion
    /// The step that asked last.
    var step: Int
}

extension Replica {
    /// What is looked at on every occasion, in this order. A step that has nothing to do says
    /// ``SyncProtocol/SyncStep/goOn``.
    private var consultationSteps: [(ConsultationOccasion) throws -> SyncStep] {
        [
            noteWelcome,
            pinOrganisationKey,
            renewCertificate,
            followHubClock,
            renewLife,
            noteRetention,
            noteAudit,
            noteSoftwareTold,
            keepVoucher,
            refill,
            askForRedactions,
            compare,
            askForReceipt,
            loadSnapshot,
        ]
    }

    /// Runs the steps of an occasion from a number on, until one asks something.
    private func advance(_ occasion: ConsultationOccasion, from first: Int) throws -> SyncStep {
        let steps = consultationSteps
        for index in steps.indices.dropFirst(first) {
            let next = try steps[index](occasion)
            if next != .goOn {
                consultation.withLock { $0 = Consultation(occasion: occasion, step: index) }
                return next
            }
        }
        consultation.withLock { $0 = nil }
        return .goOn
    }

    /// At a child: looks at how its hub has welcomed it, and says what to ask first.
    package func adoptWelcome(_ welcome: Welcome, clock: ClockMeasurement) throws(SyncStoreFailure) -> SyncStep {
        try throwingStoreFailure { try self.advance(.welcomed(welcome, clock), from: 0) }
    }

    /// At a child: says what to ask on an occasion in the session.
    package func consult(on occasion: SyncOccasion) throws(SyncStoreFailure) -> SyncStep {
        try throwingStoreFailure { try self.advance(.during(occasion), from: 0) }
    }

    /// At a child: takes in what the hub has answered, and says what to ask next.
    package func take(_ answer: SyncAnswer, to question: SyncQuestion) throws(SyncStoreFailure) -> SyncStep {
        try throwingStoreFailure {
            let next = try self.taken(answer, to: question)
            guard next == .goOn, let done = self.consultation.withLock({ $0 }) else { return next }
            return try self.advance(done.occasion, from: done.step + 1)
        }
    }

    /// What the concern that asked does with the answer, and asks next.
    private func taken(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        switch QuestionKind(rawValue: question.kind) {
        case .receipt: return try takeReceipt(answer)
        case .refillCommonPrefix: return try takeCommonPrefix(answer, to: question)
        case .refillVectors: return try takeVectors(answer)
        case .refillOffer: return try takeOffered(answer)
        case .refillPiece: return try takePiece(answer, to: question)
        case .refillProgress: return try takeProgress(answer)
        case .bucketSums?, .bucketRows?, .rowStates?: return try takeComparison(answer, to: question)
        case .redactionSignatures: return try takeRedactions(answer, to: question)
        case .renewal: return try takeCertificate(answer)
        case .chains: return try takenChains(answer, to: question)
        case .newLife: return try takenNewLife(answer, to: question)
        case .alreadyHave: return try takenAlreadyHave(answer, to: question)
        case .beginSnapshot: return try takeSnapshotHead(answer)
        case .snapshotPiece: return try takeSnapshotPiece(answer, to: question)
        case .placeholder, nil: throw unknownQuestion(question)
        }
    }

    /// At a hub: answers a child's question. What it refuses is counted.
    package func answer(
        _ question: SyncQuestion,
        from peer: SyncPeer
    ) throws(SyncStoreFailure) -> SyncAnswer {
        try countingRefusals(of: peer.node) {
            switch QuestionKind(rawValue: question.kind) {
            case .receipt: return try self.answerReceipt(to: peer)
            case .refillCommonPrefix?, .refillVectors?, .refillOffer?, .refillPiece?, .refillProgress?:
                guard let kind = QuestionKind(rawValue: question.kind) else { throw self.unknownQuestion(question) }
                return try self.answerRefill(kind, question.payload, from: peer)
            case .bucketSums?, .bucketRows?, .rowStates?: return try self.answerComparison(question, from: peer)
            case .redactionSignatures: return try self.answerRedactions(question)
            case .renewal: return try self.answerRenewal(question, from: peer)
            case .chains: return try self.answerChains(question, from: peer)
            case .newLife: return try self.answerNewLife(question, from: peer)
            case .alreadyHave: return try self.answerAlreadyHave(question, from: peer)
            case .beginSnapshot:
                return SyncAnswer(payload: try self.beginSnapshot(for: peer.node).encoded())
            case .snapshotPiece:
                return try self.answerSnapshotPiece(question, from: peer)
            case .placeholder, nil: throw self.unknownQuestion(question)
            }
        }
    }

    private func unknownQuestion(_ question: SyncQuestion) -> Refusal {
        Refusal(
            .protocolVersion,
            "This node does not know question \(question.kind). Upgrade it to the version of the node that asked."
        )
    }
}
