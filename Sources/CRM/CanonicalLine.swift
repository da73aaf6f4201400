import Causality
import Foundation

/// A stored field as it lies in memory that outlives the call.
package enum RawField {
    case null
    case integer(Int64)
    /// UTF-8.
    case text(UnsafeRawBufferPointer)
    case blob(UnsafeRawBufferPointer)
}

/// Writes rows of one table as canonical lines: equal rows give equal bytes.
///
/// A line is a `put` line of `write`: keys sorted by bytes, nulls left out, nothing escaped that JSON does
/// not demand, one line feed at the end.
///
/// Made once per table, so that a row costs no more than copying its bytes.
package struct CanonicalLine: Sendable {
    private struct Field: Sendable {
        let number: Int
        let type: ColumnType
        /// `"name":`
        let key: [UInt8]
    }

    private let fields: [Field]
    private let end: [UInt8]

    package init(_ table: TableDescription) {
        fields = table.columns.dropFirst().sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }.map {
            Field(number: $0.number, type: $0.type, key: Array("\"\($0.name)\":".utf8))
        }
        end = Array("},\"table\":\"\(table.name)\"}\n".utf8)
    }

    /// Appends the line of one row.
    ///
    /// - Parameter field: The value of a column by its number.
    package func append(_ id: RowID, to bytes: inout [UInt8], field: (Int) throws -> RawField) rethrows {
        bytes.append(contentsOf: Self.start)
        Self.append(id, to: &bytes)
        bytes.append(contentsOf: Self.set)
        var isFirst = true
        for column in fields {
            let value = try field(column.number)
            if case .null = value { continue }
            if !isFirst { bytes.append(UInt8(ascii: ",")) }
            isFirst = false
            bytes.append(contentsOf: column.key)
            Self.append(value, column.type, to: &bytes)
        }
        bytes.append(contentsOf: end)
    }

    private static let start = Array("{\"id\":\"".utf8)
    private static let set = Array("\",\"op\":\"put\",\"set\":{".utf8)
    private static let hexadecimal = Array("0123456789abcdef".utf8)

    private static func append(_ value: RawField, _ type: ColumnType, to bytes: inout [UInt8]) {
        let quote = UInt8(ascii: "\"")
        switch value {
        case .null:
            return
        case .text(let text):
            bytes.append(quote)
            appendEscaped(text, to: &bytes)
            bytes.append(quote)
        case .blob(let content):
            bytes.append(quote)
            bytes.append(contentsOf: Data(content).base64EncodedString().utf8)
            bytes.append(quote)
        case .integer(let number):
            switch type {
            case .reference:
                guard let id = RowID(rawValue: number) else { break }
                bytes.append(quote)
                append(id, to: &bytes)
                bytes.append(quote)
                return
            case .instant:
                bytes.append(quote)
                guard CivilTime.appendRFC3339(ofMilliseconds: number, to: &bytes) else {
                    bytes.removeLast()
                    break
                }
                bytes.append(quote)
                return
            case .boolean:
                guard number == 0 || number == 1 else { break }
                bytes.append(contentsOf: number == 1 ? "true".utf8 : "false".utf8)
                return
            case .text, .choice, .words, .integer, .money, .day, .references, .bytes:
                break
            }
            append(number, to: &bytes)
        }
    }

    private static func append(_ id: RowID, to bytes: inout [UInt8]) {
        append(Int64(id.origin.rawValue), to: &bytes)
        bytes.append(UInt8(ascii: "-"))
        append(id.counter, to: &bytes)
    }

    private static func append(_ number: Int64, to bytes: inout [UInt8]) {
        if number < 0 { bytes.append(UInt8(ascii: "-")) }
        let start = bytes.count
        var rest = number.magnitude
        repeat {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10))
            rest /= 10
        } while rest > 0
        bytes[start...].reverse()
    }

    private static func appendEscaped(_ text: UnsafeRawBufferPointer, to bytes: inout [UInt8]) {
        var copied = 0
        for (index, byte) in text.enumerated() {
            guard byte < 0x20 || byte == 0x22 || byte == 0x5C else { continue }
            bytes.append(contentsOf: text[copied..<index])
            copied = index + 1
            bytes.append(0x5C)
            switch byte {
            case 0x22, 0x5C: bytes.append(byte)
            case 0x08: bytes.append(UInt8(ascii: "b"))
            case 0x09: bytes.append(UInt8(ascii: "t"))
            case 0x0A: bytes.append(UInt8(ascii: "n"))
            case 0x0C: bytes.append(UInt8(ascii: "f"))
            case 0x0D: bytes.append(UInt8(ascii: "r"))
            default:
                bytes.append(contentsOf: "u00".utf8)
                bytes.append(hexadecimal[Int(byte >> 4)])
                bytes.append(hexadecimal[Int(byte & 15)])
            }
        }
        bytes.append(contentsOf: text[copied...])
    }
}
