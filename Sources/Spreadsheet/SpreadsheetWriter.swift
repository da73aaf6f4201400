import CXLSXWriter
import Foundation
import Glibc

/// What a cell holds. There is none for formulas: no text becomes one, whatever it begins with.
package enum SpreadsheetCell: Hashable, Sendable {
    case empty
    case text(String)
    /// Written as a number, with more than 15 digits as text.
    case integer(Int64)
}

/// A column of a sheet.
package struct SpreadsheetColumn: Hashable, Sendable {
    /// What most of its cells hold; it decides how cells behave that somebody adds later.
    package enum Kind: Hashable, Sendable {
        case text, integer
    }

    package let title: String
    package let kind: Kind
    /// In characters.
    package let width: Int

    package init(_ title: String, _ kind: Kind = .text, width: Int = 16) {
        self.title = title
        self.kind = kind
        self.width = width
    }
}

/// Writes one sheet into a spreadsheet (.xlsx), row by row, under another name, and gives the file its name when all of it
/// is written and was found whole.
///
/// Memory holds one row. Beside the file there must be room for its cells twice, unpacked: about 1.5 kB for a row of
/// twelve columns. What is written there has no name and vanishes with the process.
///
/// Owned by whoever writes; not for two threads at once. Blocks. Let go of without ``close()``, it leaves nothing.
package final class SpreadsheetWriter {
    private let path: String
    private let draft: String
    private let columns: [SpreadsheetColumn]
    private let directory: UnsafeMutablePointer<CChar>
    private var workbook: UnsafeMutablePointer<lxw_workbook>?
    private let sheet: UnsafeMutablePointer<lxw_worksheet>
    private let textFormat: UnsafeMutablePointer<lxw_format>?
    private let integerFormat: UnsafeMutablePointer<lxw_format>?
    private var rowCount = 0

    /// - Parameters:
    ///   - name: The sheet's name, cut to 31 characters, with spaces for those that no sheet may have in its name.
    ///   - isRightToLeft: Whether column A is the one on the right.
    /// - Throws: When the file cannot be made.
    package init(
        path: String,
        sheet name: String,
        isRightToLeft: Bool,
        columns: [SpreadsheetColumn]
    ) throws(SpreadsheetFailure) {
        precondition((1...SpreadsheetLimits.columnsMax).contains(columns.count), "A sheet has 1 to 16,384 columns.")
        self.path = path
        self.columns = columns
        draft = path + ".part"
        let descriptor = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw Self.failure(path, errno) }
        Glibc.close(descriptor)
        let parent = (path as NSString).deletingLastPathComponent
        directory = strdup(parent.isEmpty ? "." : parent)
        var options = lxw_workbook_options(constant_memory: 1, tmpdir: directory, use_zip64: 0)
        guard let workbook = workbook_new_opt(draft, &options),
            let sheet = workbook_add_worksheet(workbook, Self.fitting(name))
        else {
            unlink(draft)
            free(directory)
            throw Self.failure(path, errno)
        }
        self.workbook = workbook
        self.sheet = sheet
        textFormat = workbook_add_format(workbook)
        integerFormat = workbook_add_format(workbook)
        // `@` and `#,##0`, by the numbers that every program knows.
        format_set_num_format_index(textFormat, 49)
        format_set_num_format_index(integerFormat, 3)
        if isRightToLeft { worksheet_right_to_left(sheet) }
        let headFormat = workbook_add_format(workbook)
        format_set_num_format_index(headFormat, 49)
        format_set_bold(headFormat)
        for (index, column) in columns.enumerated() {
            let format = column.kind == .integer ? integerFormat : textFormat
            worksheet_set_column(sheet, lxw_col_t(index), lxw_col_t(index), Double(column.width), format)
        }
        worksheet_freeze_panes(sheet, 1, 0)
        for (index, column) in columns.enumerated() { try write(.text(column.title), at: index, headFormat) }
        rowCount = 1
    }

    deinit {
        if let workbook {
            lxw_workbook_free(workbook)
            unlink(draft)
        }
        free(directory)
    }

    /// Adds a row: a cell for each column, or fewer.
    ///
    /// - Throws: When a text or the sheet would grow beyond what the format allows, or the disk is full. Nothing is left then.
    package func append(_ cells: [SpreadsheetCell]) throws(SpreadsheetFailure) {
        precondition(cells.count <= columns.count, "There are \(cells.count) cells for \(columns.count) columns.")
        precondition(workbook != nil, "The spreadsheet is closed.")
        guard rowCount < SpreadsheetLimits.rowsMax else { throw SpreadsheetFailure(path, .tooManyRows) }
        for (index, cell) in cells.enumerated() { try write(cell, at: index, nil) }
        rowCount += 1
        // The library does not look whether its writes succeed.
        if rowCount % 1024 == 0, ferror(rowsFile) != 0 { throw Self.failure(path, errno) }
    }

    /// Ends the file, looks whether all of it is there, makes it durable, and gives it its name.
    ///
    /// - Throws: When any of it was not written. Nothing is left then, and a file that had the name before stays.
    package func close() throws(SpreadsheetFailure) {
        guard let workbook else { return }
        let lastRow = lxw_row_t(rowCount - 1)
        worksheet_autofilter(sheet, 0, 0, lastRow, lxw_col_t(columns.count - 1))
        // The row that waits is written here rather than below, so that all rows are counted.
        lxw_worksheet_write_single_row(sheet)
        guard fflush(rowsFile) == 0, ferror(rowsFile) == 0 else { throw Self.failure(path, errno) }
        let rowBytes = Int(ftello(rowsFile))
        self.workbook = nil
        errno = 0
        let result = workbook_close(workbook)
        do throws(SpreadsheetFailure) {
            guard result == LXW_NO_ERROR else { throw Self.failure(path, errno) }
            guard WrittenSheet.isWhole(draft, rowBytes: rowBytes) else { throw Self.failure(path, ENOSPC) }
            try publish()
        } catch {
            unlink(draft)
            throw error
        }
    }

    /// The rows so far, as the library keeps them until the end.
    var rowsFile: UnsafeMutablePointer<FILE>! { sheet.pointee.optimize_tmpfile }

    private func publish() throws(SpreadsheetFailure) {
        let descriptor = open(draft, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure(path, errno) }
        let isSynced = fsync(descriptor) == 0
        let reason = errno
        Glibc.close(descriptor)
        guard isSynced else { throw Self.failure(path, reason) }
        guard rename(draft, path) == 0 else { throw Self.failure(path, errno) }
        let parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { return }
        fsync(parent)
        Glibc.close(parent)
    }

    private func write(
        _ cell: SpreadsheetCell,
        at column: Int,
        _ format: UnsafeMutablePointer<lxw_format>?
    ) throws(SpreadsheetFailure) {
        let (row, place) = (lxw_row_t(rowCount), lxw_col_t(column))
        switch cell {
        case .empty, .text(""): return
        case .integer(let number) where number.magnitude <= SpreadsheetLimits.integerMax.magnitude:
            worksheet_write_number(sheet, row, place, Double(number), format ?? integerFormat)
        case .integer(let number):
            worksheet_write_string(sheet, row, place, String(number), format ?? textFormat)
        case .text(let text):
            guard text.utf16.count <= SpreadsheetLimits.cellUnitsMax,
                worksheet_write_string(sheet, row, place, EscapedText.escape(text), format ?? textFormat)
                    == LXW_NO_ERROR
            else {
                throw SpreadsheetFailure(path, .textTooLong(row: rowCount + 1, column: columns[column].title))
            }
        }
    }

    private static func failure(_ path: String, _ code: Int32) -> SpreadsheetFailure {
        // The library does not always keep the reason; the disk it is then.
        SpreadsheetFailure(path, .notWritable(reason: String(cString: strerror(code == 0 ? ENOSPC : code))))
    }

    private static func fitting(_ name: String) -> String {
        var fitting = String(name.map { "[]:*?/\\'".contains($0) || $0.isNewline ? " " : $0 })
        while fitting.utf16.count > SpreadsheetLimits.nameUnitsMax { fitting.removeLast() }
        return fitting.allSatisfy(\.isWhitespace) ? "1" : fitting
    }
}
