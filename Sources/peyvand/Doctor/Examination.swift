import Foundation
import Glibc
import ReplicaStore

/// Looks at what a node stands on: its directory, its disk, its machine. It changes nothing, and whether the node runs does
/// not matter.
///
/// Whether the node itself is well is what `status` tells, and whether its rows are right what `verify` tells.
struct Examination {
    let directory: String
    /// Where the system tells of itself; a test has its own.
    var system = "/"

    private var path: String { Replica.path(in: directory) }

    /// Everything but the settings and the node's answer, for which more is needed than files.
    func findings() -> [Finding] {
        guard Replica.exists(in: directory) else {
            return [
                Finding(
                    .directory,
                    .red,
                    "There is no node in \(directory). Make one with `peyvand init`, or name another directory with --data.",
                    "در \(directory) گرهی نیست. با `peyvand init` بسازید یا با --data پوشهٔ دیگری را نام ببرید."
                )
            ]
        }
        return [
            Finding(.directory, .green, "A node lies in \(directory).", "گره در \(directory) است."),
            permissions(), database(), otherPrograms(), space(), fileSystem(), encryption(), clock(), openFiles(),
            service(),
        ].compactMap { $0 }
    }

    // MARK: Files

    /// The files hold the node's key and everybody's customers.
    private func permissions() -> Finding {
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted()
        var open: [String] = []
        var foreign: [String] = []
        for name in [""] + names {
            var information = stat()
            guard lstat(name.isEmpty ? directory : directory + "/" + name, &information) == 0 else { continue }
            let label = name.isEmpty ? directory : name
            if information.st_mode & S_IFMT != S_IFLNK, information.st_mode & 0o007 != 0 { open.append(label) }
            if geteuid() != 0, information.st_uid != geteuid() { foreign.append(label) }
        }
        if !open.isEmpty {
            return Finding(
                .permissions,
                .red,
                "Everybody on this machine may use \(list(open)). Run `chmod -R o-rwx \(directory)`.",
                "همهٔ کاربران این دستگاه به \(list(open)) راه دارند. `chmod -R o-rwx \(directory)` را اجرا کنید."
            )
        }
        if !foreign.isEmpty {
            return Finding(
                .permissions,
                .yellow,
                "\(list(foreign)) belongs to another user. Run commands as the user of the service.",
                "\(list(foreign)) از آنِ کاربر دیگری است. دستورها را با کاربر سرویس اجرا کنید."
            )
        }
        return Finding(
            .permissions,
            .green,
            "The files are closed to other users.",
            "پرونده‌ها به روی دیگر کاربران بسته است."
        )
    }

    private func list(_ names: [String]) -> String {
        names.prefix(3).joined(separator: ", ") + (names.count > 3 ? " ..." : "")
    }

    private func database() -> Finding {
        do {
            let check = try FileCheck(of: directory)
            guard let first = check.damage.first else {
                return Finding(
                    .database,
                    .green,
                    "Every page of the database is whole.",
                    "همهٔ صفحه‌های پایگاه داده سالم است."
                )
            }
            return Finding(
                .database,
                .red,
                "The database file is damaged: \(first). Stop the node, copy its directory, and `peyvand restore` a backup; "
                    + "what is here only is taken from the copy.",
                "پروندهٔ پایگاه داده آسیب دیده است: \(first). گره را بازایستانید، از پوشه رونوشت بگیرید و با `peyvand restore` "
                    + "پشتیبان را برگردانید."
            )
        } catch {
            let failure = CommandFailure(error)
            return Finding(
                .database,
                nil,
                "The database could not be read: \(failure.sentence)",
                "پایگاه داده خوانده نشد: \(failure.sentence)"
            )
        }
    }

    /// A second program that writes copies the write-ahead log too, which old versions of SQLite do not survive.
    private func otherPrograms() -> Finding {
        let programs = writers()
        let version = FileCheck.sqliteVersion
        guard let first = programs.first else {
            return Finding(
                .otherPrograms,
                .green,
                "No other program has the database open for writing.",
                "برنامهٔ دیگری پایگاه داده را برای نوشتن باز نکرده است."
            )
        }
        if FileCheck.isSafeWithTwoWriters(sqliteVersion: version) {
            return Finding(
                .otherPrograms,
                .yellow,
                "\(first) has the database open for writing. It needs SQLite 3.51.3 or newer, as this program has (\(version)).",
                "\(first) پایگاه داده را برای نوشتن باز کرده است. باید SQLite 3.51.3 یا تازه‌تر داشته باشد، چنان‌که این برنامه دارد (\(version))."
            )
        }
        return Finding(
            .otherPrograms,
            .red,
            "\(first) has the database open for writing, and SQLite \(version) can lose pages when two programs write. "
                + "Let it write with `peyvand write --jsonl`, or bring SQLite 3.51.3 or newer.",
            "\(first) پایگاه داده را برای نوشتن باز کرده است و SQLite \(version) با دو نویسنده ممکن است صفحه‌ای را از دست بدهد. "
                + "بگذارید با `peyvand write --jsonl` بنویسد، یا SQLite 3.51.3 یا تازه‌تر نصب کنید."
        )
    }

