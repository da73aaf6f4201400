import Foundation
import ReplicaStore

// What the commands about backups and lives of a node say.

extension Words {
    var backingUp: String { choose("Backing up", "پشتیبان‌گیری") }

    func backedUp(_ backup: PrintedBackup) -> String {
        choose(
            "Backed up \(backup.node) to \(backup.file): \(backup.rows) rows, log up to \(backup.position), every row "
                + "read again and right.\n",
            "از \(backup.node) در \(backup.file) پشتیبان گرفته شد: \(number(backup.rows)) ردیف، تا جایگاه "
                + "\(number(backup.position))، همهٔ ردیف‌ها دوباره خوانده شد و درست است.\n"
        )
    }

    func restored(_ report: RestoreReport) -> String {
        let backup = report.backup
        var text = choose(
            "Restored \(backup.node) in \(report.directory): \(backup.rows) rows, log up to \(backup.position).\n",
            "\(backup.node) در \(report.directory) بازگردانده شد: \(number(backup.rows)) ردیف، تا جایگاه "
                + "\(number(backup.position)).\n"
        )
        text +=
            report.origin == report.formerOrigin
            ? choose(
                "At its first contact it takes a new number and gets back what it had sent since. Run `peyvand sync`.\n",
                "در نخستین تماس شمارهٔ تازه می‌گیرد و آنچه را پس از آن فرستاده بود پس می‌گیرد. `peyvand sync` را اجرا کنید.\n"
            )
            : choose(
                "It writes as number \(report.origin) now. Its branches bring back what it has lost; start it with "
                    + "`peyvand run`.\n",
                "اکنون با شمارهٔ \(number(report.origin.rawValue)) می‌نویسد. شعبه‌ها آنچه را از دست داده بازمی‌آورند؛ با `peyvand run` "
                    + "راه بیندازید.\n"
            )
        if let aside = report.keptAside {
            text += choose("The former file is kept as \(aside).\n", "فایل پیشین در \(aside) نگه داشته شد.\n")
        }
        if report.unsentAside > 0 {
            text += choose(
                "\(counted(report.unsentAside, "change set")) in it \(report.unsentAside == 1 ? "was" : "were") never "
                    + "sent and \(report.unsentAside == 1 ? "is" : "are") in no other place: keep that file.\n",
                "\(number(report.unsentAside)) تغییر در آن هرگز فرستاده نشده و جای دیگری نیست: آن فایل را نگه دارید.\n"
            )
        }
        return text
    }

    func stopBeforeRestoring(_ directory: String) -> String {
        choose(
            "The node in \(directory) is at work. Stop it, and restore then. Nothing was changed.",
            "گرهٔ \(directory) در حال کار است. نخست آن را بایستانید و سپس بازگردانید. چیزی تغییر نکرد."
        )
    }

    func notOfHeadOffice(_ file: String) -> String {
        choose(
            "\(file) is the backup of a branch. This rehearses the loss of head office: give a backup that was made there.",
            "\(file) پشتیبان شعبه است. این تمرین از دست رفتن دفتر مرکزی است: پشتیبانی بدهید که آنجا گرفته شده."
        )
    }

    func drilled(_ report: RestoreReport, seconds: Double, isRight: Bool) -> String {
        let time = String(format: "%.1f", seconds)
        guard isRight else {
            return choose(
                "The restored copy of \(report.backup.node) is damaged. Make another backup now.\n",
                "رونوشت بازگرداندهٔ \(report.backup.node) آسیب دیده است. هم‌اکنون پشتیبان دیگری بگیرید.\n"
            )
        }
        return choose(
            "The drill succeeded in \(time) s: \(report.backup.node), \(report.backup.rows) rows, log up to "
                + "\(report.backup.position). Nothing was kept.\n",
            "تمرین در \(digits(time)) ثانیه انجام شد: \(report.backup.node)، \(number(report.backup.rows)) ردیف، تا جایگاه "
                + "\(number(report.backup.position)). چیزی نگه داشته نشد.\n"
        )
    }

    /// A number that somebody else's row had before, too.
    func alsoFormerNumber(_ typed: String, of present: [String]) -> String {
        let list = present.joined(separator: choose(", ", "، "))
        return choose(
            "\(typed) is also the number that was once printed for \(list).",
            "\(typed) شماره‌ای است که زمانی برای \(list) نیز چاپ شده است."
        )
    }

    func nowNumbered(_ typed: String, _ present: String) -> String {
        choose("\(typed) has the number \(present) now.", "\(typed) اکنون شمارهٔ \(present) را دارد.")
    }
}
