import Foundation
import Glibc
import Trust

/// The files of a node's keys and certificates, in `keys` under its directory: for its owner alone.
///
/// | file | what |
/// |---|---|
/// | `root.pem` | the certificate of the organisation's root |
/// | `root.key` | head office: the root's key; it may be kept elsewhere, and is needed for a new issuer only |
/// | `issuer.pem` | head office: the issuer's certificate and key |
/// | `node.pem` | the node's certificate, its issuer's, and the node's key |
/// | `node.key` | a key of the node for which there is no certificate yet |
struct KeyFiles: Sendable {
    enum Name: String, CaseIterable {
        case root = "root.pem"
        case rootKey = "root.key"
        case issuer = "issuer.pem"
        case node = "node.pem"
        case nextNodeKey = "node.key"
    }

    /// Of the node.
    let directory: String

    private var folder: String { directory + "/keys" }

    private func path(_ name: Name) -> String { folder + "/" + name.rawValue }

    /// Reads a file; nil when there is none.
    ///
    /// - Throws: ``StoreFailure/keyFile(path:reason:)``.
    func read(_ name: Name) throws -> String? {
        guard access(path(name), F_OK) == 0 else { return nil }
        guard let text = try? String(contentsOfFile: path(name), encoding: .utf8) else {
            throw StoreFailure.keyFile(path: path(name), reason: "it cannot be read; check its owner")
        }
        return text
    }

    /// Writes a file, durably, whole or not at all; nobody but its owner may read it.
    ///
    /// - Throws: ``StoreFailure/keyFile(path:reason:)``.
    func write(_ name: Name, _ text: String) throws {
        func fail(_ path: String) -> StoreFailure {
            .keyFile(path: path, reason: "it cannot be written (\(String(cString: strerror(errno))))")
        }
        guard mkdir(folder, 0o700) == 0 || errno == EEXIST else { throw fail(folder) }
        let draft = path(name) + ".new"
        unlink(draft)
        let file = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw fail(draft) }
        var isWritten = true
        var rest = Array(text.utf8)[...]
        while isWritten, !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            isWritten = count > 0
            rest = rest.dropFirst(max(0, count))
        }
        let isDurable = isWritten && fsync(file) == 0
        close(file)
        guard isDurable, rename(draft, path(name)) == 0 else { throw fail(path(name)) }
        syncDirectory(of: path(name))
        syncDirectory(of: folder)
    }

    /// Lets go of a file.
    func remove(_ name: Name) { unlink(path(name)) }

    // MARK: What they hold

    /// Head office's authority; nil where there is none.
    ///
    /// - Throws: ``StoreFailure/keyFile(path:reason:)`` when it is there and cannot be used.
    func authority() throws -> Authority? {
        guard let issuer = try read(.issuer), let root = try read(.root) else { return nil }
        do {
            let parts = try PEMText.parts(of: issuer)
            return try Authority(
                Authority.Papers(
                    root: root,
                    rootKey: read(.rootKey),
                    issuer: PEMText.text(parts.certificates),
                    issuerKey: parts.key ?? ""
                )
            )
        } catch let failure as TrustFailure {
            throw StoreFailure.keyFile(path: path(.issuer), reason: failure.description)
        }
    }

    /// Writes an authority down: the root first, without which an issuer is worth nothing.
    func write(_ authority: Authority) throws {
        let papers = try authority.papers
        if let key = papers.rootKey, try read(.rootKey) != key { try write(.rootKey, key) }
        if try read(.root) != papers.root { try write(.root, papers.root) }
        try write(.issuer, papers.issuer + papers.issuerKey)
    }

    /// With what the node secures its lines; nil before it has a certificate.
    ///
    /// - Throws: ``StoreFailure/keyFile(path:reason:)``.
    func identity() throws -> NodeIdentity? {
        guard let own = try read(.node), let root = try read(.root) else { return nil }
        do {
            let parts = try PEMText.parts(of: own)
            guard let rootBytes = try PEMText.parts(of: root).certificates.first else {
                throw TrustFailure.malformed("root")
            }
            return try NodeIdentity(chain: parts.certificates, root: rootBytes, key: NodeKey(pem: parts.key ?? ""))
        } catch let failure as TrustFailure {
            throw StoreFailure.keyFile(path: path(.node), reason: failure.description)
        }
    }

    /// Writes an identity down, and lets go of the key that waited for it.
    func write(_ identity: NodeIdentity) throws {
        let root = PEMText.text([identity.root])
        if try read(.root) != root { try write(.root, root) }
        try write(.node, PEMText.text(identity.chain, key: identity.keyPEM))
        remove(.nextNodeKey)
    }

    /// The key for which a certificate is to be had: the one that waits already, or a new one.
    func nextKey() throws -> NodeKey {
        if let text = try read(.nextNodeKey), let key = try? NodeKey(pem: text) { return key }
        let key = NodeKey()
        try write(.nextNodeKey, key.pem)
        return key
    }

    // MARK: In backups

    /// Every file by its name.
    func all() throws -> [(name: String, content: String)] {
        try Name.allCases.compactMap { name in try read(name).map { (name.rawValue, $0) } }
    }

    /// Puts back what a backup has kept, but for files that are there.
    func putBack(_ files: [(name: String, content: String)]) throws {
        for (text, content) in files {
            guard let name = Name(rawValue: text), try read(name) == nil else { continue }
            try write(name, content)
        }
    }
}
