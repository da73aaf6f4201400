/// Cuts the bytes of a CSV file into records, as they come: never more than one record waits.
///
/// Takes quoted cells with doubled quotes and line breaks, and lines that end in LF, CR LF or CR. A quote
/// inside a bare cell is a letter like any other.
///
/// Not SwiftCSV, which wants the whole file as one text, joins a cell that begins with ZWNJ or a vowel sign with
/// the one before it (the delimiter and the mark are one Swift character), and gives up the file at a bad quote.
///
/// - Source: RFC 4180.
struct CSVReader {
    /// The longest record; beyond it a quote was surely left open.
    static let recordBytesMax = 1 << 20

    private let delimiter: UInt8
    private let encoding: TextEncoding
    private var buffer: [UInt8] = []
    private var start = 0
    private var line = 1

    init(delimiter: UInt8, encoding: TextEncoding) {
        self.delimiter = delimiter
        self.encoding = encoding
    }

    /// Adds bytes behind those that wait.
    mutating func append(_ bytes: some Collection<UInt8>) {
        buffer.removeFirst(start)
        start = 0
        buffer.append(contentsOf: bytes)
    }

    /// Takes the next record.
    ///
    /// - Parameter isEnd: Whether no more bytes follow.
    /// - Returns: Nil when more bytes are needed, or, at the end, when there are no more records.
    mutating func next(isEnd: Bool) -> FileRecord? {
        guard start < buffer.count else { return nil }
        let scan = buffer.withUnsafeBufferPointer { bytes in
            Scan(bytes, from: start, delimiter: delimiter, encoding: encoding, isEnd: isEnd)
        }
        guard let scan else { return nil }
        defer {
            start = scan.end
            line += scan.lineCount
        }
        return FileRecord(line: line, cells: scan.cells, flaw: scan.flaw)
    }

    /// One record found in a buffer.
    private struct Scan {
        var cells: [String] = []
        var flaw: FileRecord.Flaw?
        var lineCount = 0
        /// Behind the line break.
        var end: Int

        private static let quote = UInt8(ascii: "\"")
        private static let feed = UInt8(ascii: "\n")
        private static let carriage = UInt8(ascii: "\r")

        /// Reads a record; nil when its end is not in the buffer yet.
        init?(
            _ bytes: UnsafeBufferPointer<UInt8>,
            from start: Int,
            delimiter: UInt8,
            encoding: TextEncoding,
            isEnd: Bool
        ) {
            end = start
            let limit = bytes.count
            while true {
                var index = end
                while index < limit, bytes[index] == 0x20 { index += 1 }
                if index < limit, bytes[index] == Self.quote {
                    guard let cell = quotedCell(bytes, after: index, delimiter, isEnd: isEnd, start) else {
                        return nil
                    }
                    cells.append(cell.withUnsafeBytes { encoding.text($0) })
                } else {
                    while index < limit, bytes[index] != delimiter, bytes[index] != Self.feed,
                        bytes[index] != Self.carriage
                    {
                        index += 1
                    }
                    if index == limit, !isEnd, index - start <= CSVReader.recordBytesMax { return nil }
                    let cell = UnsafeBufferPointer(rebasing: bytes[end..<index])
                    cells.append(encoding.text(UnsafeRawBufferPointer(cell)))
                    end = index
                }
                if end < limit, bytes[end] == delimiter {
                    end += 1
                    continue
                }
                if end < limit, bytes[end] == Self.carriage {
                    // Whether a line feed follows must be known.
                    if end + 1 == limit, !isEnd { return nil }
                    end += end + 1 < limit && bytes[end + 1] == Self.feed ? 2 : 1
                    lineCount += 1
                } else if end < limit {
                    end += 1
                    lineCount += 1
                }
                return
            }
        }

        /// Reads a cell behind its opening quote, and moves to the delimiter or line break behind it.
        private mutating func quotedCell(
            _ bytes: UnsafeBufferPointer<UInt8>,
            after opening: Int,
            _ delimiter: UInt8,
            isEnd: Bool,
            _ start: Int
        ) -> [UInt8]? {
            var content: [UInt8] = []
            var index = opening + 1
            let linesBefore = lineCount
            while true {
                guard index < bytes.count, index - start <= CSVReader.recordBytesMax else {
                    guard isEnd || index - start > CSVReader.recordBytesMax else { return nil }
                    // Only this line is given up: the quote was meant for it.
                    flaw = .openQuote
                    lineCount = linesBefore
                    end = bytes[opening...].firstIndex(of: Self.feed) ?? bytes.count
                    return Array(bytes[opening..<end])
                }
                let byte = bytes[index]
                if byte == Self.quote {
                    if index + 1 == bytes.count, !isEnd { return nil }
                    if index + 1 < bytes.count, bytes[index + 1] == Self.quote {
                        content.append(byte)
                        index += 2
                        continue
                    }
                    break
                }
                if byte == Self.feed { lineCount += 1 }
                content.append(byte)
                index += 1
            }
            index += 1
            while index < bytes.count, bytes[index] != delimiter, bytes[index] != Self.feed,
                bytes[index] != Self.carriage
            {
                if bytes[index] != 0x20 { flaw = .textAfterQuote }
                index += 1
            }
            if index == bytes.count, !isEnd { return nil }
            end = index
            return content
        }
    }
}

/// Writes cells as ``CSVReader`` reads them.
enum CSVText {
    /// One line of cells, each quoted if it must be, ended by CR LF.
    static func line(_ cells: [String], delimiter: Unicode.Scalar) -> String {
        cells.map { cell($0, delimiter: delimiter) }.joined(separator: String(delimiter)) + "\r\n"
    }

    /// Goes by code points: a quote and the ZWNJ behind it are one Swift character.
    private static func cell(_ text: String, delimiter: Unicode.Scalar) -> String {
        let mustQuote =
            text.unicodeScalars.first == " "
            || text.unicodeScalars.contains { ["\"", "\n", "\r", delimiter].contains($0) }
        guard mustQuote else { return text }
        var quoted = String.UnicodeScalarView("\"".unicodeScalars)
        for scalar in text.unicodeScalars {
            if scalar == "\"" { quoted.append(scalar) }
            quoted.append(scalar)
        }
        quoted.append("\"")
        return String(quoted)
    }
}
