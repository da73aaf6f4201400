import Foundation

/// A file that is whole or not there: it is written beside its name, and moved there when it is done.
///
/// What is no file, a pipe or a device, is written to as it is.
struct NewFile {
    private let file: FileHandle
    private let path: String
    /// Nil for what is no file.
    private let unfinished: String?
    private let words: Words

    init(_ path: String, _ words: Words) throws {
        let unfinished = Self.isReplaced(path) ? path + ".part" : nil
        let isMade =
            unfinished.map {
                FileManager.default.createFile(atPath: $0, contents: nil, attributes: [.posixPermissions: 0o640])
            } ?? true
        guard isMade, let file = FileHandle(forWritingAtPath: unfinished ?? path) else {
            throw CommandFailure(.failed, words.cannotWrite(path))
        }
        self.file = file
        self.path = path
        self.unfinished = unfinished
        self.words = words
    }

    /// Whether there is a file of this name, or nothing.
    static func isReplaced(_ path: String) -> Bool {
        var information = stat()
        return stat(path, &information) != 0 || information.st_mode & S_IFMT == S_IFREG
    }

    func write(_ bytes: [UInt8]) throws {
        do {
            try file.write(contentsOf: Data(bytes))
        } catch {
            throw failure()
        }
    }

    /// Gives the file its name.
    func close() throws {
        do {
            if unfinished != nil { try file.synchronize() }
            try file.close()
        } catch {
            throw failure()
        }
        guard let unfinished else { return }
        guard rename(unfinished, path) == 0 else { throw failure() }
    }

    /// Nothing is left of what could not be written.
    private func failure() -> CommandFailure {
        if let unfinished { try? FileManager.default.removeItem(atPath: unfinished) }
        return CommandFailure(.failed, words.cannotWrite(path))
    }
}
