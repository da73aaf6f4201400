import Causality
import Foundation
import GRDB
import SyncProtocol

/// A statement that head office has signed for a node: who it is. A head office that has been put back to an older
/// copy takes the node in again when it is shown.
///
/// Bytes: format 1, organisation 16, node 16, hash of the node's key 32, origin v, branch row 8, name text, count of
/// its former numbers v, each v; then the signature, 64.
struct Voucher: Hashable {
    let organisation: [UInt8]
    let node: [UInt8]
    let keyHash: [UInt8]
    let origin: Origin
    let branchRow: Int64
    let name: String
    /// The numbers that the node had before.
    let former: [Origin]

    private static let format: UInt8 = 1
    private static let signatureBytes = 64
    private static let nameBytesMax = 256

    /// What is signed.
    var statement: [UInt8] {
        var writer = ByteWriter()
        writer.byte(Self.format)
        writer.raw(organisation)
        writer.raw(node)
        writer.raw(keyHash)
        writer.varint(UInt64(origin.rawValue))
        writer.fixed64(UInt64(bitPattern: branchRow))
        writer.sized(Array(name.utf8))
        writer.varint(UInt64(former.count))
        for origin in former { writer.varint(UInt64(origin.rawValue)) }
        return writer.bytes
    }

    /// Signs it; nil without head office's private key.
    func signed(by key: OrganisationKey) throws -> [UInt8]? {
        try key.sign(statement).map { statement + $0 }
    }

    init(
        organisation: [UInt8],
        node: [UInt8],
        keyHash: [UInt8],
        origin: Origin,
        branchRow: Int64,
        name: String,
        former: [Origin]
    ) {
        self.organisation = organisation
        self.node = node
        self.keyHash = keyHash
        self.origin = origin
        self.branchRow = branchRow
        self.name = name
        self.former = former
    }

    /// Reads one that `key` has signed; nil for everything else.
    init?(_ bytes: [UInt8], signedBy key: OrganisationKey) {
        guard bytes.count > Self.signatureBytes else { return nil }
        let statement = Array(bytes.dropLast(Self.signatureBytes))
        guard key.hasSigned(statement, signature: Array(bytes.suffix(Self.signatureBytes))) else { return nil }
        self.init(statement: statement)
    }

    private init?(statement: [UInt8]) {
        let read = statement.withUnsafeBytes { buffer -> Voucher? in
            var reader = ByteReader(buffer)
            do throws(MalformedBytes) {
                guard try reader.byte() == Self.format else { return nil }
                let organisation = [UInt8](try reader.raw(UniqueID.byteCount))
                let node = [UInt8](try reader.raw(UniqueID.byteCount))
                let keyHash = [UInt8](try reader.raw(Key256.byteCount))
                let number = try reader.varint()
                let branchRow = Int64(bitPattern: try reader.fixed64())
                let name = try reader.sized(max: Self.nameBytesMax)
                var former: [Origin] = []
                for _ in 0..<(try reader.count(bytesEach: 1, max: Replica.livesMax)) {
                    guard let origin = UInt32(exactly: try reader.varint()).flatMap(Origin.init(rawValue:)) else {
                        return nil
                    }
                    former.append(origin)
                }
                try reader.finish()
                guard let origin = UInt32(exactly: number).flatMap(Origin.init(rawValue:)), origin != .none else {
                    return nil
                }
                return Voucher(
                    organisation: organisation,
                    node: node,
                    keyHash: keyHash,
                    origin: origin,
                    branchRow: branchRow,
                    name: String(decoding: name, as: UTF8.self),
                    former: former
                )
            } catch {
                return nil
            }
        }
        guard let read else { return nil }
        self = read
    }
}

extension ReplicaWriter {
    /// At head office: gives a child that has none a voucher for its present number.
    func giveVoucher(to hello: Hello, in welcome: inout Welcome) throws {
        guard node.role == .headOffice, !hello.extras.holdsVoucher else { return }
        if try OrganisationKey.read(db) == nil { _ = try transaction { try organisationKey() } }
        welcome.extras.voucher = try voucher(for: hello.node, hello.origin)
    }

