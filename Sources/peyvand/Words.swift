import CRM
import Causality
import Foundation
import ReplicaStore

/// The languages of text output.
enum Language: String, Codable, Sendable, CaseIterable {
    case en, fa
}

/// Every word that commands say to people, in both languages. JSON has none of them.
struct Words: Sendable {
    let language: Language

    init(_ language: Language) { self.language = language }

    var isPersian: Bool { language == .fa }

    func choose(_ english: String, _ persian: String) -> String { isPersian ? persian : english }

    /// A number in the digits of the language.
    func number(_ value: some BinaryInteger) -> String {
        isPersian ? PersianText.persianDigits(String(value)) : String(value)
    }

    /// An amount of rial, in groups of three digits.
    func money(_ rial: Int64) -> String {
        let grouped = BarChart.grouped(rial)
        return isPersian ? PersianText.persianDigits(grouped.replacing(",", with: "٬")) : grouped
    }

    /// A stored day, Jalali for Persian readers.
    func day(_ day: String) -> String { isPersian ? JalaliCalendar.text(ofDay: day) ?? day : day }

    /// A time in RFC 3339, as a reader in Tehran would write it.
    func time(_ printed: String) -> String {
        guard let milliseconds = CivilTime.milliseconds(ofRFC3339: printed) else { return printed }
        return isPersian
            ? JalaliCalendar.persianDateTime(ofMilliseconds: milliseconds)
            : JalaliCalendar.isoDateTime(ofMilliseconds: milliseconds)
    }

    /// A field's value as people read it.
    func value(_ field: PrintedField, of column: ColumnDescription) -> String {
        switch (field, column.type) {
        case (.text(let text), .instant): time(text)
        case (.text(let text), .day): day(text)
        case (.integer(let number), .money): money(number)
        case (.text(let text), .choice): word(text)
        case (.boolean(let value), _): value ? choose("yes", "بله") : choose("no", "خیر")
        case (.text(let text), .text): text
        default: isPersian ? PersianText.persianDigits(field.text) : field.text
        }
    }

    // MARK: Results

    func made(_ noun: Noun, _ id: String) -> String {
        choose("Made \(noun.english) \(id).", "\(noun.persian) \(PersianText.persianDigits(id)) ساخته شد.")
            + "\n"
    }

    func changed(_ noun: Noun, _ id: String) -> String {
        choose(
            "Changed \(noun.english) \(id).",
            "\(noun.persian) \(PersianText.persianDigits(id)) تغییر کرد."
        ) + "\n"
    }

    func unchanged(_ noun: Noun, _ id: String) -> String {
        choose(
            "\(noun.english.capitalized) \(id) is like that already; nothing was changed.",
            "\(noun.persian) \(PersianText.persianDigits(id)) همین‌گونه بود؛ چیزی تغییر نکرد."
        ) + "\n"
    }

    func deleted(_ noun: Noun, _ id: String) -> String {
        choose(
            "Deleted \(noun.english) \(id). `\(noun.english) restore \(id)` brings it back.",
            "\(noun.persian) \(PersianText.persianDigits(id)) حذف شد و می‌توان آن را با restore بازگرداند."
        ) + "\n"
    }

    func isDeleted(_ noun: Noun, _ id: String) -> String {
        choose(
            "This \(noun.english) is deleted. `\(noun.english) restore \(id)` brings it back.\n",
            "این \(noun.persian) حذف شده است و می‌توان آن را با restore بازگرداند.\n"
        )
    }

    func restored(_ noun: Noun, _ id: String) -> String {
        choose(
            "Restored \(noun.english) \(id).",
            "\(noun.persian) \(PersianText.persianDigits(id)) بازگردانده شد."
        ) + "\n"
    }

    func nothingFound(_ noun: Noun) -> String {
        choose("There are no \(noun.plural) to show.", "چیزی برای نمایش نیست.") + "\n"
    }

    func moreAfter(_ count: Int, _ id: String) -> String {
        choose(
            "\(count) shown; the next ones: --after \(id)",
            "\(number(count)) مورد نشان داده شد؛ ادامه: --after \(id)"
        )
    }

    func nothingToAdd(_ noun: Noun) -> String {
        choose(
            "Nothing was given for the new \(noun.english). Give at least a name, a number or --set field=value.",
            "برای \(noun.persian) تازه چیزی داده نشد. دست‌کم نام، شماره یا --set field=value بدهید."
        )
    }

    func nothingToEdit(_ noun: Noun) -> String {
        choose(
            "Nothing to change was given. Use --set field=value; --set field= clears a field.",
            "تغییری داده نشد. --set field=value بنویسید؛ --set field= فیلد را خالی می‌کند."
        )
    }

