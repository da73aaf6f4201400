import CRM

/// Why a spreadsheet was not read or written. Never holds what is in its cells, nor any name from within the file.
package struct SpreadsheetFailure: Error, Hashable, Sendable {
    /// A part of the file, by what it is for.
    package enum Part: Hashable, Sendable {
        case relationships, workbook, styles, sharedTexts, sheet
    }

    /// What is wrong.
    package enum Problem: Error, Hashable, Sendable {
        case notReadable(reason: String)
        case notASpreadsheet
        case protectedOrOld
        case noWorkbook
        case noSheet
        case tooManyParts
        case damaged(Part, line: Int)
        case missing(Part)
        case tooLarge(Part)
        case packedTooWell(Part)
        case documentType(Part)
        case wildReference(afterRow: Int)
        case tooManyColumns(row: Int)
        case rowTooLong(row: Int)
        case tooMuchText
        case notCalculated(cell: String)
        case notWritable(reason: String)
        case tooManyRows
        case textTooLong(row: Int, column: String)
    }

    package let path: String
    package let problem: Problem

    package init(_ path: String, _ problem: Problem) {
        self.path = path
        self.problem = problem
    }
}

extension SpreadsheetFailure: CustomStringConvertible {
    /// The sentence in English.
    package var description: String { "\(path): \(problem.reason)" }

    /// The sentence in Persian.
    package var persian: String { "\(path): \(problem.persianReason)" }
}

extension SpreadsheetFailure.Problem {
    /// The sentence in English, without the file's name.
    package var reason: String {
        switch self {
        case .notReadable(let reason): "The file cannot be read: \(reason)."
        case .notASpreadsheet:
            "This is not a spreadsheet (.xlsx), or only the beginning of one. Copy it again, or save it anew as .xlsx."
        case .protectedOrOld:
            "The file is protected by a password, or of the old kind .xls. Open it, and save it as .xlsx without a password."
        case .noWorkbook: "There is no workbook of the kind .xlsx in this file. Open it, and save it as .xlsx."
        case .noSheet: "No sheet of cells in this file is visible. Show the sheet that is meant, and save the file."
        case .tooManyParts:
            "The file has more than \(SpreadsheetLimits.partsMax) parts. Copy the rows into a new spreadsheet."
        case .damaged(let part, let line):
            "The file is damaged: \(part.english) cannot be read at line \(line). Open it, and save it anew as .xlsx."
        case .missing(let part):
            "The file is damaged: \(part.english) is missing. Open it, and save it anew as .xlsx."
        case .tooLarge(let part): "\(part.english.capitalizedFirst) is larger than can be read. Split the file."
        case .packedTooWell(let part):
            "\(part.english.capitalizedFirst) would grow more than \(SpreadsheetLimits.packingRatioMax) times when it is "
                + "unpacked, as in a file that is made to harm. Copy the rows into a new spreadsheet."
        case .documentType(let part):
            "\(part.english.capitalizedFirst) defines entities, which no spreadsheet program does. The file was not read."
        case .wildReference(let row):
            "The file is damaged: behind row \(row), rows or cells do not follow each other. Open it, and save it anew as .xlsx."
        case .tooManyColumns(let row):
            "Row \(row) has cells beyond column \(SpreadsheetLimits.readColumnsMax). Delete what does not belong to the list."
        case .rowTooLong(let row):
            "Row \(row) holds more than \(SpreadsheetLimits.rowBytesMax) bytes of text. Shorten it."
        case .tooMuchText: "The sheet holds more text than can be read. Split the file."
        case .notCalculated(let cell):
            "The formula in cell \(cell) was never calculated. Open the file in a spreadsheet program, and save it."
        case .notWritable(let reason): "The file cannot be written: \(reason). Nothing was left under its name."
        case .tooManyRows:
            "A spreadsheet has no more than \(SpreadsheetLimits.rowsMax) rows. Write CSV, or fewer rows."
        case .textTooLong(let row, let column):
            "Row \(row), column \(column): a cell holds no more than \(SpreadsheetLimits.cellUnitsMax) characters. Write CSV."
        }
    }

