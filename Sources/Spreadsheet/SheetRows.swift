/// The rows of a sheet, one at a time.
final class SheetRows: XMLElements {
    /// The row that ended last and has something in it.
    private(set) var row = SpreadsheetRow(number: 0, cells: [])

    private let sharedTexts: SharedTexts
    private let formats: CellFormats
    private let countsFrom1904: Bool

    private var isInData = false
    /// The row and column that began last, from 1; 0 for none.
    private var number = 0
    private var column = 0
    private var cells: [String] = []
    private var rowBytes = 0
    private var sheetBytes = 0

    private var kind = Kind.number
    private var format = CellFormat.plain
    private var value: [UInt8] = []
    private var collector = RichText()
    private var isInValue = false
    private var hasFormula = false

    private enum Kind {
        case number, shared, text, boolean, error, moment
    }

    init(_ sharedTexts: SharedTexts, _ formats: CellFormats, countsFrom1904: Bool) {
        self.sharedTexts = sharedTexts
        self.formats = formats
        self.countsFrom1904 = countsFrom1904
    }

    func start(_ name: XMLName, _ attributes: XMLAttributes, depth: Int) throws(SpreadsheetFailure.Problem) {
        if depth == 2 { isInData = name == "sheetData" }
        guard isInData else { return }
        switch depth {
        case 3 where name == "row": try startRow(attributes)
        case 4 where name == "c": try startCell(attributes)
        case 5:
            if name == "v" {
                isInValue = true
            } else if name == "is" {
                collector.begin(depth: depth)
            } else if name == "f" {
                hasFormula = true
            }
        case 6, 7: collector.start(name, depth: depth)
        default: break
        }
    }

    func text(_ bytes: UnsafeBufferPointer<UInt8>) throws(SpreadsheetFailure.Problem) {
        guard isInValue || collector.isCollecting else { return }
        guard value.count + bytes.count <= SpreadsheetLimits.rowBytesMax else { throw .rowTooLong(row: number) }
        value.append(contentsOf: bytes)
    }

    func end(_ name: XMLName, depth: Int) throws(SpreadsheetFailure.Problem) -> Bool {
        guard isInData else { return false }
        switch depth {
        case 3 where name == "row": return endRow()
        case 4 where name == "c": try endCell()
        case 5:
            isInValue = false
            collector.end(depth: depth)
        case 6, 7: collector.end(depth: depth)
        default: break
        }
        return false
    }

    // MARK: Rows

    private func startRow(_ attributes: XMLAttributes) throws(SpreadsheetFailure.Problem) {
        var next = number + 1
        if let written = attributes["r"] {
            guard let given = Self.wholeNumber(written), given > number else { throw .wildReference(afterRow: number) }
            next = given
        }
        guard next <= SpreadsheetLimits.rowsMax else { throw .wildReference(afterRow: number) }
        number = next
        column = 0
        rowBytes = 0
        cells.removeAll(keepingCapacity: true)
    }

    private func endRow() -> Bool {
        guard !cells.isEmpty else { return false }
        row = SpreadsheetRow(number: number, cells: cells)
        return true
    }

    // MARK: Cells

    private func startCell(_ attributes: XMLAttributes) throws(SpreadsheetFailure.Problem) {
        var next = column + 1
        if let written = attributes["r"] {
            guard let place = Self.place(written), place.row == number, place.column > column else {
                throw .wildReference(afterRow: number - 1)
            }
            next = place.column
        }
        guard next <= SpreadsheetLimits.columnsMax else { throw .tooManyColumns(row: number) }
        column = next
        kind = try Self.kind(attributes["t"])
        format = .plain
        if kind == .number, let style = attributes["s"] {
            guard let index = Self.wholeNumber(style) else { throw .damaged(.styles, line: 1) }
            format = formats[index] ?? .plain
        }
        value.removeAll(keepingCapacity: true)
        hasFormula = false
    }

    private func endCell() throws(SpreadsheetFailure.Problem) {
        guard !value.isEmpty else {
            // A text may be empty. A number never is: whoever wrote the formula has left its value to others.
            guard !hasFormula || kind == .text else { throw .notCalculated(cell: reference) }
            return
        }
        let text = try cellText()
        guard !text.isEmpty else { return }
        guard column <= SpreadsheetLimits.readColumnsMax else { throw .tooManyColumns(row: number) }
        rowBytes += text.utf8.count
        sheetBytes += text.utf8.count
        guard rowBytes <= SpreadsheetLimits.rowBytesMax else { throw .rowTooLong(row: number) }
        guard sheetBytes <= SpreadsheetLimits.sheetTextBytesMax else { throw .tooMuchText }
        while cells.count < column - 1 { cells.append("") }
        cells.append(text)
    }

    private func cellText() throws(SpreadsheetFailure.Problem) -> String {
        switch kind {
        case .number:
            return NumberText.text(String(decoding: value, as: UTF8.self), format, countsFrom1904: countsFrom1904)
        case .shared:
            guard let index = Int(String(decoding: value, as: UTF8.self)), let text = sharedTexts[index] else {
                throw .damaged(.sharedTexts, line: 1)
            }
            return text
        case .text:
            EscapedText.unescape(&value)
            return String(decoding: value, as: UTF8.self)
        case .boolean: return value == [UInt8(ascii: "1")] || value == Array("true".utf8) ? "true" : "false"
        case .error: return String(decoding: value, as: UTF8.self)
        case .moment:
            // `2026-11-23T00:00:00.000Z`: a fraction and a zone say nothing, midnight is the day alone.
            var text = String(decoding: value, as: UTF8.self)
            if text.hasSuffix("Z") { text.removeLast() }
            if text.hasSuffix(".000") { text.removeLast(4) }
            if text.hasSuffix("T00:00:00") { text.removeLast(9) }
            return text
        }
    }

    /// The cell as the programs name it: `C7`.
    private var reference: String {
        var letters = ""
        var rest = column
        while rest > 0 {
            letters = String(UnicodeScalar(UInt8(ascii: "A") + UInt8((rest - 1) % 26))) + letters
            rest = (rest - 1) / 26
        }
        return letters + String(number)
    }

    private static func kind(_ type: UnsafePointer<CChar>?) throws(SpreadsheetFailure.Problem) -> Kind {
        guard let type else { return .number }
        return switch XMLValue(type) {
        case "s": .shared
        case "str", "inlineStr": .text
        case "n": .number
        case "b": .boolean
        case "e": .error
        case "d": .moment
        default: throw .damaged(.sheet, line: 1)
        }
    }

    /// Digits without sign, at most seven of them; nil for anything else.
    private static func wholeNumber(_ text: UnsafePointer<CChar>) -> Int? {
        var number = 0
        var index = 0
        while text[index] != 0 {
            let digit = Int(text[index]) - 0x30
            guard (0...9).contains(digit), index < 7 else { return nil }
            number = number * 10 + digit
            index += 1
        }
        return index > 0 ? number : nil
    }

    /// `C7` as column 3 and row 7; nil for anything else.
    private static func place(_ text: UnsafePointer<CChar>) -> (column: Int, row: Int)? {
        var column = 0
        var index = 0
        while case let letter = Int(text[index]) - 0x40, (1...26).contains(letter) {
            guard index < 3 else { return nil }
            column = column * 26 + letter
            index += 1
        }
        guard index > 0, let row = wholeNumber(text + index) else { return nil }
        return (column, row)
    }
}