    // MARK: Customer page

    var timeline: String { choose("Timeline", "رویدادها") }

    /// Column titles, by the name of the field.
    func title(_ field: String) -> String {
        isPersian ? FieldLabels.persian(field) : FieldLabels.english(field)
    }

    /// A word of a list, as people say it.
    func word(_ word: String) -> String { isPersian ? Self.persianWords[word] ?? word : word }

    private static let persianWords: [String: String] = [
        "person": "شخص", "organisation": "سازمان", "lead": "سرنخ", "prospect": "مشتری احتمالی",
        "customer": "مشتری", "lost": "از دست رفته", "call": "تماس", "visit": "بازدید", "meeting": "جلسه",
        "message": "پیام", "note": "یادداشت", "task": "کار", "in": "ورودی", "out": "خروجی", "none": "هیچ",
        "phone": "تلفن", "sms": "پیامک", "email": "ایمیل", "web": "وب", "inPerson": "حضوری", "post": "پست",
        "done": "انجام شد", "reached": "پاسخ داد", "noAnswer": "بی‌پاسخ", "refused": "نپذیرفت",
        "wrongNumber": "شمارهٔ اشتباه", "cancelled": "لغو شد", "inquiry": "استعلام", "quote": "پیش‌فاکتور",
        "order": "سفارش", "invoice": "فاکتور", "creditNote": "برگشت از فروش", "draft": "پیش‌نویس",
        "sent": "فرستاده", "accepted": "پذیرفته", "rejected": "ردشده", "issued": "صادرشده",
        "unknown": "نامعلوم",
        "mobile": "همراه", "address": "نشانی", "account": "حساب", "good": "درست", "bounced": "برگشتی",
        "wrong": "اشتباه",
        "old": "قدیمی", "yes": "بله", "no": "خیر", "document": "سند", "officer": "کارشناس", "import": "ورود از فایل",
    ]

    // MARK: write, import, dump

    /// Told when a line of `write` fails.
    func lineRefused(_ line: Int, _ reason: String, committedLines: Int, transactions: Int) -> String {
        choose(
            "Line \(line): \(reason) Neither it nor anything after it was written. Lines committed before it, "
                + "which stay: \(committedLines), in \(transactions) \(transactions == 1 ? "transaction" : "transactions").",
            "سطر \(number(line)): \(reason) نه این سطر نوشته شد و نه چیزی پس از آن. پیش از آن \(number(committedLines)) "
                + "سطر در \(number(transactions)) تراکنش ثبت شده و می‌ماند."
        )
    }

    /// Told when nobody takes the replies of `write`.
    func repliesNotRead(_ lines: Int, transactions: Int) -> String {
        choose(
            "Nobody reads the replies any more, so writing has stopped. \(lines) \(lines == 1 ? "line" : "lines") in "
                + "\(transactions) \(transactions == 1 ? "transaction" : "transactions") were committed and stay.",
            "دیگر کسی پاسخ‌ها را نمی‌خواند و نوشتن متوقف شد. \(number(lines)) سطر در \(number(transactions)) تراکنش "
                + "ثبت شده و می‌ماند."
        )
    }

    /// Told when the node dies while `write` asks it.
    func committedBefore(_ lines: Int, transactions: Int) -> String {
        choose(
            "Before that, \(lines) \(lines == 1 ? "line" : "lines") in \(transactions) "
                + "\(transactions == 1 ? "transaction" : "transactions") were committed and stay.",
            "پیش از آن \(number(lines)) سطر در \(number(transactions)) تراکنش ثبت شده و می‌ماند."
        )
    }

    func beginWithoutCommit(_ line: Int) -> String {
        choose(
            "The transaction that begins in line \(line) has no commit.",
            "تراکنشی که در سطر \(number(line)) آغاز شد commit ندارد."
        )
    }

    var commitWithoutBegin: String {
        choose("There is a commit without a begin.", "commit بدون begin آمده است.")
    }

    var beginInsideBegin: String {
        choose("There is a begin inside a transaction.", "begin درون تراکنش آمده است.")
    }

    func lineTooLong(_ limit: Int) -> String {
        choose("It is longer than \(limit) bytes.", "از \(number(limit)) بایت بلندتر است.")
    }

    func transactionTooLarge(_ limit: Int) -> String {
        choose(
            "The transaction has more than \(limit) bytes. Divide it.",
            "تراکنش از \(number(limit)) بایت بزرگ‌تر است. آن را بخش کنید."
        )
    }