    /// At head office: a signed voucher for a node's number; nil for a node that is not known here.
    func voucher(for child: UniqueID, _ origin: Origin) throws -> [UInt8]? {
        let registered = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT name, keyHash, branchRow FROM registeredNode WHERE node = ?"),
            arguments: [Data(child.bytes)]
        )
        guard let registered, let organisation = node.organisation, let key = try OrganisationKey.read(db) else {
            return nil
        }
        let lives = try UInt32.fetchAll(
            db.cachedStatement(sql: "SELECT origin FROM registeredLife WHERE node = ? AND origin <> ? ORDER BY origin"),
            arguments: [Data(child.bytes), origin.rawValue]
        )
        return try Voucher(
            organisation: organisation,
            node: child.bytes,
            keyHash: [UInt8](registered["keyHash"] as Data),
            origin: origin,
            branchRow: registered["branchRow"],
            name: registered["name"],
            former: lives.compactMap(Origin.init(rawValue:))
        ).signed(by: key)
    }

    /// At a branch: keeps the voucher for its number.
    func keepVoucher(_ signed: [UInt8], for origin: Origin) throws {
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO ownVoucher VALUES (1, ?, ?)").execute(arguments: [
            origin.rawValue, Data(signed),
        ])
    }

    /// At head office: takes a node in again that it has forgotten, if it shows a voucher of head office's own.
    func readmitIfForgotten(_ hello: Hello) throws {
        guard hello.extras.voucher != nil else { return }
        let isKnown = try Bool.fetchOne(
            db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM registeredLife WHERE origin = ? AND node = ?)"),
            arguments: [hello.origin.rawValue, Data(hello.node.bytes)]
        )
        if isKnown != true { try readmit(hello) }
    }

    private func readmit(_ hello: Hello) throws {
        guard node.role == .headOffice, let bytes = hello.extras.voucher, let key = try OrganisationKey.read(db),
            let voucher = Voucher(bytes, signedBy: key), voucher.organisation == node.organisation,
            voucher.node == hello.node.bytes, voucher.keyHash == Replica.hash(hello.key.bytes),
            voucher.origin == hello.origin
        else { return }
        try transaction {
            try readmitFormerLives(voucher)
            let isGiven = try Bool.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT EXISTS (SELECT 1 FROM registeredLife WHERE origin = ?1)
                            OR EXISTS (SELECT 1 FROM registeredNode WHERE origin = ?1)
                        """
                ),
                arguments: [voucher.origin.rawValue]
            )
            guard isGiven != true, voucher.origin != node.origin else { return }
            let known = try Data.fetchOne(
                db.cachedStatement(sql: "SELECT keyHash FROM registeredNode WHERE node = ?"),
                arguments: [Data(voucher.node)]
            )
            if let known {
                // Only its new number was given after the backup.
                guard [UInt8](known) == voucher.keyHash else { return }
                try db.cachedStatement(sql: "INSERT INTO registeredLife(origin, node, givenAt) VALUES (?, ?, ?)")
                    .execute(arguments: [voucher.origin.rawValue, Data(voucher.node), Int64(clamping: wallClock())])
                return
            }
            let isNameTaken = try Bool.fetchOne(
                db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM registeredNode WHERE name = ?)"),
                arguments: [voucher.name]
            )
            try db.cachedStatement(
                sql: """
                    INSERT INTO registeredNode(node, name, origin, keyHash, branchRow, enrolledAt, software)
                    VALUES (?, ?, ?, ?, ?, ?, ?)
                    """
            ).execute(arguments: [
                Data(voucher.node), isNameTaken == true ? "\(voucher.name)-\(voucher.origin)" : voucher.name,
                voucher.origin.rawValue, Data(voucher.keyHash), voucher.branchRow,
                Int64(clamping: wallClock()), String(hello.software.prefix(100)),
            ])
            try db.cachedStatement(
                sql: "INSERT OR REPLACE INTO registeredLife(origin, node, givenAt, beganAt) VALUES (?1, ?2, ?3, ?3)"
            ).execute(arguments: [voucher.origin.rawValue, Data(voucher.node), Int64(clamping: wallClock())])
        }
    }

    /// Knows the former numbers of a node again that were given after the backup.
    private func readmitFormerLives(_ voucher: Voucher) throws {
        for origin in voucher.former {
            try db.cachedStatement(
                sql: """
                    INSERT INTO registeredLife(origin, node, givenAt, beganAt) SELECT ?1, ?2, ?3, ?3
                    WHERE NOT EXISTS (SELECT 1 FROM registeredLife WHERE origin = ?1)
                        AND NOT EXISTS (SELECT 1 FROM registeredNode WHERE origin = ?1)
                    """
            ).execute(arguments: [origin.rawValue, Data(voucher.node), Int64(clamping: wallClock())])
        }
    }

    /// The greatest origin number that anything here speaks of: none up to it may be given to a new node.
    func greatestOrigin() throws -> Int64 {
        let known = try Int64.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT max(coalesce((SELECT max(origin) FROM registeredNode), 0),
                        coalesce((SELECT max(origin) FROM formerEntry), 0),
                        coalesce((SELECT max(origin) FROM branch), 0),
                        coalesce((SELECT max(origin) FROM branchGraveyard), 0))
                    """
            )
        )
        let written = vector.keys.map(\.rawValue).max() ?? 0
        return max(known ?? 0, Int64(written), Int64(node.origin.rawValue))
    }
}

extension Replica {
    /// Shows the voucher to a hub that has just said that it does not know this node; otherwise only says that
    /// there is one.
    func addVoucher(to hello: inout Hello, _ writer: ReplicaWriter) throws {
        let statement = try Data.fetchOne(
            writer.db.cachedStatement(sql: "SELECT statement FROM ownVoucher WHERE origin = ?"),
            arguments: [writer.node.origin.rawValue]
        )
        hello.extras.holdsVoucher = statement != nil
        if contacts.withLock({ $0.own.isForgotten }) { hello.extras.voucher = statement.map { [UInt8]($0) } }
    }

    /// A step of the consultation: keeps the voucher that head office has given.
    func keepVoucher(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .welcomed(let welcome, _) = occasion else { return .goOn }
        contacts.withLock { $0.own.isForgotten = false }
        guard let statement = welcome.extras.voucher else { return .goOn }
        try withWriter { writer in
            try writer.transaction { try writer.keepVoucher(statement, for: writer.node.origin) }
        }
        return .goOn
    }
}
