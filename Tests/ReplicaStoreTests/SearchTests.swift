import CRM
import Causality
import ReplicaStore
import TestKit
import Testing

@Suite("Finding customers")
struct SearchTests {
    @Test("A customer is found by the beginning of any word, in any spelling of kaf and yeh")
    func spelling() throws {
        let hub = try Office.headOffice()
        let id = try hub.add(["name": .text("مریم کریمی"), "city": .text("یزد")])
        try hub.add(["name": .text("علی رضایی")])
        for text in ["مریم", "كريمي", "کری", "يزد", "مریم كريمى"] {
            #expect(try hub.replica.findCustomers(text, limit: 10) == [id])
        }
        #expect(try hub.replica.findCustomers("حسن", limit: 10) == [])
        #expect(try hub.replica.findCustomers("  ", limit: 10) == [])
        #expect(try hub.replica.findCustomers("\"*) OR 1", limit: 10) == [])
    }

    @Test("A piece of a name is found however it is spaced")
    func joined() throws {
        let hub = try Office.headOffice()
        let id = try hub.add(["name": .text("محمد رضا حسین‌زاده")])
        #expect(try hub.replica.findCustomers("محمدرضا", limit: 10) == [id])
        #expect(try hub.replica.findCustomers("حسینزاده", limit: 10) == [id])
    }

    @Test("What changes, is deleted or comes from elsewhere is found as it is now")
    func follows() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("a", of: hub)
        let id = try branch.add(["name": .text("قدیمی")])
        try branch.sync(with: hub)
        #expect(try hub.replica.findCustomers("قدیمی", limit: 10) == [id])
        try branch.edit(id, ["name": .text("جدید")])
        try branch.sync(with: hub)
        #expect(try hub.replica.findCustomers("قدیمی", limit: 10) == [])
        #expect(try hub.replica.findCustomers("جدید", limit: 10) == [id])
        try hub.delete(id)
        #expect(try hub.replica.findCustomers("جدید", limit: 10) == [])
    }

    @Test("A change set with very many customers is indexed in pieces, and completely")
    func pieces() throws {
        let hub = try Office.headOffice()
        _ = try hub.replica.write { transaction in
            for number in 1...4500 {
                try transaction.insert("customer", ["name": .text("نام\(number)")])
            }
        }
        try hub.add(["name": .text("آخرین")])
        #expect(try !hub.replica.followLogForSearch(piecesMax: 1))
        #expect(try hub.replica.findCustomers("نام4500", limit: 10).count == 1)
        #expect(try hub.replica.findCustomers("نام1", limit: 5000).count == 1111)
        #expect(try hub.replica.findCustomers("آخرین", limit: 10).count == 1)
    }
}
