import Causality
import Crypto
import Foundation
import GRDB
import SyncProtocol
import Trust

/// Why nobody could be invited.
package enum EnrolmentFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case notHeadOffice
    case badName(String)
    case nameTaken(String)
    case lifetime(seconds: Int)

    package var description: String {
        switch self {
        case .notHeadOffice: "Only head office enrols nodes; run this on head office's directory."
        case .badName(let name):
            "\"\(name)\" cannot name a node: use letters, digits, hyphens, dots and underscores, at most 64."
        case .nameTaken(let name):
            "A node named \(name) takes part already. Choose another name; `peyvand node list` shows all."
        case .lifetime(let seconds):
            "An invitation lasts between a minute and 7 days; \(seconds) seconds were asked for."
        }
    }
}

extension Replica {
    private static let secondsMax = 7 * 24 * 3600
    private static let wrongTriesMax = 5

    /// Makes an invitation for a new node. One for the same name that nobody has used becomes worthless.
    ///
    /// - Parameters:
    ///   - address: Where the new node will find head office, `host:port`.
    ///   - needsApproval: Whether somebody has to compare fingerprints before the new node may come in.
    ///   - randomBytes: Returns that many unpredictable bytes.
    package func invite(
        _ name: String,
        address: String,
        lifetimeSeconds: Int,
        needsApproval: Bool = false,
        randomBytes: (Int) -> [UInt8]
    ) throws -> Invitation {
        guard Invitation.isName(name) else { throw EnrolmentFailure.badName(name) }
        guard (60...Self.secondsMax).contains(lifetimeSeconds) else {
            throw EnrolmentFailure.lifetime(seconds: lifetimeSeconds)
        }
        guard let token = UniqueID(bytes: randomBytes(UniqueID.byteCount)),
            let secret = Key256(bytes: randomBytes(Key256.byteCount))
        else { preconditionFailure("The random source gave another number of bytes") }
        let now = Int64(clamping: wallClock())
        let rootKey = try authority().map { try $0.rootKeyDigest }.flatMap(Key256.init(bytes:))
        try withWriter { writer in
            try writer.transaction {
                guard writer.node.role == .headOffice else { throw EnrolmentFailure.notHeadOffice }
                // The name of a retired node is free: usually the same office gets a new machine.
                try writer.db.cachedStatement(
                    sql: """
                        UPDATE registeredNode SET name = name || '.' || origin
                        WHERE name = ? AND retiredAt IS NOT NULL
                        """
                ).execute(arguments: [name])
                let isTaken = try Bool.fetchOne(
                    writer.db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM registeredNode WHERE name = ?)"),
                    arguments: [name]
                )
                guard isTaken != true, writer.node.name != name else { throw EnrolmentFailure.nameTaken(name) }
                try writer.db.cachedStatement(sql: "DELETE FROM invitation WHERE name = ? AND usedBy IS NULL").execute(
                    arguments: [name]
                )
                try writer.db.cachedStatement(sql: "INSERT INTO invitation VALUES (?, ?, ?, ?, ?, 0, NULL, ?)").execute(
                    arguments: [
                        Data(token.bytes), Data(Self.hash(secret.bytes)), name, now,
                        now + Int64(lifetimeSeconds) * 1000, needsApproval,
                    ]
                )
                try writer.audit(.enroll, name)
            }
        }
        return Invitation(name: name, address: address, token: token, rootKey: rootKey, secret: secret)
    }

    /// Lets a new node in: binds the invitation to it and its key, gives it an origin number, and writes its row in the
    /// table of branches, all in one transaction; then signs its key. The same node with the same key again gets the
    /// same answer.
    package func decideJoin(_ join: Join) throws(SyncStoreFailure) -> Joined {
        try countingRefusals(of: join.node) {
            let authority = try self.authority()
            let request = try authority.map { _ in try Self.request(of: join) }
            let outcome: Result<Joined, Refusal> = try self.withWriter { writer in
                try writer.transaction {
                    try Self.decide(join, request?.keyDigest, writer, LocalTransaction(writer))
                }
            }
            var joined = try outcome.get()
            if let authority, let request {
                joined.certificates = try self.certificates(of: join.node, request, authority)
            }
            return joined
        }
    }

    private static func request(of join: Join) throws -> SigningRequest {
        do throws(TrustFailure) {
            return try SigningRequest(join.request)
        } catch {
            throw Refusal(
                .invitationUnknown,
                "This head office needs a request for a certificate. \(error) Use the same version of Peyvand on both."
            )
        }
    }

    /// The certificate of a node for its key, its issuer's and the root's: as they were signed before, or signed now.
    func certificates(of node: UniqueID, _ request: SigningRequest, _ authority: Authority) throws -> [[UInt8]] {
        try withWriter { writer in
            try writer.transaction {
                let now = writer.wallClock()
                let signed = try String.fetchOne(
                    writer.db.cachedStatement(
                        sql: "SELECT chain FROM registeredKey WHERE keyDigest = ? AND node = ? AND validUntil > ?"
                    ),
                    arguments: [Data(request.keyDigest), Data(node.bytes), Int64(clamping: now)]
                )
                let root = try authority.chain.root
                if let signed { return try PEMText.parts(of: signed).certificates + [root] }
                let own = try authority.certify(
                    request,
                    organisation: writer.node.organisation ?? [],
                    node: node.bytes,
                    isHub: false,
                    from: Authority.beginning(now: now)
                )
                let chain = [own, try authority.chain.issuer]
                try writer.db.cachedStatement(
                    sql: "UPDATE registeredKey SET chain = ?, validUntil = ? WHERE keyDigest = ? AND node = ?"
                ).execute(arguments: [
                    PEMText.text(chain), Int64(clamping: try NodeCertificate(own).notAfter),
                    Data(request.keyDigest), Data(node.bytes),
                ])
                return chain + [root]
            }
        }
    }

    private static func decide(
        _ join: Join,
        _ keyDigest: [UInt8]?,
        _ writer: ReplicaWriter,
        _ transaction: LocalTransaction
    ) throws -> Result<Joined, Refusal> {
        let db = writer.db
        guard writer.node.role == .headOffice, let organisation = writer.node.organisation.flatMap(UniqueID.init),
            let hubNode = UniqueID(bytes: writer.node.node)
        else {
            return .failure(Refusal(.invitationUnknown, "This node is not a head office; it lets nobody in."))
        }
        let invitation = try Row.fetchOne(
            db,
            sql: "SELECT * FROM invitation WHERE token = ?",
            arguments: [Data(join.tokenID.bytes)]
        )
        guard let invitation, (invitation["wrongTries"] as Int) < wrongTriesMax else {
            return .failure(
                Refusal(
                    .invitationUnknown,
                    "Head office does not know this invitation. Ask for a new one (`peyvand enroll NAME`)."
                )
            )
        }
        guard Invitation.isProved(by: join, secretHash: [UInt8](invitation["secretHash"] as Data)) else {
            try db.cachedStatement(sql: "UPDATE invitation SET wrongTries = wrongTries + 1 WHERE token = ?").execute(
                arguments: [Data(join.tokenID.bytes)]
            )
            return .failure(
                Refusal(.invitationUnknown, "The secret of the invitation is wrong. Copy the whole line again.")
            )
        }
        let name: String = invitation["name"]
        let organisationKey = try writer.organisationKey()?.publicKey
        func joined(origin: Origin, branchRow: RowID) -> Result<Joined, Refusal> {
            .success(
                Joined(
                    organisation: organisation,
                    origin: origin,
                    name: name,
                    hubNode: hubNode,
                    hubName: writer.node.name,
                    hubOrigin: writer.node.origin,
                    branchRow: branchRow,
                    organisationKey: organisationKey
                )
            )
        }
        if let user = invitation["usedBy"] as Data? {
            let known = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT origin, branchRow, keyHash FROM registeredNode WHERE node = ?"),
                arguments: [user]
            )
            let isSameKey = try keyDigest.map { digest in
                try Bool.fetchOne(
                    db.cachedStatement(
                        sql: "SELECT EXISTS (SELECT 1 FROM registeredKey WHERE keyDigest = ? AND node = ?)"
                    ),
                    arguments: [Data(digest), user]
                ) ?? false
            }
            guard [UInt8](user) == join.node.bytes, isSameKey != false, let known,
                [UInt8](known["keyHash"] as Data) == hash(join.nodeKey.bytes),
                let origin = Origin(rawValue: known["origin"]), let row = RowID(rawValue: known["branchRow"])
            else {
                return .failure(
                    Refusal(
                        .invitationUsed,
                        "This invitation was used already. Ask head office for a new one (`peyvand enroll NAME`)."
                    )
                )
            }
            return joined(origin: origin, branchRow: row)
        }
        guard (invitation["expiresAt"] as Int64) > Int64(clamping: writer.wallClock()) else {
            return .failure(
                Refusal(
                    .invitationExpired,
                    "This invitation has expired. Ask head office for a new one (`peyvand enroll NAME`)."
                )
            )
        }
        let isTaken = try Bool.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT EXISTS (SELECT 1 FROM registeredNode WHERE node = ?1)
                        OR EXISTS (SELECT 1 FROM registeredKey WHERE keyDigest = ?2)
                    """
            ),
            arguments: [Data(join.node.bytes), keyDigest.map { Data($0) }]
        )
        guard isTaken != true, join.node != hubNode else {
            return .failure(
                Refusal(
                    .invitationUsed,
                    "A node with this identity takes part already. Join in another directory, with a new invitation."
                )
            )
        }
        let origin: Origin
        do {
            origin = try writer.nextOrigin()
        } catch let refusal as Refusal {
            return .failure(refusal)
        }
        let number = Int64(origin.rawValue)
        let row = try transaction.insert(
            "branch",
            ["name": .text(name), "origin": .integer(number), "active": .integer(1)]
        )
        _ = try transaction.finish()
        try db.cachedStatement(
            sql: """
                INSERT INTO registeredNode(node, name, origin, keyHash, branchRow, enrolledAt, software, approvalDue)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            Data(join.node.bytes), name, number, Data(hash(join.nodeKey.bytes)), row.rawValue,
            Int64(clamping: writer.wallClock()), String(join.software.prefix(100)),
            invitation["needsApproval"] as Bool,
        ])
        if let keyDigest { try writer.register(key: keyDigest, of: join.node) }
        try writer.hear(join.node, on: UInt64(clamping: writer.wallClock()) / ReplicaWriter.dayMilliseconds)
        try db.cachedStatement(sql: "INSERT INTO registeredLife(origin, node, givenAt, beganAt) VALUES (?, ?, ?, ?)")
            .execute(arguments: [
                number, Data(join.node.bytes), Int64(clamping: writer.wallClock()),
                Int64(clamping: writer.wallClock()),
            ])
        try db.cachedStatement(sql: "UPDATE invitation SET usedBy = ? WHERE token = ?").execute(arguments: [
            Data(join.node.bytes), Data(join.tokenID.bytes),
        ])
        try writer.audit(.join, name, by: "node \(number)")
        return joined(origin: origin, branchRow: row)
    }

    /// Lets this branch call its hub at another address.
    package func moveHub(to address: String) throws {
        try withWriter { writer in
            guard let hub = writer.node.hub, hub.address != address else { return }
            try writer.transaction {
                var node = writer.node
                node.hub?.address = address
                try writer.updateNode(node)
            }
        }
    }

    /// Makes this node what head office has said it is.
    package func completeJoin(_ joined: Joined) throws {
        try withWriter { writer in
            try writer.transaction {
                var node = writer.node
                node.name = joined.name
                node.organisation = joined.organisation.bytes
                node.origin = joined.origin
                node.branchRow = joined.branchRow
                node.hub?.node = joined.hubNode.bytes
                node.hub?.name = joined.hubName
                node.hub?.origin = joined.hubOrigin
                try writer.updateNode(node)
                if let key = joined.organisationKey { try writer.pinOrganisationKey(key) }
            }
        }
    }

    /// Gives a new head office its row in the table of branches.
    package func completeHeadOffice() throws {
        let node = self.node
        let row = try write { transaction in
            try transaction.insert(
                "branch",
                [
                    "name": .text(node.name), "origin": .integer(Int64(node.origin.rawValue)),
                    "active": .integer(1),
                ]
            )
        }.result
        try withWriter { writer in
            try writer.transaction {
                var node = writer.node
                node.branchRow = row
                try writer.updateNode(node)
            }
        }
    }

    /// The SHA-256 of a secret: what is kept of it at the other end.
    static func hash(_ secret: [UInt8]) -> [UInt8] { [UInt8](SHA256.hash(data: secret)) }
}

/// Runs something that touches the database; what it throws becomes what a session understands.
func throwingStoreFailure<Result>(_ body: () throws -> Result) throws(SyncStoreFailure) -> Result {
    do {
        return try body()
    } catch let failure as SyncStoreFailure {
        throw failure
    } catch let refusal as Refusal {
        throw .refused(refusal)
    } catch {
        throw .unavailable("\(StoreFailure.wrapping(error))")
    }
}
