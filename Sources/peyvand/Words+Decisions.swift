import ReplicaStore

// What the commands about who may take part say.

extension Words {
    func word(of standing: NodeStanding) -> String {
        switch standing {
        case .active: choose("active", "فعال")
        case .waiting: choose("waits for approval", "در انتظار تأیید")
        case .paused: choose("paused", "متوقف")
        case .revoked: choose("revoked", "باطل‌شده")
        case .retired: choose("retired", "کنار رفته")
        }
    }

    func decided(_ reply: DecideNode.Reply) -> String {
        let name = reply.name
        guard reply.isChanged else {
            return choose(
                "Nothing changed: \(name) stood like that before.\n",
                "چیزی عوض نشد: \(name) از پیش همین بود.\n"
            )
        }
        return switch reply.decision {
        case .approve:
            choose("\(name) is approved: it may come in now.\n", "\(name) تأیید شد و اکنون پذیرفته می‌شود.\n")
        case .pause:
            choose(
                "\(name) is paused: it is turned away until `peyvand node resume \(name)`. Everything is kept for it.\n",
                "\(name) متوقف شد و تا `peyvand node resume \(name)` پذیرفته نمی‌شود. همه چیز برایش نگه داشته می‌شود.\n"
            )
        case .resume:
            choose("\(name) may come in again.\n", "\(name) دوباره پذیرفته می‌شود.\n")
        case .revoke:
            choose(
                "The certificate of \(name) is revoked: its session ends now, and it is refused. Enrol a new node, then "
                    + "retire this one.\n",
                "گواهی \(name) باطل شد: نشستش هم‌اکنون پایان می‌یابد و دیگر پذیرفته نمی‌شود. گره تازه‌ای بپذیرید و سپس "
                    + "این را کنار بگذارید.\n"
            )
        }
    }
}