    func cannotRead(_ path: String) -> String {
        choose(
            "\(path) cannot be read. Check the name and the owner.",
            "\(path) خوانده نمی‌شود. نام و مالک آن را ببینید."
        )
    }

    func cannotWrite(_ path: String) -> String {
        choose(
            "\(path) cannot be written. Check the directory and its owner.",
            "\(path) نوشته نمی‌شود. پوشه و مالک آن را ببینید."
        )
    }

    func noHeader(_ path: String) -> String {
        choose("\(path) has no header line.", "\(path) سطر عنوان ندارد.")
    }

    func notCSV(_ path: String) -> String {
        choose(
            "\(path) is not a CSV file in UTF-8 or Windows-1256. Save it as \"CSV UTF-8\" and try again.",
            "\(path) فایل CSV با کدگذاری UTF-8 یا Windows-1256 نیست. آن را با «CSV UTF-8» ذخیره کنید."
        )
    }

    func ignoredColumns(_ names: [String]) -> String {
        choose(
            "Columns that are not taken: \(names.joined(separator: ", ")). Name them in a file for --map if they should be.",
            "این ستون‌ها گرفته نمی‌شوند: \(names.joined(separator: "، ")). اگر باید گرفته شوند با --map نام ببرید."
        )
    }

    var noSuchCustomer: String {
        choose(
            "No customer here has this id or external key. Import the customers first.",
            "مشتری با این شناسه یا کلید نیست. نخست مشتریان را وارد کنید."
        )
    }

    func noSuchRow(_ table: String) -> String {
        choose("There is no such \(table) here.", "چنین ردیفی در \(table) نیست.")
    }

    var fieldIsMissing: String { choose("A new row needs this field.", "ردیف تازه به این فیلد نیاز دارد.") }

    var tooManyCells: String {
        choose("The row has more cells than the header.", "ردیف از سطر عنوان خانهٔ بیشتری دارد.")
    }

    func flaw(_ flaw: FileRecord.Flaw) -> String {
        switch flaw {
        case .openQuote: choose("A quote is opened and never closed.", "گیومه‌ای باز شده و بسته نشده است.")
        case .textAfterQuote: choose("Text follows a closing quote.", "پس از گیومهٔ بسته متن آمده است.")
        case .noEnd: choose("It has no END line.", "سطر END ندارد.")
        case .tooLarge: choose("It is larger than anything of its kind.", "از هر چیزی از این نوع بزرگ‌تر است.")
        case .unknownTime:
            choose(
                "A time of it cannot be read, or is in a time zone that is not known here.",
                "یکی از زمان‌های آن خوانده نمی‌شود یا منطقهٔ زمانی آن شناخته نیست."
            )
        }
    }

    // MARK: Failures

    var stopped: String { choose("Stopped.", "متوقف شد.") }

    /// What a command says that was ended by ^C while a running node goes on.
    var stoppedWaiting: String {
        choose(
            "Stopped waiting. The node is running and finishes the session by itself.",
            "انتظار متوقف شد. گره در حال کار است و همگام‌سازی را خود به پایان می‌رساند."
        )
    }

    func unexpected(_ kind: String, _ code: String) -> String {
        choose(
            "Something unexpected failed (\(kind), \(code)). Nothing of it was kept; please report it with this line.",
            "خطای پیش‌بینی‌نشده (\(kind)، \(code)). چیزی از آن نگه داشته نشد؛ لطفاً این سطر را گزارش کنید."
        )
    }

    func outputFailed(_ reason: String) -> String {
        choose("The output could not be written: \(reason).", "خروجی نوشته نشد: \(reason).")
    }

    var nodeWentAway: String {
        choose(
            "The node stopped while it was asked. Try again.",
            "گره هنگام پرسش خاموش شد. دوباره بکوشید."
        )
    }

