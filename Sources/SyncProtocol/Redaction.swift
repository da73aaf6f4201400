import Causality
import Crypto

// When a row is erased, its values go from the change sets that wrote it as well. What is left no longer hashes
// to the chain of its origin, so head office's signature takes the place of that proof.

/// Head office's word that what is left of a change set belongs where it stands in its origin's history.
package struct Redaction: Hashable, Sendable {
    package static let signatureBytes = 64

    /// The chain up to the change set, as it was before anything was taken out.
    package let chain: ChangeChain
    /// Of ``statement(of:chain:content:)``, by the organisation's key; ``signatureBytes`` long, zeros before it is given.
    package let signature: [UInt8]

    package init(chain: ChangeChain, signature: [UInt8]?) {
        self.chain = chain
        self.signature = signature ?? [UInt8](repeating: 0, count: Self.signatureBytes)
    }

    /// Whether head office has given its word.
    package var isSigned: Bool { signature.contains { $0 != 0 } }

    /// What head office signs: which change set it is, where its history stands, and what is left of it.
    package static func statement(
        of id: ChangeSetID,
        chain: ChangeChain,
        content: UnsafeRawBufferPointer
    ) -> [UInt8] {
        var hash = SHA256()
        hash.update(bufferPointer: content)
        var writer = ByteWriter(capacity: 128)
        writer.raw(Array("peyvand redacted 1".utf8))
        writer.fixed64(UInt64(id.origin.rawValue))
        writer.fixed64(id.seq)
        writer.raw(chain.bytes)
        writer.raw([UInt8](hash.finalize()))
        return writer.bytes
    }
}

extension ChangeSet {
    /// The change set without what it wrote to some rows, given by table number. Orders to erase stay.
    ///
    /// The same rows leave the same change set, whether they are taken out at once or one after the other.
    package func without(_ rows: [Int: Set<Int64>]) -> ChangeSet {
        let left = tables.compactMap { table -> TableChanges? in
            guard let gone = rows[table.number] else { return table }
            var table = table
            table.rows.removeAll { $0.operation != .erase && gone.contains($0.id.rawValue) }
            return table.rows.isEmpty ? nil : table
        }
        return ChangeSet(header: header, tables: left)
    }
}
