import Causality
import Foundation
import Testing

@testable import SyncProtocol

/// The bytes of every shape of change set, as they were written when the format was first used. They are kept
/// for ever: a node must read what an older one wrote, and write the same bytes that were hashed.
@Suite("Golden change sets")
struct ChangeSetGoldenTests {
    @Test("Every shape has the bytes it always had, and is read back", arguments: Golden.all)
    func golden(sample: Golden) throws {
        let content = try sample.changeSet.content()
        let file = Self.directory.appendingPathComponent("\(sample.name).hex")
        let chain = content.withUnsafeBytes { ChangeChain.empty.appending(content: $0) }
        let text = "content \(hexadecimal(content))\nchain \(hexadecimal(chain.bytes))\n"
        if ProcessInfo.processInfo.environment["PEYVAND_WRITE_GOLDEN"] != nil {
            // Only for a new shape: a file that is there is never written again.
            guard !FileManager.default.fileExists(atPath: file.path) else { return }
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        let stored = try String(contentsOf: file, encoding: .utf8)
        #expect(text == stored)
        let read = try content.withUnsafeBytes { ChangeSet(try ChangeSetReader($0)) }
        #expect(read == sample.changeSet)
    }

    private static let directory = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().appendingPathComponent("Golden")
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}

struct Golden: Sendable, CustomTestStringConvertible {
    let name: String
    let changeSet: ChangeSet

    var testDescription: String { name }

    static let all: [Golden] = [
        Golden("empty", []),
        Golden("birth", [table(1, 5, [birth(1, [.integer(1_800_000_000_000), .null, .text("مریم رضایی"), .null])])]),
        Golden(
            "births-columnar",
            [
                table(
                    1,
                    5,
                    (1...10).map {
                        birth(
                            $0,
                            [.integer(1000 + $0 * 7), .null, .text("n\($0)"), $0 % 3 == 0 ? .null : .integer(-$0)]
                        )
                    }
                )
            ]
        ),
        Golden("update-one-column", [table(4, 8, [change(9, .update, [3], [.text("پیگیری ثبت‌نام")])])]),
        Golden("update-to-null", [table(4, 8, [change(9, .update, [3, 5], [.null, .null])])]),
        Golden("delete", [table(4, 8, [change(9, .delete, [], [])])]),
        Golden("delete-with-columns", [table(4, 8, [change(9, .delete, [4], [.integer(.min)])])]),
        Golden("restore", [table(4, 8, [change(9, .restore, [], [])])]),
        Golden("blob", [table(5, 6, [change(2, .update, [4], [.blob([0, 1, 255])])])]),
        Golden("empty-text-and-blob", [table(5, 6, [change(2, .update, [3, 4], [.text(""), .blob([])])])]),
        Golden(
            "integers-differences",
            [table(2, 4, (1...6).map { change($0, .update, [3], [.integer(1 << 40 + $0)]) })]
        ),
        Golden(
            "integers-extreme",
            [table(2, 4, [change(1, .update, [3], [.integer(.max)]), change(2, .update, [3], [.integer(.min)])])]
        ),
        Golden(
            "mixed-shapes",
            [
                table(
                    1,
                    6,
                    [
                        change(1, .update, [3], [.text("a")]), change(2, .delete, [], []),
                        change(3, .update, [3, 4], [.null, .integer(5)]), change(4, .update, [3], [.text("b")]),
                        change(7, .restore, [], []),
                    ]
                )
            ]
        ),
        Golden(
            "several-tables",
            [
                table(1, 4, [birth(1, [.integer(1), .null, .text("x")])]),
                table(9, 3, [birth(1, [.integer(2), .integer(3)])]),
            ]
        ),
        Golden("sixty-four-columns", [table(3, 64, [change(1, .update, [63], [.text("آخر")])])]),
        Golden(
            "context",
            [table(1, 4, [change(1, .delete, [], [])])],
            CausalContext(
                lives: [ChangeSetID(origin: origin(2), seq: 7), ChangeSetID(origin: origin(17), seq: 300)],
                hubs: [LogPrefix(position: 123_456, digest: 0x0123_4567_89AB_CDEF)]
            )
        ),
        Golden(
            "issued-again",
            [table(1, 5, [birth(1, [.integer(1), .null, .text("مریم"), .null]), change(7, .delete, [], [])])],
            CausalContext(lives: [ChangeSetID(origin: origin(16), seq: 3)], hubs: []),
            issuedAgain
        ),
        Golden("unknown-extension", [table(1, 4, [change(1, .delete, [], [])])], .empty, unknownExtension),
    ]

    private static let issuedAgain: ChangeSetExtensions = {
        var extensions = ChangeSetExtensions()
        extensions.firstIdentity = FirstIdentity(
            id: ChangeSetID(origin: origin(16), seq: 4),
            chain: [1, 2, 3].withUnsafeBytes { ChangeChain.empty.appending(content: $0) }
        )
        extensions.renumbered = [
            RenumberedRow(
                table: 1,
                former: RowID(origin: origin(16), counter: 4712),
                present: RowID(origin: origin(17), counter: 1)
            )
        ]
        return extensions
    }()

    private static let unknownExtension: ChangeSetExtensions = {
        var extensions = ChangeSetExtensions()
        extensions[99] = [1, 2, 3]
        return extensions
    }()

    private init(
        _ name: String,
        _ tables: [TableChanges],
        _ context: CausalContext = .empty,
        _ extensions: ChangeSetExtensions = ChangeSetExtensions()
    ) {
        self.name = name
        changeSet = ChangeSet(
            header: ChangeSetHeader(
                id: ChangeSetID(origin: Self.origin(17), seq: 4711),
                schemaVersion: 1,
                context: context,
                previousChain: 0xFEDC_BA98_7654_3210,
                extensions: extensions
            ),
            tables: tables
        )
    }

    private static func origin(_ number: UInt32) -> Origin { Origin(rawValue: number) ?? .none }

    private static func table(_ number: Int, _ columnCount: Int, _ rows: [RowChange]) -> TableChanges {
        TableChanges(number: number, columnCount: columnCount, rows: rows)
    }

    private static func birth(_ counter: Int64, _ values: [FieldValue]) -> RowChange {
        change(counter, .birth, Array(1...values.count), values)
    }

    private static func change(
        _ counter: Int64,
        _ operation: RowOperation,
        _ columns: [Int],
        _ values: [FieldValue]
    ) -> RowChange {
        RowChange(
            id: RowID(origin: origin(17), counter: counter),
            operation: operation,
            columns: columns.reduce(into: ColumnMask()) { $0.formUnion(ColumnMask(column: $1)) },
            values: values
        )
    }
}
