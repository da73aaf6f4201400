import Foundation
import ReplicaStore

/// Makes an invitation.
struct Enroll: NodeRequest {
    static let name = "enroll"

    struct Reply: Codable, Sendable {
        /// The name of the node to be.
        let id: String
        let name: String
        let invitation: String
        let address: String
        let validSeconds: Int
    }

    let node: String
    let address: String
    /// Whether somebody chose the address; else a running head office gives the one it listens on.
    let isAddressChosen: Bool
    let seconds: Int
    /// Whether fingerprints are to be compared before the new node may come in.
    var needsApproval: Bool?

    func perform(in service: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        let running = service.listening.withLock { $0 }
        let address = isAddressChosen ? self.address : running ?? self.address
        do {
            // Made by an older version, it has none yet.
            try service.replica.prepareAuthority()
            let invitation = try service.replica.invite(
                node,
                address: address,
                lifetimeSeconds: seconds,
                needsApproval: needsApproval ?? false,
                randomBytes: randomBytes
            )
            return Reply(
                id: node,
                name: node,
                invitation: invitation.line,
                address: address,
                validSeconds: seconds
            )
        } catch let failure as EnrolmentFailure {
            let isUsage: Bool =
                switch failure {
                case .badName, .lifetime: true
                case .notHeadOffice, .nameTaken: false
                }
            throw CommandFailure(isUsage ? .usage : .refused, failure.description)
        }
    }
}

/// Unpredictable bytes from the system.
func randomBytes(_ count: Int) -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
}