    /// The sentence in Persian, without the file's name.
    package var persianReason: String {
        func digits(_ number: Int) -> String { PersianText.persianDigits(String(number)) }
        switch self {
        case .notReadable(let reason): return "فایل خوانده نمی‌شود: \(reason)."
        case .notASpreadsheet:
            return "این فایل صفحه‌گسترده (xlsx) نیست یا ناقص است. دوباره کپی یا به صورت xlsx ذخیره کنید."
        case .protectedOrOld:
            return "فایل رمز دارد یا از نوع قدیمی xls است. آن را باز کنید و بدون رمز به صورت xlsx ذخیره کنید."
        case .noWorkbook: return "در این فایل صفحه‌گسترده‌ای از نوع xlsx نیست. آن را باز کنید و به صورت xlsx ذخیره کنید."
        case .noSheet: return "هیچ برگهٔ پیدایی در فایل نیست. برگهٔ مورد نظر را آشکار و فایل را ذخیره کنید."
        case .tooManyParts:
            return "فایل بیش از \(digits(SpreadsheetLimits.partsMax)) بخش دارد. سطرها را در فایل تازه‌ای کپی کنید."
        case .damaged(let part, let line):
            return
                "فایل آسیب دیده است: \(part.persian) در سطر \(digits(line)) خوانده نمی‌شود. آن را باز و دوباره ذخیره کنید."
        case .missing(let part): return "فایل آسیب دیده است: \(part.persian) نیست. آن را باز و دوباره ذخیره کنید."
        case .tooLarge(let part): return "\(part.persian) بزرگ‌تر از آن است که خوانده شود. فایل را چند بخش کنید."
        case .packedTooWell(let part):
            return
                "\(part.persian) پس از باز شدن بیش از \(digits(SpreadsheetLimits.packingRatioMax)) برابر می‌شود، مانند فایل‌های "
                + "مخرب. سطرها را در فایل تازه‌ای کپی کنید."
        case .documentType(let part):
            return "\(part.persian) چیزی تعریف می‌کند که هیچ برنامهٔ صفحه‌گسترده‌ای نمی‌نویسد. فایل خوانده نشد."
        case .wildReference(let row):
            return
                "فایل آسیب دیده است: پس از سطر \(digits(row)) ترتیب سطرها یا خانه‌ها درست نیست. آن را باز و دوباره ذخیره کنید."
        case .tooManyColumns(let row):
            return
                "سطر \(digits(row)) پس از ستون \(digits(SpreadsheetLimits.readColumnsMax)) هم خانه دارد. آنچه از فهرست نیست پاک کنید."
        case .rowTooLong(let row):
            return "متن سطر \(digits(row)) بیش از \(digits(SpreadsheetLimits.rowBytesMax)) بایت است. آن را کوتاه کنید."
        case .tooMuchText: return "متن برگه بیش از آن است که خوانده شود. فایل را چند بخش کنید."
        case .notCalculated(let cell):
            return "فرمول خانهٔ \(cell) محاسبه نشده است. فایل را در برنامهٔ صفحه‌گسترده باز و ذخیره کنید."
        case .notWritable(let reason): return "فایل نوشته نمی‌شود: \(reason). چیزی به این نام نماند."
        case .tooManyRows:
            return "صفحه‌گسترده بیش از \(digits(SpreadsheetLimits.rowsMax)) سطر ندارد. CSV یا سطرهای کمتری بنویسید."
        case .textTooLong(let row, let column):
            return
                "سطر \(digits(row))، ستون \(column): هر خانه تا \(digits(SpreadsheetLimits.cellUnitsMax)) نویسه جا دارد. CSV بنویسید."
        }
    }
}

extension SpreadsheetFailure.Part {
    fileprivate var english: String {
        switch self {
        case .relationships: "the list of parts"
        case .workbook: "the list of sheets"
        case .styles: "the list of cell formats"
        case .sharedTexts: "the list of shared texts"
        case .sheet: "the sheet"
        }
    }

    fileprivate var persian: String {
        switch self {
        case .relationships: "فهرست بخش‌ها"
        case .workbook: "فهرست برگه‌ها"
        case .styles: "فهرست قالب خانه‌ها"
        case .sharedTexts: "فهرست متن‌ها"
        case .sheet: "برگه"
        }
    }
}

extension String {
    fileprivate var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}
