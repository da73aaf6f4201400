import Causality
import GRDB
import TestKit

@testable import ReplicaStore

// How nodes come into the organisation, and how those come back that were copied or had a wrong clock.

extension CrashScript {
    private static func enrolment(_ name: String, isHubTheVictim: Bool) -> CrashScript {
        CrashScript(
            name: name,
            isHubTheVictim: isHubTheVictim,
            prepare: { stage in
                try stage.makeHeadOffice()
                try stage.createBranch()
                try stage.invite()
                try stage.add("پایه", at: stage.hub)
            },
            play: { stage in
                try stage.join()
                try stage.add("نخستین شعبه", at: stage.branch)
                try stage.sync()
            },
            recover: { stage in
                for node in [stage.hub, stage.branch] where !node.isOpen { try node.open() }
                // The command is given again: with the same key it gives the same node.
                if try !stage.branch.replica.node.isJoined { try stage.join() }
                let origins = try stage.hub.replica.read { reader in
                    try Int64.fetchAll(reader.db, sql: "SELECT origin FROM branch ORDER BY 1")
                }
                return origins == [1, 2] ? [] : ["the branches of the organisation are \(origins)"]
            }
        )
    }

    static let enrolAtBranch = enrolment("a branch joins", isHubTheVictim: false)
    static let enrolAtHub = enrolment("head office lets a branch join", isHubTheVictim: true)

    static let clone = CrashScript(
        name: "a copy of a branch meets head office",
        prepare: { stage in
            try stage.makeBoth()
            try stage.branch.close()
            let old = stage.branch.disk.state()
            try stage.branch.open()
            for number in 0..<2 { try stage.add("از اصل \(number)", at: stage.branch) }
            try stage.edit(stage.ids[0], note: "از اصل", at: stage.branch)
            try stage.sync()
            stage.branch.die()
            // With its fence: nothing tells the copy that it is one.
            stage.branch.disk.restore(old)
            try stage.branch.open()
            for number in 0..<2 { try stage.add("از رونوشت \(number)", at: stage.branch) }
            try stage.edit(stage.ids[1], note: "از رونوشت", at: stage.branch)
            stage.mayRewriteLog = true
        },
        play: { try $0.sync() }
    )

    static let shift = CrashScript(
        name: "a clock that is a day ahead is corrected",
        prepare: { stage in
            try stage.makeBoth()
            try stage.branch.close()
            stage.branch.clock.set(off: Int64(VirtualTime.day))
            try stage.branch.open()
            for number in 0..<3 { try stage.add("از فردا \(number)", at: stage.branch) }
            try stage.edit(stage.ids[0], note: "از فردا", at: stage.branch)
            stage.mayRewriteLog = true
        },
        play: { try $0.sync() },
        recover: { stage in
            let late = try stage.branch.replica.read { reader in
                try Int.fetchOne(
                    reader.db,
                    sql: "SELECT count(*) FROM log WHERE hubPosition IS NOT NULL AND time >> 16 > ?",
                    arguments: [Int64(stage.clock.milliseconds + 1000)]
                )
            }
            return late == 0 ? [] : ["\(late ?? 0) change sets of tomorrow were taken"]
        }
    )
}
