import Causality
import ReplicaStore
import Testing

@Suite("Rows of branches")
struct BranchRowTests {
    @Test("Every branch that joins gets a row of its own")
    func ownRows() throws {
        let hub = try Office.headOffice()
        let names = ["isfahan", "shiraz", "tabriz"]
        let rows = try names.map { try Office.branch($0, of: hub).replica.node.branchRow }
        #expect(Set(rows).count == names.count)
        for (row, name) in zip(rows, names) {
            #expect(try hub.value("name", of: #require(row), in: .branch) == .text(name))
        }
    }
}
