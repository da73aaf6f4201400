import Trust

/// The authority of all tests that need one, made once.
package enum TestAuthority {
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    package static let madeAt: UInt64 = 1_790_000_000_000

    private static let made = Result { () throws(TrustFailure) in
        try Authority(organisation: [UInt8](repeating: 1, count: 16), now: madeAt)
    }

    package static var authority: Authority { get throws { try made.get() } }

    /// The identity of a node, with a new key.
    ///
    /// - Parameters:
    ///   - from: When its certificate begins.
    ///   - by: Who signs it; nil for the authority of all tests.
    package static func identity(
        organisation: [UInt8],
        node: [UInt8],
        isHub: Bool = false,
        from: UInt64 = Authority.beginning(now: madeAt),
        by signer: Authority? = nil
    ) throws -> NodeIdentity {
        let authority = try signer ?? self.authority
        let key = NodeKey()
        let own = try authority.certify(
            SigningRequest(key.request()),
            organisation: organisation,
            node: node,
            isHub: isHub,
            from: from
        )
        let chain = try authority.chain
        // A hub shows its root, for newcomers.
        let issuers = isHub ? [chain.issuer, chain.root] : [chain.issuer]
        return try NodeIdentity(chain: [own] + issuers, root: chain.root, key: key)
    }
}
