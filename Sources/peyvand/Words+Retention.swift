import Foundation
@preconcurrency import Rainbow

// What the commands about snapshots, leases and retired nodes say.

extension Words {
    var loadingRows: String { choose("Loading rows", "بارگذاری ردیف‌ها") }

    var firstLoad: String {
        choose(
            "The first load of this node has not ended: run `peyvand init --join` with its invitation again, or "
                + "`peyvand sync`, until it has.",
            "بارگذاری نخست این گره تمام نشده است: `peyvand init --join` را با همان دعوت‌نامه، یا `peyvand sync` را، "
                + "تا پایان آن دوباره اجرا کنید."
        )
    }

    func joinedWithoutLoad(_ name: String) -> String {
        choose(
            "\(name) has joined. Load its rows with `peyvand bundle read FILE`, or `peyvand sync`.\n",
            "\(name) پیوست. ردیف‌ها را با `peyvand bundle read FILE` یا `peyvand sync` بگیرید.\n"
        )
    }

    func wroteBundle(_ bundle: PrintedBundle) -> String {
        choose(
            "Wrote \(bundle.changeSets) change sets with \(bundle.rows) rows into \(bundle.id) (\(bundle.bytes) bytes). At the "
                + "other node: `peyvand bundle read FILE`.\n",
            "\(number(bundle.changeSets)) تغییر با \(number(bundle.rows)) ردیف در \(bundle.id) نوشته شد. در گره دیگر: "
                + "`peyvand bundle read FILE`.\n"
        )
    }

    func readBundle(_ bundle: PrintedBundle) -> String {
        choose(
            "Took \(bundle.changeSets) change sets with \(bundle.rows) rows that were not here. `peyvand bundle write FILE` "
                + "carries the receipt back.\n",
            "\(number(bundle.changeSets)) تغییر تازه با \(number(bundle.rows)) ردیف گرفته شد. رسید را "
                + "`peyvand bundle write FILE` بازمی‌گرداند.\n"
        )
    }

    func wroteSnapshot(_ file: PrintedSnapshotFile) -> String {
        choose(
            "Wrote \(file.rows) rows into \(file.id) (\(file.bytes) bytes). At the branch: `peyvand bundle read FILE`.\n",
            "\(number(file.rows)) ردیف در \(file.id) نوشته شد. در شعبه: `peyvand bundle read FILE`.\n"
        )
    }

    func readSnapshot(_ file: PrintedSnapshotFile) -> String {
        choose(
            "Loaded the rows of \(file.id). `peyvand sync` brings what has happened since.\n",
            "ردیف‌های \(file.id) بارگذاری شد. `peyvand sync` آنچه را پس از آن رخ داده می‌آورد.\n"
        )
    }

    func retired(_ reply: RetireNode.Reply) -> String {
        guard reply.isChanged else {
            return choose("\(reply.name) was retired before.\n", "\(reply.name) پیش از این کنار گذاشته شده بود.\n")
        }
        return choose(
            "\(reply.name) is retired: it is refused from now on, and nothing is kept for it. What it had not sent "
                + "stays on its machine.\n",
            "\(reply.name) کنار گذاشته شد: دیگر پذیرفته نمی‌شود و چیزی برایش نگه داشته نمی‌شود. آنچه نفرستاده بود "
                + "روی دستگاه خودش می‌ماند.\n"
        )
    }

    func node(_ node: PrintedFleetNode, _ style: ConsoleStyle) -> String {
        var table = TextTable([TextTable.Column(""), TextTable.Column("")])
        table.add(choose("node", "گره"), node.name)
        table.add(choose("number", "شماره"), number(node.origin))
        table.add(choose("enrolled", "پیوسته در"), time(node.enrolledAt))
        table.add(choose("last contact", "آخرین تماس"), node.lastContact.map(time) ?? choose("never", "هرگز"))
        if let retired = node.retiredAt { table.add(choose("retired", "کنار گذاشته در"), time(retired)) }
        table.add(choose("standing", "وضع"), word(of: node.standing))
        if let fingerprint = node.fingerprint {
            let words = fingerprint.split(separator: " ").prefix(8)
            table.add([
                .init(choose("fingerprint", "اثر انگشت")), .init(verbatim: words.joined(separator: " ")),
            ])
        }
        if let expires = node.certificateExpires { table.add(choose("certificate ends", "پایان گواهی"), time(expires)) }
        if let lease = node.lease { table.add(choose("lease ends", "پایان مهلت"), time(lease.expires)) }
        table.add(choose("ahead", "نفرستاده"), number(node.ahead.changeSets))
        table.add(choose("behind", "نگرفته"), number(node.behind.changeSets))
        table.add([.init(choose("software", "نرم‌افزار")), .init(verbatim: node.software ?? "-")])
        return table.rendered(style) + node.reasons.map { "- \(sentence(ofNode: $0))\n" }.joined()
    }
}