    /// The sentence of a failure of the replica.
    func sentence(of failure: StoreFailure) -> String {
        guard isPersian else { return failure.description }
        func id(_ id: RowID) -> String { PersianText.persianDigits(id.description) }
        return switch failure {
        case .noNode(let directory):
            "در \(directory) گره‌ای نیست. با peyvand init بسازید یا پوشهٔ دیگری با --data نام ببرید."
        case .nodeExists(let directory): "در \(directory) گره‌ای هست. چیزی تغییر نکرد؛ پوشهٔ دیگری برگزینید."
        case .inUse(let directory):
            "فرایند دیگری با گرهٔ \(directory) کار می‌کند و پاسخ نمی‌دهد. صبر کنید تا تمام شود و دوباره بکوشید."
        case .firstLoad: firstLoad
        case .keyFile(let path, let reason): "\(path) به کار نمی‌آید: \(reason)."
        case .notCertified(let reason):
            "این گره گواهی ندارد (\(reason)). از دفتر مرکزی دعوت‌نامهٔ تازه بخواهید و در پوشهٔ دیگری دوباره بپیوندید."
        case .notJoined: "این گره هنوز به سازمان نپیوسته است. نخست peyvand init --join را تمام کنید."
        case .unknownTable(let name): "جدول «\(name)» وجود ندارد."
        case .unknownColumn(let column, let table, let known):
            "\(table) فیلد «\(column)» ندارد. فیلدها: \(known.joined(separator: "، "))."
        case .missingColumn(let column, let table): "\(table) تازه به فیلد «\(column)» نیاز دارد."
        case .unknownRow(let table, let row):
            "\(table) \(id(row)) اینجا نیست. اگر جای دیگری ساخته شده، همگام‌سازی کنید و دوباره بکوشید."
        case .deletedRow(let table, let row):
            "\(table) \(id(row)) حذف شده است. پیش از تغییر آن را بازگردانید."
        case .erasedRow(let table, let row):
            "\(table) \(id(row)) برای همیشه پاک شده است؛ چیزی از آن برای تغییر یا بازگرداندن نمانده است."
        case .onlyHeadOfficeErases:
            "پاک کردن برای همیشه تنها کار دفتر مرکزی است. از آنجا بخواهید؛ دستورش به همهٔ گره‌ها می‌رسد."
        case .changedMeanwhile(let table, let row, let columns):
            "از هنگام باز شدن فرم، دیگری \(columns.joined(separator: "، ")) را در \(table) \(id(row)) تغییر داده است. چیزی "
                + "ذخیره نشد؛ مقدارهای تازه را ببینید و دوباره بکوشید."
        case .rowNotDeleted(let table, let row): "\(table) \(id(row)) حذف نشده است."
        case .headOfficeOnly(let table): "\(table) را فقط دفتر مرکزی می‌نویسد؛ از آنجا بخواهید."
        case .headOfficeMakes(let table, let open):
            "ردیف‌های \(table) را فقط دفتر مرکزی می‌سازد و حذف می‌کند؛ شعبه می‌تواند این‌ها را بنویسد: "
                + "\(open.joined(separator: "، "))."
        case .locked(let holder):
            "\(holder ?? "برنامهٔ دیگری") نوشتن در پایگاه داده را زمان درازی بسته نگه داشته است. آن را ببندید و دوباره "
                + "بکوشید. چیزی از این تغییر نگه داشته نشد."
        case .newerSchema, .newerReplica:
            "این پایگاه داده را برنامهٔ تازه‌تری ساخته است. همان برنامه را به کار ببرید."
        case .isBackup(let directory, _):
            "فایل \(directory) پشتیبان است و نباید همین‌گونه به کار رود. آن را جای دیگری بگذارید و peyvand restore FILE را اجرا کنید."
        case .diskFull: "دیسک پر است. چیزی از این تغییر نگه داشته نشد؛ جا باز کنید و دوباره بکوشید."
        default: failure.description
        }
    }
}

/// The nouns of the command line, and what people call them.
struct Noun: Hashable, Sendable {
    let english: String
    let plural: String
    let persian: String
    let table: TableDescription
    /// The fields that lists show.
    let columns: [String]

    static let customer = Noun(
        english: "customer",
        plural: "customers",
        persian: "مشتری",
        table: .customer,
        columns: ["name", "mobile", "city", "stage", "owner"]
    )
    static let activity = Noun(
        english: "activity",
        plural: "activities",
        persian: "فعالیت",
        table: .activity,
        columns: ["at", "kind", "customer", "subject", "outcome"]
    )
    static let order = Noun(
        english: "order",
        plural: "orders",
        persian: "سفارش",
        table: .salesOrder,
        columns: ["day", "kind", "customer", "state", "total"]
    )
}

/// What people call the fields, in tables and in the headers of their files.
enum FieldLabels {
    static func english(_ field: String) -> String { labels[field]?.english ?? field }

    static func persian(_ field: String) -> String { labels[field]?.persian ?? field }

    /// The headers under which a file may bring a field.
    static func headers(of field: String) -> [String] {
        labels[field].map { [$0.english, $0.persian] + $0.others } ?? []
    }

    private struct Label {
        let english: String
        let persian: String
        let others: [String]

        init(_ english: String, _ persian: String, _ others: String...) {
            self.english = english
            self.persian = persian
            self.others = others
        }
    }

    private static let labels: [String: Label] = customerLabels.merging(otherLabels) { first, _ in first }

