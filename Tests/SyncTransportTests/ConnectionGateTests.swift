import SyncProtocol
import Testing

@testable import SyncTransport

@Suite("Who may wait at a hub's door")
struct ConnectionGateTests {
    private let start = ContinuousClock.now

    private func address(_ number: UInt8) -> RemoteAddress { RemoteAddress(bytes: [192, 0, 2, number]) }
    private let local = RemoteAddress(bytes: [127, 0, 0, 1])

    @Test("Up to the limit all wait; one more takes the place of the one that has waited longest")
    func places() {
        var limits = SyncLimits()
        limits.unauthenticatedConnectionsMax = 3
        var gate = ConnectionGate(limits: limits)
        func expect(_ number: Int, from address: RemoteAddress, _ decision: ConnectionGate.Decision) {
            let found = gate.arrive(number, from: address, at: start)
            #expect(found == decision)
        }
        for number in 1...3 { #expect(gate.arrive(number, from: local, at: start) == .enter(insteadOf: nil)) }
        expect(4, from: local, .enter(insteadOf: 1))
        gate.leave(3)
        gate.leave(3)
        expect(5, from: local, .enter(insteadOf: nil))
        expect(6, from: local, .enter(insteadOf: 2))
        #expect(gate.count == 3)
    }

    @Test("Whoever holds most of the places gives one up, not the one that came alone")
    func shares() {
        var limits = SyncLimits()
        limits.unauthenticatedConnectionsMax = 4
        var gate = ConnectionGate(limits: limits)
        func expect(_ number: Int, from address: RemoteAddress, _ decision: ConnectionGate.Decision) {
            let found = gate.arrive(number, from: address, at: start)
            #expect(found == decision)
        }
        _ = gate.arrive(1, from: address(1), at: start)
        for number in 2...4 { _ = gate.arrive(number, from: address(2), at: start) }
        expect(5, from: address(3), .enter(insteadOf: 2))
        expect(6, from: address(4), .enter(insteadOf: 3))
    }

    @Test("An address may come so often at once, then so often a second; others are not touched by it")
    func speed() {
        var limits = SyncLimits()
        limits.connectionsAtOnceMax = 5
        limits.connectionsPerSecondMax = 2
        var gate = ConnectionGate(limits: limits)
        var number = 0
        func come(_ from: RemoteAddress, after seconds: Double = 0) -> Bool {
            number += 1
            return gate.arrive(number, from: from, at: start + .seconds(seconds)) != .tooFast
        }
        #expect((1...6).map { _ in come(address(1)) } == [true, true, true, true, true, false])
        #expect(come(address(2)))
        #expect(!come(address(1), after: 0.4))
        #expect(come(address(1), after: 0.5))
        #expect(!come(address(1), after: 0.6))
        // It never saves up more than it had at first.
        #expect((1...6).map { _ in come(address(1), after: 1000) } == [true, true, true, true, true, false])
        // This machine's own relay is not counted.
        #expect((1...50).allSatisfy { _ in come(local) })
    }

    @Test("Any number of addresses is counted in bounded memory, and strangers beyond it share one count")
    func manyAddresses() {
        var limits = SyncLimits()
        limits.addressesMax = 2
        limits.connectionsAtOnceMax = 2
        var gate = ConnectionGate(limits: limits)
        func come(_ from: UInt8, after seconds: Double = 0) -> Bool {
            gate.arrive(Int(from), from: address(from), at: start + .seconds(seconds)) != .tooFast
        }
        #expect(come(1) && come(2))
        // Together they have what one address has.
        #expect(come(3) && come(4) && !come(5))
        // Later the first ones are forgotten, because they have all they may.
        #expect(come(5, after: 60))
    }

    @Test("An IPv6 site counts as one, and an IPv4 address the same in both notations")
    func addresses() throws {
        func at(_ text: String) throws -> RemoteAddress { RemoteAddress(try .init(ipAddress: text, port: 1)) }
        #expect(try at("2001:db8::1") == at("2001:db8::ffff"))
        #expect(try at("2001:db8::1") != at("2001:db8:0:1::1"))
        #expect(try at("::ffff:192.0.2.1") == at("192.0.2.1"))
        #expect(try at("::1").isLoopback && at("127.0.0.9").isLoopback && !at("192.0.2.1").isLoopback)
    }
}
