import CRM

// What `receipt` says.

extension Words {
    func receipt(_ receipt: PrintedReceipt) -> String {
        var sentence = durable(receipt)
        if let ahead = receipt.ahead {
            sentence += onlyHere(ahead, isReplaceable: receipt.replaceable ?? false)
        } else {
            sentence += choose(".", ".")
        }
        if receipt.foreignKey {
            sentence += choose(
                " Head office signed its last receipt with a key that this node does not know: ask there whether it "
                    + "was made anew, and join again.",
                " رسید آخر دفتر مرکزی با کلیدی امضا شده که این گره نمی‌شناسد: از آنجا بپرسید که آیا از نو ساخته شده است، و دوباره بپیوندید."
            )
        }
        return sentence + "\n"
    }

    /// What head office has, without the full stop.
    private func durable(_ receipt: PrintedReceipt) -> String {
        let name = receipt.node
        guard receipt.seq > 0, let since = receipt.since.map(time) else {
            return choose(
                "Head office has confirmed nothing of \(name) yet",
                "دفتر مرکزی هنوز چیزی از \(name) را تأیید نکرده است"
            )
        }
        let safe: String
        switch receipt.safeSeq {
        case 0: safe = ""
        case receipt.seq: safe = choose(", and in a backup of head office", " و در پشتیبان دفتر مرکزی هم هست")
        default:
            safe = choose(
                ", and in a backup of head office up to \(receipt.safeSeq)",
                " و تا \(number(receipt.safeSeq)) در پشتیبان دفتر مرکزی هم هست"
            )
        }
        return choose(
            "Everything of \(name) up to change set \(receipt.seq) is durable at head office since \(since)\(safe)",
            "همهٔ کار \(name) تا تغییر \(number(receipt.seq)) از \(since) در دفتر مرکزی ماندگار است\(safe)"
        )
    }

    private func onlyHere(_ ahead: PrintedReceipt.Ahead, isReplaceable: Bool) -> String {
        if isReplaceable {
            return choose(
                "; nothing exists only here: this machine may be switched off and replaced.",
                "؛ چیزی تنها اینجا نیست: این دستگاه را می‌توان خاموش و عوض کرد."
            )
        }
        var parts: [String] = []
        if ahead.changeSets > 0 {
            parts.append(
                choose(
                    "\(counted(ahead.changeSets, "change set")) with \(counted(ahead.rows, "row"))",
                    "\(number(ahead.changeSets)) تغییر با \(number(ahead.rows)) ردیف"
                )
            )
        }
        if ahead.unsealed > 0 {
            parts.append(
                choose(
                    "\(counted(ahead.unsealed, "row")) that another program has written",
                    "\(number(ahead.unsealed)) ردیف که برنامهٔ دیگری نوشته"
                )
            )
        }
        let list = parts.joined(separator: choose(" and ", " و "))
        return choose(
            "; \(list) \(ahead.changeSets + ahead.unsealed == 1 ? "exists" : "exist") only here: do not replace this machine before `peyvand sync`.",
            "؛ \(list) تنها اینجاست: پیش از `peyvand sync` این دستگاه را عوض نکنید."
        )
    }
}
