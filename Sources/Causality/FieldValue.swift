/// The value of one field, as a replica stores it.
package enum FieldValue: Hashable, Sendable {
    case null
    case integer(Int64)
    case text(String)
    case blob([UInt8])

    package var isNull: Bool { if case .null = self { true } else { false } }

    /// Whether both are stored as the same bytes.
    ///
    /// Not `==`, which calls texts equal that are written differently but look alike.
    package func isStoredAs(_ other: FieldValue) -> Bool {
        switch (self, other) {
        case (.null, .null): true
        case (.integer(let left), .integer(let right)): left == right
        case (.text(let left), .text(let right)): left.utf8.elementsEqual(right.utf8)
        case (.blob(let left), .blob(let right)): left == right
        default: false
        }
    }
}
