import CRM
import Causality
import TestKit

// Writes at the node itself, of its own users and of other programs, beside the same rows in plain tables.

/// Who writes the node's rows.
enum Author {
    /// The node, for its users.
    case api
    /// Another program on the same file, with the triggers that notice it.
    case foreign
}

/// New activities, in transactions of so many.
final class Insertion: Contest {
    private let site: Site
    private let author: Author
    private let count: Int
    private let rowsEach: Int
    private var ids: [RowID] = []
    private var rows: [DataSet.Values] = []

    init(_ site: Site, by author: Author = .api, rows count: Int, each rowsEach: Int) {
        (self.site, self.author, self.count, self.rowsEach) = (site, author, count, rowsEach)
    }

    func prepare() throws {
        (ids, rows) = try site.newActivities(count)
        try site.settle()
    }

    func runPlain() throws { try site.plain.insert(.activity, ids, rows, rowsEach: rowsEach) }

    func runPeyvand() throws {
        switch author {
        case .api: try site.hub.insert(.activity, rows, rowsEach: rowsEach)
        case .foreign: try site.hub.foreign().insert(.activity, nil, rows, rowsEach: rowsEach)
        }
    }

    func check() throws { try site.hub.replica.sealForeignWrites() }

    func finish() throws { try site.checkSame(as: site.hub) }
}

/// Other outcomes of activities that are there, in transactions of so many.
final class Editing: Contest {
    private let site: Site
    private let author: Author
    private let count: Int
    private let rowsEach: Int
    private var ids: [RowID] = []
    private var outcome = FieldValue.null

    init(_ site: Site, by author: Author = .api, edits count: Int, each rowsEach: Int) {
        (self.site, self.author, self.count, self.rowsEach) = (site, author, count, rowsEach)
    }

    func prepare() throws {
        (ids, outcome) = try site.edits(count)
        try site.settle()
    }

    func runPlain() throws { try site.plain.setOutcome(outcome, of: ids, rowsEach: rowsEach) }

    func runPeyvand() throws {
        switch author {
        case .api: try site.hub.setOutcome(outcome, of: ids, rowsEach: rowsEach)
        case .foreign: try site.hub.foreign().setOutcome(outcome, of: ids, rowsEach: rowsEach)
        }
    }

    func check() throws { try site.hub.replica.sealForeignWrites() }

    func finish() throws { try site.checkSame(as: site.hub) }
}

/// What another program has written, taken up into the log; beside writing the same rows into plain tables.
final class Sealing: Contest {
    private let site: Site
    private let count: Int
    private var ids: [RowID] = []
    private var rows: [DataSet.Values] = []
    private var edited: [RowID] = []
    private var outcome = FieldValue.null
    private var before: UInt64 = 0

    /// - Parameter count: How many new rows, and how many edits of others.
    init(_ site: Site, _ count: Int) { (self.site, self.count) = (site, count) }

    func prepare() throws {
        (ids, rows) = try site.newActivities(count)
        (edited, outcome) = try site.edits(count)
        before = try site.hub.end()
        let foreign = try site.hub.foreign()
        try foreign.insert(.activity, nil, rows, rowsEach: 1000)
        try foreign.setOutcome(outcome, of: edited, rowsEach: 1000)
        try site.settle()
    }

    func runPlain() throws {
        try site.plain.insert(.activity, ids, rows)
        try site.plain.setOutcome(outcome, of: edited, rowsEach: edited.count)
    }

    func runPeyvand() throws { try site.hub.replica.sealForeignWrites() }

    func check() throws {
        guard try site.hub.end() > before else { throw NotTheSame(description: "Sealing has found nothing.") }
    }

    func finish() throws { try site.checkSame(as: site.hub) }
}
