import Testing

@testable import peyvand

@Suite("Parked changes on the command line")
struct ParkedRequestTests {
    @Test("With nothing parked, the list is empty, a retry does nothing, and an unknown id is a refusal")
    func empty() throws {
        let node = try TestNode()
        #expect(try node.ask(ListParked(limit: 10)).isEmpty)
        #expect(try node.ask(RetryParked(id: nil)).applied == 0)
        #expect(try node.ask(ShowStatus()).parked == 0)
        for (request, exit) in [("7", ExitStatus.refused), ("۷", .refused), ("x", .usage)] {
            let retry = #expect(throws: CommandFailure.self) { try node.ask(RetryParked(id: request)) }
            #expect(retry?.exit == exit)
            let drop = #expect(throws: CommandFailure.self) { try node.ask(DropParked(id: request)) }
            #expect(drop?.exit == exit)
        }
    }
}
