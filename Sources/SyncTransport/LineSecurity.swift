import NIOCore
import NIOSSL
import NIOTLS
import SyncProtocol
import Synchronization
import Trust

// Every line between two nodes is TLS 1.3 (RFC 8446), and nothing older. Both sides show a certificate; only the
// organisation's own root counts. What a line is for is agreed in the handshake (ALPN, RFC 7301).

/// What a line is for.
enum LinePurpose: String, Sendable, CaseIterable {
    case session = "peyvand/1"
    /// A newcomer follows its invitation; it has no certificate yet.
    case enrolment = "peyvand-enroll/1"
}

/// What is known of a line once its handshake is over.
struct LineGreeting: Sendable {
    /// Nil when the peer did not say.
    let purpose: LinePurpose?
    /// The certificate that the peer has shown, of which the signatures are right; nil when it has shown none.
    let peer: NodeCertificate?
    /// What the hub sends a newcomer first: see ``NewcomerNonce``.
    let preamble: [UInt8]
}

/// What a hub sends on a line for enrolment before all messages: 32 random bytes, with which the newcomer proves that it
/// knows the secret of its invitation, so that a proof is worth nothing on any other line.
enum NewcomerNonce {
    static let byteCount = Key256.byteCount

    static func make() -> Key256 {
        var random = SystemRandomNumberGenerator()
        let bytes = (0..<byteCount).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        guard let nonce = Key256(bytes: bytes) else { preconditionFailure("A nonce has 32 bytes") }
        return nonce
    }
}

/// The settings that both ends share.
private func secured(_ configuration: TLSConfiguration) -> TLSConfiguration {
    var configuration = configuration
    configuration.minimumTLSVersion = .tlsv13
    configuration.maximumTLSVersion = .tlsv13
    // A peer that does not say goodbye has this long, after it had the session's own patience.
    configuration.shutdownTimeout = .milliseconds(500)
    return configuration
}

// MARK: - The hub's end

/// How a hub secures the lines that it answers.
///
/// A resumed line (RFC 8446, section 4.6.1) may skip the check of the chain, so whoever takes a line over looks at the
/// certificate again, which the ticket has kept, and asks the table of nodes. ``reset(_:)`` makes all tickets worthless.
final class HubSecurity: Sendable {
    private let context: Mutex<NIOSSLContext>

    /// - Throws: When TLS cannot use the identity.
    init(_ identity: NodeIdentity) throws {
        context = Mutex(try Self.context(identity))
    }

    /// Forgets all sessions that could be resumed, and uses this identity from now on.
    func reset(_ identity: NodeIdentity) throws {
        let new = try Self.context(identity)
        context.withLock { $0 = new }
    }

    /// What secures one line.
    func handler(trusting root: [UInt8]) -> NIOSSLServerHandler {
        NIOSSLServerHandler(
            context: context.withLock { $0 },
            customVerificationCallbackWithMetadata: { chain, answer in
                verify(chain, .root(root), answer) { certificate throws(TrustFailure) in
                    // The hub's own certificate, stolen, opens no door here.
                    if certificate.isHub { throw .notForThis }
                }
            }
        )
    }

    private static func context(_ identity: NodeIdentity) throws -> NIOSSLContext {
        var configuration = secured(
            .makeServerConfigurationWithMTLS(
                certificateChain: try identity.chain.map {
                    .certificate(try NIOSSLCertificate(bytes: $0, format: .der))
                },
                privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(identity.keyPEM.utf8), format: .pem)),
                trustRoots: .certificates([try NIOSSLCertificate(bytes: identity.root, format: .der)])
            )
        )
        // What a line is for is known with the handshake only, and a newcomer has no certificate. Whoever shows one must
        // show a right one; whoever shows none gets nothing but enrolment: see `SyncServer`.
        configuration.certificateVerification = .optionalVerification
        configuration.applicationProtocols = LinePurpose.allCases.map(\.rawValue)
        return try NIOSSLContext(configuration: configuration)
    }
}

// MARK: - The child's end

