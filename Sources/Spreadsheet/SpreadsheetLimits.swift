/// Everything that bounds what is read and written, so that no file can fill memory, a disk or an hour.
enum SpreadsheetLimits {
    // What the format itself allows.

    /// Rows of a sheet.
    static let rowsMax = 1_048_576
    /// Columns of a sheet: A to XFD.
    static let columnsMax = 16_384
    /// UTF-16 units of a cell's text.
    static let cellUnitsMax = 32_767
    /// UTF-16 units of a sheet's name.
    static let nameUnitsMax = 31
    /// Larger whole numbers would be rounded: the programs keep numbers as doubles and show 15 digits.
    static let integerMax: Int64 = 999_999_999_999_999

    // What is read.

    /// Columns that are read. Lists of customers have a dozen; every row costs memory for each column up to its last.
    static let readColumnsMax = 1024
    /// Text of one row: as much as one record of a CSV file.
    static let rowBytesMax = 1 << 20
    /// Text of all rows: a few bytes in the file can name a long text again and again.
    static let sheetTextBytesMax = 4 << 30
    /// One part of the file, unpacked: a million rows of twelve columns need a fifth of it.
    static let partBytesMax = 4 << 30
    /// A part that is held in memory or is short by its nature: relationships, the list of sheets, styles.
    static let smallPartBytesMax = 32 << 20
    /// Packed sheets are a tenth to a fiftieth of their size, the most uniform ones a hundredth.
    static let packingRatioMax = 200
    /// Below this size, packing is not looked at: a short uniform text may be packed better than that.
    static let ratioBytesMin = 16 << 20
    /// Parts of a file. Sheets with hundreds of pictures stay below it.
    static let partsMax = 10_000
    /// Texts that cells share, together: a million rows with a dozen texts of twenty bytes that never occur twice.
    static let sharedBytesMax = 256 << 20
    /// How many texts cells share: 64 MB for where each ends.
    static let sharedCountMax = 1 << 24
    /// Formats of cells; the programs stop at 65,490.
    static let formatsMax = 1 << 17
    /// Zeros that a format puts in front; codes are shorter.
    static let zerosMax = 30
    /// Elements within each other; a sheet has ten.
    static let depthMax = 64
    /// A name, attribute or comment: the parser must hold it whole, and scans it again as it grows.
    static let tokenBytesMax = 1 << 20
    /// What is read from the file at once.
    static let chunkBytes = 64 << 10
}
