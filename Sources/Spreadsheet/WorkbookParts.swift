/// Which part belongs to which, by the kind of their relationship.
final class Relationships: XMLElements {
    /// The last word of the relationship's type, and the part's name in the archive.
    struct Target {
        let kind: String
        let name: String
    }

    private(set) var targets: [String: Target] = [:]
    private let directory: String

    /// - Parameter directory: Where the part lies whose relationships these are; empty, or ends in `/`.
    init(of directory: String) { self.directory = directory }

    func start(_ name: XMLName, _ attributes: XMLAttributes, depth: Int) throws(SpreadsheetFailure.Problem) {
        guard name == "Relationship", attributes.text("TargetMode") != "External", let id = attributes.text("Id"),
            let type = attributes.text("Type"), let target = attributes.text("Target")
        else { return }
        guard targets.count < SpreadsheetLimits.partsMax else { throw .tooManyParts }
        let kind = type.split(separator: "/").last.map(String.init) ?? ""
        targets[id] = Target(kind: kind, name: Self.resolve(target, in: directory))
    }

    /// The part of a kind.
    func first(_ kind: String) -> String? {
        targets.filter { $0.value.kind == kind }.min { $0.key < $1.key }?.value.name
    }

    /// A name as written, which is relative to a directory unless it begins with `/`.
    static func resolve(_ target: String, in directory: String) -> String {
        let full = target.hasPrefix("/") ? target : directory + target
        var parts: [Substring] = []
        for part in full.replacing("\\", with: "/").split(separator: "/") {
            if part == ".." { _ = parts.popLast() } else if part != "." { parts.append(part) }
        }
        return parts.joined(separator: "/")
    }
}

/// The sheets of a workbook, in the order in which they are shown.
final class WorkbookSheets: XMLElements {
    /// By the ids of their relationships; hidden ones are left out.
    private(set) var visible: [String] = []
    private(set) var countsFrom1904 = false

    func start(_ name: XMLName, _ attributes: XMLAttributes, depth: Int) throws(SpreadsheetFailure.Problem) {
        switch name {
        case "workbookPr" where depth == 2: countsFrom1904 = attributes.isOn("date1904")
        case "sheet" where depth == 3:
            guard let id = attributes.prefixed("id"), attributes.text("state") ?? "visible" == "visible" else { return }
            guard visible.count < SpreadsheetLimits.partsMax else { throw .tooManyParts }
            visible.append(String(cString: id))
        default: break
        }
    }
}

/// The texts that cells share, held without an object for each.
final class SharedTexts: XMLElements {
    private var bytes: [UInt8] = []
    private var ends: [UInt32] = []
    private var collector = RichText()

    /// - Parameter byteCount: Bytes of the part; the texts need less.
    init(byteCount: Int = 0) { bytes.reserveCapacity(min(byteCount, SpreadsheetLimits.sharedBytesMax)) }

    /// The text of a number; nil when there is none.
    subscript(index: Int) -> String? {
        guard ends.indices.contains(index) else { return nil }
        let start = index == 0 ? 0 : Int(ends[index - 1])
        return bytes.withUnsafeBufferPointer { bytes in
            String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<Int(ends[index])]), as: UTF8.self)
        }
    }

    func start(_ name: XMLName, _ attributes: XMLAttributes, depth: Int) throws(SpreadsheetFailure.Problem) {
        if depth == 2, name == "si" { collector.begin(depth: depth) } else { collector.start(name, depth: depth) }
    }

    func text(_ bytes: UnsafeBufferPointer<UInt8>) throws(SpreadsheetFailure.Problem) {
        guard collector.isCollecting else { return }
        guard self.bytes.count + bytes.count <= SpreadsheetLimits.sharedBytesMax else { throw .tooLarge(.sharedTexts) }
        self.bytes.append(contentsOf: bytes)
    }

    func end(_ name: XMLName, depth: Int) throws(SpreadsheetFailure.Problem) -> Bool {
        collector.end(depth: depth)
        guard depth == 2, name == "si" else { return false }
        guard ends.count < SpreadsheetLimits.sharedCountMax else { throw .tooLarge(.sharedTexts) }
        EscapedText.unescape(&bytes, from: ends.last.map { Int($0) } ?? 0)
        ends.append(UInt32(bytes.count))
        return false
    }
}

/// Which text within an element is its text: that of `t`, also within runs `r`, but not how it is pronounced (`rPh`).
struct RichText {
    private(set) var isCollecting = false
    private var base = Int.max
    private var isInRun = false

    /// The element begins that holds the text.
    mutating func begin(depth: Int) {
        base = depth
        isInRun = false
        isCollecting = false
    }

    /// An element begins within it, or elsewhere.
    mutating func start(_ name: XMLName, depth: Int) {
        guard depth > base else { return }
        if depth == base + 1 { isInRun = name == "r" }
        isCollecting = name == "t" && (depth == base + 1 || (depth == base + 2 && isInRun))
    }

    /// An element ends within it, it ends itself, or another one does.
    mutating func end(depth: Int) {
        isCollecting = false
        if depth <= base { base = .max }
    }
}
