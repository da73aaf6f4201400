// Why something is not green, in Persian. English sentences come with the reason, for they stand in JSON too.

extension Words {
    /// Why this node is not green.
    func sentence(of reason: HealthReason) -> String {
        guard isPersian else { return reason.sentence }
        return Self.persianReasonsHere[reason.code] ?? reason.sentence
    }

    /// Why a node of the fleet is not green.
    func sentence(ofNode reason: HealthReason) -> String {
        guard isPersian else { return reason.sentence }
        return Self.persianReasonsThere[reason.code] ?? reason.sentence
    }

    private static let persianReasonsHere: [String: String] = [
        "notJoined": "این گره به سازمان نپیوسته است. `peyvand init --join` را تمام کنید.",
        "diverged": "جدول‌ها با دفتر مرکزی فرق داشت. `peyvand verify --repair` نشان می‌دهد کدام ردیف‌ها، و چه درست می‌شود.",
        "damaged": "ردیف‌هایی خودبه‌خود روی دیسک دگرگون شده‌اند؛ `peyvand verify` نامشان را می‌گوید. دیسک را ببینید.",
        "contradiction":
            "یک تغییر در دو گره دو محتوا دارد. `peyvand status --json` هر دو را نام می‌برد؛ چیزی از هیچ‌کدام گم نشده است.",
        "diskFull": "دیسک تقریباً پر است. همین حالا جا باز کنید.",
        "diskLow": "جای دیسک کم است. به‌زودی جا باز کنید.",
        "neverContacted": "هنوز با دفتر مرکزی تماسی نبوده است. `peyvand sync` را اجرا کنید.",
        "unsent": "کارهایی تنها اینجاست و فرستاده نشده است. `peyvand sync` را اجرا کنید.",
        "unreceived": "تغییرهایی از دفتر مرکزی گرفته نشده است. `peyvand sync` را اجرا کنید.",
        "unsealed": "ردیف‌هایی که برنامه‌های دیگر نوشته‌اند با نوشتن بعدی، یا با `peyvand sync`، برداشته می‌شود.",
        "conflicts": "مقدارهایی در برابر مقدارهای هم‌زمان از دست رفته و کسی هنوز تصمیم نگرفته است: `peyvand conflicts`.",
        "erasing": "بایت‌هایی از ردیف‌های پاک‌شده هنوز در فایل است، تا برنامه‌هایی که آن را می‌خوانند تمام شوند.",
        "clockSkew":
            "ساعت این دستگاه در آخرین تماس با دفتر مرکزی نمی‌خواند. آن را تنظیم کنید؛ زمان نوشته‌ها در همگام‌سازی درست می‌شود.",
        "clockWrong": "ساعت دفتر مرکزی درست به نظر نمی‌رسد و زمان هیچ شعبه‌ای با آن درست نمی‌شود. ساعت را تنظیم کنید.",
        "parked": "تغییرهایی را نمی‌شد اعمال کرد و مانده است: `peyvand parked`.",
        "dropped": "تغییرهایی اینجا کنار گذاشته شده است؛ جایی که دفتر مرکزی آن‌ها را دارد این ردیف‌ها فرق می‌کند.",
        "newerSchema":
            "تغییرهایی فیلدهایی دارد که این نسخه نمی‌شناسد. نگه داشته و فرستاده می‌شود و پس از ارتقا پیدا می‌شود.",
        "walLarge": "دفتر پیش‌نویس پایگاه داده بزرگ شده است، چون برنامه‌ای وضعیت کهنه‌ای را می‌خواند. آن را ببندید.",
        "refused": "دفتر مرکزی این گره را نپذیرفت. پوشه را نگه دارید؛ `peyvand sync` دلیل را می‌گوید.",
        "loading": "بارگذاری نخست تمام نشده است. تا پایان آن `peyvand sync` را اجرا کنید.",
        "snapshotsStopped":
            "ردیف‌ها با آنچه نوشته شده نمی‌خواند و به کسی تصویری داده نمی‌شود. `peyvand verify` را اجرا کنید.",
        "leaseExpired":
            "این گره چنان دور بوده که دفتر مرکزی دیگر آنچه کم دارد نگه نمی‌دارد. چیزی گم نشده است: `peyvand sync`.",
        "leaseExpiring": "به‌زودی دفتر مرکزی آنچه این گره کم دارد نگه نمی‌دارد. پیش از آن `peyvand sync` را اجرا کنید.",
        "noBackup": "از دفتر مرکزی هیچ پشتیبان درستی نیست. `peyvand backup FILE` را روی دیسک دیگری اجرا کنید.",
        "backupOld": "تغییرهایی در هیچ پشتیبانی نیست. `peyvand backup FILE` را اجرا کنید.",
        "renewing":
            "این گره در تماس بعدی با دفتر مرکزی شمارهٔ تازه می‌گیرد. کار ادامه دارد. `peyvand sync` را اجرا کنید.",
        "forked": "این رونوشت از گره جدا شده و کارهایی از آن باید دوباره ثبت شود. `peyvand sync` را اجرا کنید.",
    ]

    private static let persianReasonsThere: [String: String] = [
        "diverged": "جدول‌هایش با اینجا فرق داشت. آنجا `peyvand verify --repair` را اجرا کنید.",
        "contradiction": "یک تغییر اینجا و آنجا دو محتوا دارد. `peyvand fleet --json` هر دو را نام می‌برد.",
        "waitsForApproval": "در انتظار تأیید است: اثر انگشت را تلفنی بسنجید و سپس `peyvand node approve`.",
        "paused": "متوقف است: `peyvand node resume` دوباره راهش می‌دهد.",
        "revoked": "گواهی‌اش باطل است. `peyvand node retire` کنارش می‌گذارد.",
        "refused": "تماس آخرش پذیرفته نشد؛ جدول «رانده‌شده» دلیل را می‌گوید.",
        "parked": "تغییرهایی را آنجا نمی‌شد اعمال کرد. آنجا `peyvand parked` را ببینید.",
        "neverContacted": "پیوسته و هرگز همگام نشده است.",
        "unsent": "کارهایی دارد که هنوز اینجا نیست.",
        "unreceived": "تغییرهایی از دفتر مرکزی را نگرفته است.",
        "conflicts": "تعارض‌هایی نشان می‌دهد که کسی هنوز درباره‌شان تصمیم نگرفته است.",
        "clockSkew": "ساعتش در آخرین تماس با دفتر مرکزی نمی‌خواند. آن ساعت را تنظیم کنید.",
        "copied": "دو رونوشت از آن در کار است. یکی را بایستانید.",
        "forked": "بازگردانده یا رونویسی شده، یا ساعتش نادرست بوده است و با شمارهٔ تازه می‌نویسد. چیزی گم نشده است.",
        "leaseExpired": "بیش از مهلتش دور بوده است. اگر دیگر نمی‌آید کنارش بگذارید: `peyvand node retire`.",
        "leaseExpiring": "مهلتش به‌زودی تمام می‌شود؛ تا آن هنگام هرچه کم دارد برایش نگه داشته می‌شود.",
    ]
}