    /// Programs that have the database open for writing and are none of ours, as `sqlite3 (process 4711)`.
    private func writers() -> [String] {
        var wanted = stat()
        guard stat(path, &wanted) == 0 else { return [] }
        let processes = ((try? FileManager.default.contentsOfDirectory(atPath: system + "proc")) ?? []).compactMap {
            Int32($0)
        }
        var found: [String] = []
        for process in processes.sorted() where process != getpid() {
            let home = system + "proc/\(process)"
            let name = (try? String(contentsOfFile: home + "/comm", encoding: .utf8))?
                .trimmingCharacters(in: .whitespacesAndNewlines)
            guard let name, name != "peyvand" else { continue }
            for descriptor in (try? FileManager.default.contentsOfDirectory(atPath: home + "/fd")) ?? [] {
                var information = stat()
                guard stat(home + "/fd/" + descriptor, &information) == 0, information.st_ino == wanted.st_ino,
                    information.st_dev == wanted.st_dev,
                    let text = try? String(contentsOfFile: home + "/fdinfo/" + descriptor, encoding: .utf8),
                    let flags = text.firstMatch(of: #/flags:\s*([0-7]+)/#).flatMap({ Int32($0.1, radix: 8) }),
                    flags & O_ACCMODE != O_RDONLY
                else { continue }
                found.append("\(name) (process \(process))")
                break
            }
        }
        return found
    }

    // MARK: The disk

    private func space() -> Finding? {
        var information = statvfs()
        guard statvfs(directory, &information) == 0 else { return nil }
        let free = UInt64(information.f_bavail) * UInt64(information.f_frsize)
        let size = (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? UInt64) ?? 0
        return Self.space(free: free, databaseSize: size)
    }

    /// - Parameters:
    ///   - free: Bytes that the node's user may still write.
    ///   - databaseSize: Bytes of the database file.
    static func space(free: UInt64, databaseSize: UInt64) -> Finding {
        let (freeText, sizeText) = ("\(free >> 20) MiB", "\(databaseSize >> 20) MiB")
        let words = Words(.fa)
        let (freePersian, sizePersian) = (
            words.amount(bytes: Int(clamping: free)), words.amount(bytes: Int(clamping: databaseSize))
        )
        if free < 64 << 20 {
            return Finding(
                .space,
                .red,
                "Only \(freeText) of the disk are free. Free some space now: soon nothing can be written.",
                "تنها \(freePersian) از دیسک خالی است. همین حالا جا باز کنید: به‌زودی چیزی نوشته نمی‌شود."
            )
        }
        if free < 1 << 30 || free < databaseSize {
            return Finding(
                .space,
                .yellow,
                "\(freeText) of the disk are free, and the database has \(sizeText): too little for an upgrade or a backup here.",
                "\(freePersian) از دیسک خالی و پایگاه داده \(sizePersian) است: برای ارتقا یا پشتیبان‌گیری در اینجا کم است."
            )
        }
        return Finding(.space, .green, "\(freeText) of the disk are free.", "\(freePersian) از دیسک خالی است.")
    }

    private func fileSystem() -> Finding {
        let mounts = try? String(contentsOfFile: system + "proc/self/mountinfo", encoding: .utf8)
        return Self.fileSystem(mounts.flatMap { Self.type(of: directory, mounts: $0) })
    }

    /// The type of the file system on which a path lies.
    ///
    /// - Parameter mounts: `/proc/self/mountinfo`, as proc(5) has it.
    static func type(of path: String, mounts: String) -> String? {
        let real = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        var best: (point: Substring, type: String)?
        for line in mounts.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 6, let dash = words.firstIndex(of: "-"), dash + 1 < words.count else { continue }
            let point = words[4]
            let isAbove = point == "/" || real == point || real.hasPrefix(point + "/")
            // Of two at the same place the later one covers the other.
            if isAbove, point.count >= best?.point.count ?? 0 { best = (point, String(words[dash + 1])) }
        }
        return best?.type
    }

    /// - Parameter type: As the system names it; nil when it does not tell.
    static func fileSystem(_ type: String?) -> Finding {
        guard let type else {
            return Finding(
                .fileSystem,
                nil,
                "The system does not tell on what the directory lies.",
                "سیستم نمی‌گوید پوشه روی چیست."
            )
        }
        let remote: Set = [
            "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "virtiofs",
        ]
        if remote.contains(type) || type.hasPrefix("fuse") {
            return Finding(
                .fileSystem,
                .red,
                "The directory lies on \(type), where locks and syncs need not hold. Move it to a disk of this machine.",
                "پوشه روی \(type) است که قفل‌ها و همگام‌سازی دیسک در آن استوار نیست. آن را به دیسک همین دستگاه ببرید."
            )
        }
        if type == "tmpfs" || type == "ramfs" {
            return Finding(
                .fileSystem,
                .red,
                "The directory lies in memory: everything is gone when the machine stops. Move it to a disk.",
                "پوشه در حافظهٔ موقت است: با خاموش‌شدن دستگاه همه‌چیز از میان می‌رود. آن را به دیسک ببرید."
            )
        }
        return Finding(
            .fileSystem,
            .green,
            "The directory lies on a disk of this machine (\(type)).",
            "پوشه روی دیسک همین دستگاه است (\(type))."
        )
    }

