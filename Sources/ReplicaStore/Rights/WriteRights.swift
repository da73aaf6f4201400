import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

/// At head office: the policy in force about what branches may write, and what is known of them. Belongs to the writer.
final class WriteRights {
    /// A node that writes.
    private struct Author {
        let name: String
        /// Its row in the table of branches.
        let branch: Int64
        /// All numbers that it ever wrote under.
        let origins: Set<UInt32>
    }

    /// A row as it stands.
    struct Standing {
        let isAlive: Bool
        /// By column number.
        let values: [FieldValue]
    }

    /// Whose a row is.
    private enum Place: Hashable {
        /// A row of the table of branches.
        case branch(Int64)
        /// No branch is named; this node made it.
        case madeBy(Origin)
    }

    let version: UInt64
    private let policy: WritePolicy
    private let schema: Schema
    private var authors: [Origin: Author?] = [:]

    init(_ policy: WritePolicy, version: UInt64, schema: Schema) {
        self.policy = policy
        self.version = version
        self.schema = schema
    }

    /// What decides about a write of a branch, unless it is allowed whatever the row is.
    ///
    /// - Returns: The number of the rule, from 0.
    func rule(for origin: Origin, _ table: TableDescription, _ row: ChangeCursor, _ db: Database) throws -> Int? {
        guard let author = try author(origin, db) else { return nil }
        let verb: WritePolicy.Verb =
            switch row.operation {
            case .birth: .create
            case .update: .edit
            case .delete, .restore, .erase: .delete
            }
        let rule = policy.rule(for: author.name, table, verb, row.columns)
        return rule.flatMap { policy.rules[$0].scope == .all ? nil : $0 }
    }

    /// Whether a rule leaves a row open to a branch, as it stood and as it stands now.
    func allows(
        _ rule: Int,
        _ origin: Origin,
        _ id: Int64,
        of table: TableDescription,
        _ standings: [Standing?],
        _ writer: ReplicaWriter
    ) throws -> Bool {
        guard let author = try author(origin, writer.db) else { return true }
        let scope = policy.rules[rule].scope
        guard scope != .none else { return false }
        for case let standing? in standings {
            let place = try place(of: id, standing.values, table, writer)
            guard try isWithin(scope, place, of: author, writer) else { return false }
        }
        return true
    }

    private func author(_ origin: Origin, _ db: Database) throws -> Author? {
        if let known = authors[origin] { return known }
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT registeredNode.node, name, branchRow FROM registeredLife JOIN registeredNode USING (node)
                    WHERE registeredLife.origin = ?
                    """
            ),
            arguments: [origin.rawValue]
        )
        let author = try row.map { row in
            Author(
                name: row[1],
                branch: row[2],
                origins: try UInt32.fetchSet(
                    db.cachedStatement(sql: "SELECT origin FROM registeredLife WHERE node = ?"),
                    arguments: [row[0] as Data]
                )
            )
        }
        authors[origin] = .some(author)
        return author
    }

    private func isWithin(
        _ scope: WritePolicy.Scope,
        _ place: Place,
        of author: Author,
        _ writer: ReplicaWriter
    ) throws -> Bool {
        let branch: Int64?
        switch place {
        case .branch(let id): branch = id
        case .madeBy(let origin):
            if author.origins.contains(origin.rawValue) { return true }
            branch = try self.author(origin, writer.db)?.branch
        }
        if branch == author.branch { return true }
        guard scope == .ownRegion, let branch else { return false }
        let (own, other) = (try region(of: author.branch, writer), try region(of: branch, writer))
        return zip(own, other).contains { !$0.isNull && $0.isStoredAs($1) }
    }

    /// What makes two branches neighbours: their province, and the office above them.
    private func region(of branch: Int64, _ writer: ReplicaWriter) throws -> [FieldValue] {
        guard let values = try writer.standing(branch, of: .branch)?.values else { return [] }
        return ["province", "parent"].map { name in
            TableDescription.branch.column(named: name).map { values[$0.number] } ?? .null
        }
    }

    /// Whose a row is: that of the branch which it names, else that of the row which it belongs to, else its maker's.
    private func place(
        of id: Int64,
        _ values: [FieldValue],
        _ table: TableDescription,
        _ writer: ReplicaWriter
    ) throws -> Place {
        for name in ["homeBranch", "branch"] {
            if let column = table.column(named: name), case .integer(let branch) = values[column.number] {
                return .branch(branch)
            }
        }
        var parents = table.owners.map { (column: $0.column, table: $0.table) }
        if table.number == TableDescription.identityDecision.number, let low = table.column(named: "low") {
            parents.append((low.number, TableDescription.customer.name))
        }
        for parent in parents {
            guard case .integer(let parentID) = values[parent.column], let owner = schema.table(named: parent.table),
                owner.number != table.number, let above = try writer.standing(parentID, of: owner)
            else { continue }
            return try place(of: parentID, above.values, owner, writer)
        }
        return .madeBy(RowID(rawValue: id)?.origin ?? .none)
    }
}

extension ReplicaWriter {
    /// A row as it stands, deleted or not; nil when it is not here.
    func standing(_ id: Int64, of table: TableDescription) throws -> WriteRights.Standing? {
        let merge = try merge(of: table)
        for (place, isAlive) in [(merge.live, true), (merge.graveyard, false)] {
            let values = try place.readRow(id: id) { stored in
                table.columns.map { FieldValue(stored.field($0.number)) }
            }
            if let values { return WriteRights.Standing(isAlive: isAlive, values: values) }
        }
        return nil
    }
}
