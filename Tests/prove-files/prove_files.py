#!/usr/bin/env python3
"""Shows with the real program how files come in and go out.

    scripts/prove-files [--rows 100000]

Makes a CSV file of invented customers of whom one in a hundred cannot be taken, imports it, mends the file of errors and
feeds it back, imports the same file again, edits some rows and takes the import back. Then writes every format and has
other programs read it: LibreOffice, openpyxl, vobject, icalendar, csv. Ends with 1 when something is not as promised.
"""
import argparse
import csv
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

failures = []


def check(is_good, sentence):
    print(("  good  " if is_good else "  BAD   ") + sentence, flush=True)
    if not is_good:
        failures.append(sentence)


GIVEN = "مریم زهرا فاطمه علی رضا حسین محمد نرگس سارا امیر".split()
FAMILY = "رضایی کریمی حسینی احمدی موسوی جعفری صادقی رحیمی نوری شریفی".split()
CITIES = ["تهران", "اصفهان", "شیراز", "تبریز", "مشهد", "یزد", "کرمان", "رشت"]
HEADER = ["کد مشتری", "نام", "نام خانوادگی", "کد ملی", "موبایل", "تاریخ تولد", "شهر", "نشانی", "کد پستی", "یادداشت"]
KINDS = ("day", "cells", "name")


def national_code(generator):
    digits = [generator.randrange(10) for _ in range(9)]
    if len(set(digits)) == 1:
        digits[0] = (digits[0] + 1) % 10
    rest = sum(digit * (10 - place) for place, digit in enumerate(digits)) % 11
    return "".join(map(str, digits)) + str(rest if rest < 2 else 11 - rest)


def persian(text):
    return text.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))


def customers(count, seed=1):
    """Rows as people's files have them, and for the broken ones the row as it should have been."""
    generator = random.Random(seed)
    rows, mended = [], {}
    for number in range(count):
        day = f"{generator.randrange(1320, 1385)}/{generator.randrange(1, 13):02}/{generator.randrange(1, 30):02}"
        mobile = f"09{generator.randrange(10, 40)}{number:07}"
        row = [
            f"c-{number}", generator.choice(GIVEN), generator.choice(FAMILY), national_code(generator),
            persian(mobile) if number % 3 == 0 else mobile, persian(day) if number % 2 else day,
            generator.choice(CITIES), f"خیابان {generator.randrange(1, 90)}، پلاک {generator.randrange(1, 300)}",
            str(generator.randrange(1_000_000_000, 9_999_999_999)), "=1+1" if number % 1000 == 7 else "",
        ]
        if number % 100 == 50:
            kind = KINDS[number // 100 % len(KINDS)]
            mended[row[0]] = list(row)
            if kind == "day":
                row[5] = "1370/13/45"
            elif kind == "cells":
                row[5] = "نامعلوم"
            else:
                row[1] = row[2] = row[3] = row[4] = ""
        rows.append(row)
    return rows, mended


def write_csv(path, rows, encoding="utf-8-sig"):
    # The Arabic code page has neither the Persian yeh nor Persian digits.
    poorer = str.maketrans("ی۰۱۲۳۴۵۶۷۸۹", "ي0123456789") if encoding == "cp1256" else {}
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerows([cell.translate(poorer) for cell in row] for row in [HEADER, *rows])


class Node:
    def __init__(self, program, directory):
        self.program, self.directory = program, directory
        self.run("init", "--role", "head-office", "--name", "hq")

    def run(self, *arguments, is_json=False, may_fail=False):
        words = [self.program, *arguments, "--data", str(self.directory)] + (["--json"] if is_json else [])
        done = subprocess.run(words, capture_output=True)
        if done.returncode and not may_fail:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.decode()[:2000]}")
        return json.loads(done.stdout) if is_json else done.stdout