    /// A thief of the machine has its customers, unless the disk is encrypted.
    private func encryption() -> Finding? {
        var information = stat()
        guard stat(directory, &information) == 0 else { return nil }
        let device = Self.number(ofDevice: UInt64(information.st_dev))
        let answer: Bool? = isEncrypted(system + "sys/dev/block/" + device, depth: 0)
        switch answer {
        case true?:
            return Finding(.encryption, .green, "The disk is encrypted.", "دیسک رمزگذاری شده است.")
        case false?:
            return Finding(
                .encryption,
                .yellow,
                "The disk is not encrypted: whoever takes the machine has the customers. Put the directory on LUKS2.",
                "دیسک رمزگذاری نشده است: هر که دستگاه را ببرد مشتریان را هم برده است. پوشه را روی LUKS2 بگذارید."
            )
        case nil:
            return Finding(
                .encryption,
                nil,
                "Whether the disk is encrypted cannot be seen from here.",
                "از اینجا دیده نمی‌شود که دیسک رمزگذاری شده است یا نه."
            )
        }
    }

    /// `major:minor`, as the system takes a device's number apart.
    static func number(ofDevice device: UInt64) -> String {
        let major = (device >> 8 & 0xFFF) | (device >> 32 & ~0xFFF)
        let minor = (device & 0xFF) | (device >> 12 & 0xFFFF_FF00)
        return "\(major):\(minor)"
    }

    /// Whether a block device, or all that it lies on, was made by cryptsetup; nil when the system does not tell.
    private func isEncrypted(_ device: String, depth: Int) -> Bool? {
        guard depth < 8, FileManager.default.fileExists(atPath: device) else { return nil }
        let identifier = try? String(contentsOfFile: device + "/dm/uuid", encoding: .utf8)
        if identifier?.hasPrefix("CRYPT-") == true { return true }
        let below = (try? FileManager.default.contentsOfDirectory(atPath: device + "/slaves")) ?? []
        guard !below.isEmpty else { return false }
        return below.allSatisfy { isEncrypted(device + "/slaves/" + $0, depth: depth + 1) == true }
    }

    // MARK: The machine

    /// systemd-timesyncd says when it has set the clock; chrony and ntpd leave word while they run.
    private func clock() -> Finding {
        let signs = [
            "run/systemd/timesync/synchronized", "run/chrony/chronyd.pid", "run/ntpd.pid", "run/ntpsec/ntpd.pid",
        ]
        guard signs.contains(where: { FileManager.default.fileExists(atPath: system + $0) }) else {
            return Finding(
                .clock,
                .yellow,
                "Nothing keeps this machine's clock right. Install chrony or switch on systemd-timesyncd; until then times are "
                    + "corrected when this node meets head office.",
                "ساعت این دستگاه با جایی تنظیم نمی‌شود. chrony نصب کنید یا systemd-timesyncd را روشن کنید؛ تا آن زمان زمان‌ها هنگام "
                    + "همگام‌سازی با دفتر مرکزی درست می‌شود."
            )
        }
        return Finding(
            .clock,
            .green,
            "The clock is kept right by the network.",
            "ساعت از راه شبکه درست نگه داشته می‌شود."
        )
    }

    private func openFiles() -> Finding? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
        if limit.rlim_cur < 1024 {
            return Finding(
                .openFiles,
                .yellow,
                "A process here may open \(limit.rlim_cur) files; head office needs some for each branch. Allow 1024 or more.",
                "هر فرایند در اینجا \(Words(.fa).number(limit.rlim_cur)) پرونده می‌تواند باز کند؛ دفتر مرکزی برای هر شعبه چند تا لازم دارد. ۱۰۲۴ یا بیشتر اجازه دهید."
            )
        }
        return Finding(
            .openFiles,
            .green,
            "A process may open \(limit.rlim_cur) files.",
            "هر فرایند \(Words(.fa).number(limit.rlim_cur)) پرونده می‌تواند باز کند."
        )
    }

    /// Nil where there is no systemd.
    private func service() -> Finding? {
        guard FileManager.default.fileExists(atPath: system + "run/systemd/system") else { return nil }
        let wants = system + "etc/systemd/system/multi-user.target.wants/"
        let units = ["peyvand-head-office.service", "peyvand-branch.service", "peyvand.service"]
        if units.contains(where: { (try? FileManager.default.destinationOfSymbolicLink(atPath: wants + $0)) != nil }) {
            return Finding(.service, .green, "The service starts with the machine.", "سرویس با دستگاه آغاز می‌شود.")
        }
        return Finding(
            .service,
            .yellow,
            "No unit of Peyvand starts with the machine. Run `systemctl enable --now` with the unit for this node's role.",
            "هیچ واحدی از پیوند با دستگاه آغاز نمی‌شود. `systemctl enable --now` را با واحد نقش این گره اجرا کنید."
        )
    }
}
