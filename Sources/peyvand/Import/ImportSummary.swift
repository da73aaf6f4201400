/// What came of an import.
struct ImportSummary: Encodable, Sendable {
    /// The import, by which it can be taken back; nil when nothing has changed.
    @OrNull var batch: String?
    var rows = 0
    var created = 0
    /// Created ones that are by rule one customer with a record that was here.
    var linked = 0
    var updated = 0
    var skipped = 0
    var invalid = 0
    var dryRun = false
    /// Where the last change set stands.
    var position: UInt64?
    /// Rows that were not taken; the first thousand.
    var problems: [ImportChunk.Problem] = []
    /// Values that were taken but look wrong; the first thousand.
    var warnings: [ImportChunk.Problem] = []
    /// In a dry run: the first thousand of the values that would change.
    var changes: [ImportChunk.Change] = []
    var ignoredColumns: [String] = []
    /// Whether it ended before the end of the file, because somebody asked for it.
    var isStopped = false
    /// Why it ended before the end of the file; what was counted until then stays.
    var failure: CommandFailure?
    /// Fields that were edited here after they were imported, and stay as they are.
    var kept = 0

    /// Problems beyond this are only counted, so that a wrong file does not fill the memory.
    static let problemsMax = 1000

    mutating func add(_ outcome: ImportChunk.Outcome) {
        created += outcome.created
        linked += outcome.linked
        updated += outcome.updated
        skipped += outcome.skipped
        kept += outcome.kept
        position = outcome.position ?? position
        batch = outcome.batch ?? batch
        changes += outcome.changes.prefix(max(0, Self.problemsMax - changes.count))
        invalid += outcome.invalid.count
        problems += outcome.invalid.prefix(max(0, Self.problemsMax - problems.count))
    }

    mutating func add(warnings: [ImportChunk.Problem]) {
        self.warnings += warnings.prefix(max(0, Self.problemsMax - self.warnings.count))
    }

    /// What the row of the import says of it.
    var counts: [String: Int] {
        [
            "rows": rows, "created": created, "linked": linked, "updated": updated, "skipped": skipped,
            "invalid": invalid,
        ]
    }
}