def prove_csv(node, work, count):
    print(f"A CSV file of {count} customers, of whom one in a hundred cannot be taken")
    rows, mended = customers(count)
    path = work / "customers.csv"
    write_csv(path, rows)
    errors = work / "errors.csv"
    before = time.monotonic()
    preview = node.run("import", str(path), "--as", "customers", "--dry-run", is_json=True)
    print(f"        a dry run of it: {time.monotonic() - before:.1f} s")
    check(preview["created"] == count - len(mended) and preview["batch"] is None, "a dry run tells what would happen")
    before = time.monotonic()
    summary = node.run("import", str(path), "--as", "customers", "--errors", str(errors), is_json=True)
    seconds = time.monotonic() - before
    check(summary["rows"] == count and summary["created"] == count - len(mended), f"{summary['created']} were made")
    check(count / seconds >= 10_000, f"{count / seconds:,.0f} rows a second ({seconds:.1f} s with start and end)")
    check(
        summary["invalid"] == len(mended)
        and all(p["column"] and p["reason"] and "value" in p for p in summary["problems"]),
        f"{summary['invalid']} were not, each with line, column, value and reason",
    )
    before = time.monotonic()
    again = node.run("import", str(path), "--as", "customers", is_json=True)
    seconds = time.monotonic() - before
    check(again["batch"] is None and again["skipped"] == count - len(mended), f"the same file again changes nothing ({seconds:.1f} s)")

    with open(errors, newline="", encoding="utf-8-sig") as file:
        refused = list(csv.reader(file, delimiter=";"))
    check(len(refused) == len(mended) + 1 and len(refused[0]) == len(HEADER) + 1, "the file of errors has them, with the reason")
    with open(work / "mended.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(refused[0])
        for row in refused[1:]:
            writer.writerow(mended[row[0]] + row[-1:])
    fed = node.run("import", str(work / "mended.csv"), "--as", "customers", is_json=True)
    check(fed["created"] == len(mended) and fed["invalid"] == 0 and not fed["ignoredColumns"], "mended and fed back, all of them are taken")

    first = node.run("customer", "list", "--limit", "3", is_json=True)["customers"]
    node.run("customer", "edit", first[0]["id"], "--set", "note=دیده شد")
    node.run("activity", "add", first[1]["id"], "--kind", "call")
    before = time.monotonic()
    undone = node.run("import", "undo", summary["batch"], is_json=True)
    seconds = time.monotonic() - before
    check(
        undone["deleted"] == count - len(mended) - 2 and {k["id"] for k in undone["kept"]} == {first[0]["id"], first[1]["id"]},
        f"taken back but for the two that were edited or are needed, which are listed ({seconds:.1f} s)",
    )
    left = node.run("customer", "list", "--limit", "100000", is_json=True)["customers"]
    check(len(left) == len(mended) + 2, "what the other file brought is there")
    back = node.run("import", str(path), "--as", "customers", is_json=True)
    check(back["created"] == count - len(mended) - 2, "and the file can come again")


def prove_formats(node, work):
    print("Files that other programs read")
    node.run("customer", "add", "--set", "name=شرکت نور، «تهران»; شمارهٔ ۱", "--set", "kind=organisation", "--set", "phone=021 8877 6655")
    maryam = node.run(
        "customer", "add", "--set", "givenName=مریم", "--set", "familyName=رضایی‌نژاد", "--set", "mobile=09121234567",
        "--set", "nationalCode=0012345679", "--set", "birthDay=1370/01/15", "--set", "street=ولیعصر، پلاک ۲; واحد ۳",
        "--set", "postalCode=0123456789", "--set", "note==1+1\\n" + "یادداشت بلند " * 30, is_json=True,
    )["id"]
    for kind in ("meeting", "task", "call"):
        node.run("activity", "add", maryam, "--kind", kind, "--set", "subject=پیگیری; قرارداد, نهایی")
    paths = {}
    for name, words in {
        "csv": ["csv"], "vcf4": ["vcard"], "vcf3": ["vcard", "--version3", "--codes"], "ics": ["ics"], "jsonl": ["jsonl"],
        "xlsx": ["xlsx"],
    }.items():
        paths[name] = work / f"export.{name}"
        told = node.run("export", "--format", *words, "--output", str(paths[name]), is_json=True)
        check(told["rows"] > 0 and paths[name].exists(), f"{name}: {told['rows']} rows, {paths[name].stat().st_size:,} bytes")
    count = len(node.run("customer", "list", "--limit", "100000", is_json=True)["customers"])

    with open(paths["csv"], newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    mine = next(row for row in rows if row["id"] == maryam)
    check(len(rows) == count and mine["postalCode"] == "0123456789" and mine["mobile"] == "09121234567", "csv: all of them, codes whole")
    check(not any(cell[:1] in "=+-@" and cell for row in rows for cell in row.values()), "csv: no cell is a formula")

    import icalendar
    import openpyxl
    import vobject

    for name in ("vcf4", "vcf3"):
        text = paths[name].read_text(encoding="utf-8")
        cards = list(vobject.readComponents(text, validate=name == "vcf3"))
        card = next(card for card in cards if card.fn.value == "مریم رضایی‌نژاد")
        check(
            len(cards) == count and card.n.value.family == "رضایی‌نژاد" and card.adr.value.street == "ولیعصر، پلاک ۲; واحد ۳",
            f"{name}: vobject reads {len(cards)} cards",
        )
        check(max(len(line) for line in paths[name].read_bytes().split(b"\r\n")) <= 75, f"{name}: no line is longer than 75 octets")
        check(("NATIONALCODE" in text) == (name == "vcf3"), f"{name}: codes go along only when they are asked for")
    calendar = icalendar.Calendar.from_ical(paths["ics"].read_bytes())
    kinds = sorted(part.name for part in calendar.subcomponents)
    check(kinds == ["VEVENT", "VJOURNAL", "VTODO"], f"ics: icalendar reads {', '.join(kinds)}")
    check(
        all(str(part["SUMMARY"]) == "پیگیری; قرارداد, نهایی" and part["DTSTAMP"].dt for part in calendar.subcomponents)
        and not any(part.errors for part in calendar.subcomponents),
        "ics: with their subjects, and without complaint",
    )

    book = openpyxl.load_workbook(paths["xlsx"])
    sheet = book.active
    head = [cell.value for cell in sheet[1]]
    found = next(row for row in sheet.iter_rows(min_row=2, values_only=True) if row[0] == maryam)
    cells = dict(zip(head, found))
    check(sheet.sheet_view.rightToLeft is True, "xlsx: openpyxl reads it, from right to left")
    check(sheet.freeze_panes is not None, "xlsx: the head stays in view")
    check(
        cells["postalCode"] == "0123456789" and cells["nationalCode"] == "0012345679" and cells["mobile"] == "09121234567"
        and cells["birthDay"] == "1991-04-04" and cells["birthDayJalali"] == "1370/01/15",
        "xlsx: codes keep their zeros, days are there by both calendars",
    )
    check(sheet.max_row == count + 1, f"xlsx: {sheet.max_row - 1} rows")
    if shutil.which("soffice"):
        subprocess.run(
            ["soffice", "--headless", "--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76", "--outdir", str(work), str(paths["xlsx"])],
            check=True, capture_output=True,
        )
        with open(work / "export.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        mine = next(row for row in rows if row["id"] == maryam)
        check(
            len(rows) == count and mine["postalCode"] == "0123456789" and mine["nationalCode"] == "0012345679"
            and mine["note"].startswith("=1+1"),
            "xlsx: LibreOffice reads it, codes keep their zeros, nothing is calculated",
        )
    else:
        print("        LibreOffice is not here: apt-get install libreoffice-calc-nogui")

    for name in ("vcf4", "vcf3", "ics", "jsonl"):
        again = node.run("import", str(paths[name]), is_json=True)
        check(again["batch"] is None and again["invalid"] == 0, f"{name}: imported again, it changes nothing")
    for name in ("xlsx",):
        again = node.run("import", str(paths[name]), "--as", "customers", is_json=True)
        check(again["batch"] is None and again["invalid"] == 0, f"{name}: imported again, it changes nothing")
    other = Node(node.program, work / "other")
    everything = other.run("import", str(paths["jsonl"]), is_json=True)
    both = [one.run("customer", "list", "--limit", "100000", is_json=True)["customers"] for one in (node, other)]
    names = [sorted(row.get("name", "") for row in rows) for rows in both]
    check(everything["invalid"] == 0 and names[0] == names[1], "jsonl: an empty node of another organisation has the same customers")
    log = node.run("audit", "list", "--limit", "100", is_json=True)["audit"]
    check(sum(entry["action"] == "export" for entry in log) == 6, "each export is on record in the audit log")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="peyvand-files-"))
    try:
        prove_csv(Node(options.program, work / "node"), work, options.rows)
        node = Node(options.program, work / "small")
        write_csv(work / "small.csv", [row for row in customers(2000, seed=2)[0]], encoding="cp1256")
        node.run("import", str(work / "small.csv"), "--as", "customers", is_json=True)
        prove_formats(node, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if failures:
        print(f"{len(failures)} not as promised.")
        sys.exit(1)
    print("All as promised.")


if __name__ == "__main__":
    main()
