import NIOCore
import SyncProtocol

/// Which connections a hub lets wait until it knows who they are.
///
/// Nobody is kept out by others who only wait: when all places are taken, the connection that has waited longest at the
/// address with the most of them gives way. An honest one needs its place for a few round trips; whoever never says who
/// it is keeps one only while nobody else wants it. How fast an address may come is bounded by a token bucket.
struct ConnectionGate: Sendable {
    enum Decision: Hashable {
        /// Comes in; the connection with this number must leave for it.
        case enter(insteadOf: Int?)
        /// Too many have come from its address in a short time.
        case tooFast
    }

    private struct Bucket {
        var tokens: Double
        var at: ContinuousClock.Instant
    }

    private let limits: SyncLimits
    /// In the order in which they came.
    private var waiting: [(number: Int, address: RemoteAddress)] = []
    private var buckets: [RemoteAddress: Bucket] = [:]

    init(limits: SyncLimits) { self.limits = limits }

    /// How many wait.
    var count: Int { waiting.count }

    mutating func arrive(_ number: Int, from address: RemoteAddress, at now: ContinuousClock.Instant) -> Decision {
        // A relay or tunnel on this machine brings everybody from one address.
        guard address.isLoopback || takeToken(address, now) else { return .tooFast }
        var leaving: Int?
        if waiting.count >= limits.unauthenticatedConnectionsMax {
            var counts: [RemoteAddress: Int] = [:]
            for place in waiting { counts[place.address, default: 0] += 1 }
            let most = counts.values.max() ?? 0
            if let index = waiting.firstIndex(where: { counts[$0.address] == most }) {
                leaving = waiting.remove(at: index).number
            }
        }
        waiting.append((number, address))
        return .enter(insteadOf: leaving)
    }

    /// A connection has said who it is, or has ended. Again does no harm.
    mutating func leave(_ number: Int) { waiting.removeAll { $0.number == number } }

    private mutating func takeToken(_ address: RemoteAddress, _ now: ContinuousClock.Instant) -> Bool {
        var key = address
        if buckets[key] == nil, buckets.count >= limits.addressesMax {
            let limits = limits
            buckets = buckets.filter { Self.filled($0.value, now, limits) < Double(limits.connectionsAtOnceMax) }
            // All others share one.
            if buckets.count >= limits.addressesMax { key = .other }
        }
        let bucket = buckets[key] ?? Bucket(tokens: Double(limits.connectionsAtOnceMax), at: now)
        let tokens = Self.filled(bucket, now, limits)
        guard tokens >= 1 else {
            buckets[key] = Bucket(tokens: tokens, at: now)
            return false
        }
        buckets[key] = Bucket(tokens: tokens - 1, at: now)
        return true
    }

    private static func filled(_ bucket: Bucket, _ now: ContinuousClock.Instant, _ limits: SyncLimits) -> Double {
        let seconds = (now - bucket.at) / .seconds(1)
        return min(
            bucket.tokens + seconds * Double(limits.connectionsPerSecondMax),
            Double(limits.connectionsAtOnceMax)
        )
    }
}

/// Where a connection comes from, as far as one sender can change it at will: the whole of an IPv4 address, and the
/// first 64 bits of an IPv6 one, which are a site's (RFC 4291, section 2.5.4).
struct RemoteAddress: Hashable, Sendable {
    /// Everybody who has no entry of their own.
    static let other = RemoteAddress(bytes: [])

    let bytes: [UInt8]

    init(bytes: [UInt8]) { self.bytes = bytes }

    init(_ address: SocketAddress?) {
        switch address {
        case .v4(let v4):
            self.init(bytes: withUnsafeBytes(of: v4.address.sin_addr) { [UInt8]($0) })
        case .v6(let v6):
            let all = withUnsafeBytes(of: v6.address.sin6_addr) { [UInt8]($0) }
            let isMapped = all.prefix(10).allSatisfy { $0 == 0 } && all[10] == 0xFF && all[11] == 0xFF
            let isLoopback = all.dropLast().allSatisfy { $0 == 0 } && all.last == 1
            self.init(bytes: isMapped ? Array(all.suffix(4)) : isLoopback ? [127, 0, 0, 1] : Array(all.prefix(8)))
        default:
            self = .other
        }
    }

    var isLoopback: Bool { bytes.count == 4 && bytes[0] == 127 }
}