    private static let customerLabels: [String: Label] = [
        "id": Label("id", "شناسه"),
        "name": Label(
            "name",
            "نام و نام خانوادگی",
            "نام مشتری",
            "نام کامل",
            "full name",
            "نام شرکت",
            "customer name"
        ),
        "givenName": Label("given name", "نام", "نام کوچک", "first name"),
        "familyName": Label("family name", "نام خانوادگی", "فامیل", "last name", "surname"),
        "title": Label("title", "عنوان", "لقب"),
        "nationalCode": Label("national code", "کد ملی", "کدملی", "شماره ملی", "national id"),
        "legalId": Label("legal id", "شناسه ملی", "شناسهٔ ملی"),
        "foreignId": Label("foreign id", "کد فراگیر"),
        "birthDay": Label("birth day", "تاریخ تولد", "تولد", "birthday", "date of birth", "birth date"),
        "fatherName": Label("father's name", "نام پدر", "father name"),
        "mobile": Label(
            "mobile",
            "موبایل",
            "تلفن همراه",
            "همراه",
            "شماره موبایل",
            "شماره همراه",
            "mobile number",
            "cell"
        ),
        "phone": Label("phone", "تلفن", "تلفن ثابت", "شماره تلفن", "telephone", "phone number"),
        "email": Label("e-mail", "ایمیل", "رایانامه", "پست الکترونیک", "پست الکترونیکی", "email"),
        "web": Label("web", "وب‌سایت", "سایت", "website"),
        "province": Label("province", "استان", "state"),
        "city": Label("city", "شهر"),
        "street": Label("street", "نشانی", "آدرس", "خیابان", "address"),
        "postalCode": Label("postal code", "کد پستی", "کدپستی", "postcode", "zip"),
        "homeBranch": Label("branch", "شعبه", "home branch"),
        "owner": Label("owner", "مسئول", "کارشناس"),
        "stage": Label("stage", "مرحله"),
        "source": Label("source", "منبع"),
        "roles": Label("roles", "نقش‌ها"),
        "createdAt": Label("created", "زمان ثبت"),
        "confirmedAt": Label("confirmed", "زمان تأیید"),
        "contactPoints": Label("further contacts", "راه‌های تماس دیگر"),
        "exportedAt": Label("exported", "زمان برون‌بری", "exported at"),
        "externalKey": Label("external key", "کلید", "کد", "کد مشتری", "شماره مشتری", "key", "external id"),
    ]

    private static let otherLabels: [String: Label] = [
        "role": Label("role", "نقش"),
        "fromDay": Label("from", "از روز"),
        "untilDay": Label("until", "تا روز"),
        "label": Label("label", "برچسب"),
        "other": Label("other customer", "مشتری دیگر"),
        "customer": Label("customer", "مشتری", "customer id", "customer key", "شناسه مشتری", "کد مشتری"),
        "kind": Label("kind", "نوع", "type"),
        "at": Label("time", "زمان", "تاریخ", "date", "تاریخ و ساعت"),
        "subject": Label("subject", "موضوع"),
        "body": Label("text", "شرح", "متن", "description"),
        "direction": Label("direction", "جهت"),
        "channel": Label("channel", "کانال"),
        "outcome": Label("outcome", "نتیجه"),
        "nextStep": Label("next step", "اقدام بعدی"),
        "dueAt": Label("due", "مهلت"),
        "staff": Label("staff", "کارمند"),
        "branch": Label("branch", "شعبه"),
        "day": Label("day", "تاریخ", "روز", "date", "order date", "تاریخ سفارش", "تاریخ فاکتور"),
        "dueDay": Label("due day", "سررسید"),
        "state": Label("state", "وضعیت"),
        "number": Label("number", "شماره", "شماره فاکتور", "invoice number"),
        "total": Label("total", "مبلغ", "جمع", "مبلغ کل", "amount"),
        "quantity": Label("quantity", "تعداد", "مقدار", "qty"),
        "unitPrice": Label("unit price", "قیمت واحد", "فی", "price"),
        "text": Label("line", "کالا", "شرح کالا", "product", "item"),
        "summary": Label("summary", "خلاصه"),
        "amount": Label("amount", "مبلغ"),
        "note": Label("note", "یادداشت", "توضیحات"),
        "position": Label("position", "جایگاه"),
        "origin": Label("origin", "مبدأ"),
        "seq": Label("seq", "ردیف"),
        "time": Label("time", "زمان"),
        "rows": Label("rows", "ردیف‌ها"),
        "bytes": Label("bytes", "بایت"),
        "table": Label("table", "جدول"),
        "op": Label("operation", "عمل"),
        "field": Label("field", "فیلد"),
        "value": Label("value", "مقدار"),
    ]
}
