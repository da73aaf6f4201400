import Testing
@Suite("stub") struct StubTests { @Test func stub() {} }