/// With what a child calls its hub, and whom it expects.
package struct ChildSecurity: Sendable {
    /// Its own certificate and key.
    package let identity: NodeIdentity
    /// Who its hub is; nil when it does not know.
    package let hub: UniqueID?
    /// A moment that has certainly passed, in milliseconds since 1970-01-01 UTC. This machine's clock has no say: a
    /// child that believes it is 1970 must reach the hub that puts it right.
    package let earliest: UInt64

    package init(identity: NodeIdentity, hub: UniqueID?, earliest: UInt64) {
        self.identity = identity
        self.hub = hub
        self.earliest = earliest
    }
}

/// Secures one line from a child, and keeps what was wrong with the hub's certificate.
final class ChildEnd: Sendable {
    private let context: NIOSSLContext
    private let anchor: TrustAnchor
    private let hub: UniqueID?
    private let earliest: UInt64
    private let found = Mutex<TrustFailure?>(nil)

    /// Why the hub is not believed; nil when it is, or has not shown anything.
    var failure: TrustFailure? { found.withLock { $0 } }

    /// For a session.
    init(_ security: ChildSecurity) throws {
        let identity = security.identity
        var configuration = Self.configuration(for: .session)
        configuration.certificateChain = try identity.chain.map {
            .certificate(try NIOSSLCertificate(bytes: $0, format: .der))
        }
        configuration.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array(identity.keyPEM.utf8), format: .pem))
        context = try NIOSSLContext(configuration: configuration)
        anchor = .root(identity.root)
        hub = security.hub
        earliest = security.earliest
    }

    /// For enrolment.
    init(rootKey: Key256) throws {
        context = try NIOSSLContext(configuration: Self.configuration(for: .enrolment))
        anchor = .rootKey(rootKey.bytes)
        hub = nil
        earliest = 0
    }

    private static func configuration(for purpose: LinePurpose) -> TLSConfiguration {
        var configuration = secured(.makeClientConfiguration())
        // The check of ours takes the place of the library's, which would ask the machine's clock.
        configuration.certificateVerification = .noHostnameVerification
        configuration.trustRoots = .certificates([])
        configuration.applicationProtocols = [purpose.rawValue]
        return configuration
    }

    func handler() throws -> NIOSSLClientHandler {
        try NIOSSLClientHandler(
            context: context,
            serverHostname: nil,
            customVerificationCallbackWithMetadata: { [self] chain, answer in
                verify(chain, anchor, answer, onFailure: { failure in self.found.withLock { $0 = failure } }) {
                    [hub, earliest] certificate throws(TrustFailure) in
                    guard certificate.isHub else { throw .notForThis }
                    guard hub.map({ $0.bytes == certificate.node }) ?? true else { throw .foreignAuthority }
                    // It may lie in the future of this moment, which is only the earliest that can be.
                    guard certificate.standing(at: earliest) != .expired else { throw .notForThis }
                }
            }
        )
    }
}

/// Checks a chain beside the event loop, and answers.
private func verify(
    _ chain: [NIOSSLCertificate],
    _ anchor: TrustAnchor,
    _ answer: EventLoopPromise<NIOSSLVerificationResultWithMetadata>,
    onFailure: @escaping @Sendable (TrustFailure) -> Void = { _ in },
    then check: @escaping @Sendable (NodeCertificate) throws(TrustFailure) -> Void
) {
    let bytes = chain.compactMap { try? $0.toDERBytes() }
    Task {
        do throws(TrustFailure) {
            try check(try await anchor.check(bytes))
            answer.succeed(.certificateVerified(VerificationMetadata(nil)))
        } catch {
            onFailure(error)
            answer.succeed(.failed)
        }
    }
}

extension CertifiedPeer {
    /// Nil when the identifiers in it have another length.
    init?(_ certificate: NodeCertificate) {
        guard let organisation = UniqueID(bytes: certificate.organisation),
            let node = UniqueID(bytes: certificate.node),
            let key = Key256(bytes: certificate.keyDigest)
        else { return nil }
        self.init(
            organisation: organisation,
            node: node,
            key: key,
            validFrom: certificate.notBefore,
            validUntil: certificate.notAfter
        )
    }
}
