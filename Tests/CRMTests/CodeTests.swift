import Testing

@testable import CRM

@Suite("Codes and numbers")
struct CodeTests {
    private let vectors = PersianVectors.shared

    @Test("National codes are accepted and refused as the vectors say")
    func nationalCodes() {
        #expect(vectors.nationalCode.count == 24)
        for vector in vectors.nationalCode + vectors.nationalCodeDisagreements {
            let reading = NationalCode.read(vector.input)
            #expect(reading.isValid == vector.valid, "\(vector.input)")
            #expect(
                reading.value == (vector.valid ? vector.canonical ?? vector.input : nil),
                "\(vector.input)"
            )
        }
    }

    @Test("A national code says what is wrong with it")
    func nationalCodeFaults() {
        #expect(NationalCode.read(" ").fault?.problem == .empty)
        #expect(NationalCode.read("001234567A").fault?.problem == .notDigits)
        #expect(NationalCode.read("1234567").fault?.problem == .wrongLength(found: 7))
        #expect(NationalCode.read("0010000000").fault?.problem == .serialZero)
        #expect(NationalCode.read("1111111111").fault?.problem == .allDigitsEqual)
        #expect(NationalCode.read("0012345670").fault?.problem == .checkDigit)
    }

    @Test("Spaces, hyphens and invisible controls inside a code do not matter")
    func cleaning() {
        #expect(NationalCode.read(" 001-234567\u{2011}9\u{200F}").value == "0012345679")
    }

    @Test("For any nine digits exactly one check digit is right")
    func oneCheckDigit() {
        var generator = SeededGenerator("Check digits")
        for _ in 0..<2_000 {
            let body = (0..<9).map { _ in String(Int.random(in: 0...9, using: &generator)) }.joined()
            let valid = (0...9).filter { NationalCode.read("\(body)\($0)").isValid }
            let isRefused = body.dropFirst(3).allSatisfy { $0 == "0" }
            // A body of equal digits loses its check digit only if that would make all ten equal.
            if Set(body).count > 1 {
                #expect(valid.count == (isRefused ? 0 : 1), "seed \(generator.seed): \(body)")
            }
        }
    }

    @Test("Legal identifiers are accepted and refused as the vectors say")
    func legalIdentifiers() {
        #expect(vectors.legalId.count == 12)
        for vector in vectors.legalId {
            let reading = LegalIdentifier.read(vector.input)
            #expect(reading.isValid == vector.valid, "\(vector.input)")
            #expect(reading.value == (vector.valid ? vector.input : nil), "\(vector.input)")
        }
        #expect(LegalIdentifier.read("14000000000").fault?.problem == .serialZero)
        #expect(LegalIdentifier.read("").fault?.problem == .empty)
    }

    @Test("Phone numbers are read as the vectors say")
    func phones() {
        #expect(vectors.phone.count == 17)
        for vector in vectors.phone {
            let number = PhoneNumber.read(vector.input).value
            #expect((number != nil) == vector.valid, "\(vector.input)")
            #expect(number?.e164 == vector.result?.e164, "\(vector.input)")
            #expect(number?.national == vector.result?.national, "\(vector.input)")
            #expect(number?.kind.rawValue == vector.result?.type, "\(vector.input)")
            #expect(number?.extension == vector.result?.ext, "\(vector.input)")
            if let area = vector.result?.area { #expect(number?.areaCode == area) }
            #expect(number?.isAreaCodeAssumed != true)
        }
    }

    @Test("Eight digits take the area code of the branch, and say so")
    func assumedAreaCode() {
        let number = PhoneNumber.read("88776655", branchAreaCode: "021").value
        #expect(number?.e164 == "+982188776655")
        #expect(number?.isAreaCodeAssumed == true)
        #expect(PhoneNumber.read("88776655").fault?.problem == .missingAreaCode)
        #expect(PhoneNumber.read("88776655", branchAreaCode: "099").fault?.problem == .unknownAreaCode)
    }

    @Test("A mobile number that lost its zero in a spreadsheet is found again")
    func lostZero() {
        #expect(PhoneNumber.read("9121234567").value?.e164 == "+989121234567")
        #expect(PhoneNumber.read("9121234567").value?.kind == .mobile)
    }

    @Test(
        "Extensions are read in every way people write them",
        arguments: ["021-88776655 ext. 12", "02188776655x12", "021 8877 6655 #۱۲", "(۰۲۱)۸۸۷۷۶۶۵۵ داخلي: ۱۲"]
    )
    func extensions(typed: String) {
        let number = PhoneNumber.read(typed).value
        #expect(number?.e164 == "+982188776655")
        #expect(number?.extension == "12")
    }

    @Test(
        "A number that cannot be dialled says why",
        arguments: [
            ("", CodeFault.Problem.empty), ("call me", .notDigits), ("+", .unknownAreaCode),
            ("021+88776655", .notDigits), ("+4915112345678", .unknownAreaCode),
            ("02188776655 داخلی", .badExtension), ("02188776655 ext 12345678901", .badExtension),
            ("0912123456", .wrongLength(found: 9)), ("01512345678", .unknownAreaCode),
        ]
    )
    func phoneFaults(typed: String, problem: CodeFault.Problem) {
        #expect(PhoneNumber.read(typed).fault?.problem == problem)
    }

    @Test("A stored number reads as itself, and shows in the national form")
    func storedNumber() {
        #expect(PhoneNumber.read("+989121234567").value?.e164 == "+989121234567")
        #expect(PhoneNumber.national(ofStored: "+989121234567") == "09121234567")
        #expect(PhoneNumber.national(ofStored: "?") == "?")
    }

    @Test("The 31 area codes and their provinces are those of the vectors")
    func areaCodes() {
        #expect(AreaCode.all.count == 31)
        for vector in vectors.areaCodes {
            let area = AreaCode.named(vector.area)
            #expect(vector.provinceFa.hasSuffix(area?.province ?? "-"), "\(vector.area)")
            #expect(vector.provinceEn.hasPrefix(area?.provinceEnglish ?? "-"), "\(vector.area)")
        }
    }

    @Test("Postal codes are valid, suspect or invalid as the vectors say")
    func postalCodes() {
        #expect(vectors.postalCode.count == 8)
        for vector in vectors.postalCode {
            let reading = PostalCode.read(vector.input)
            let level = reading.isValid ? "valid" : reading.value == nil ? "invalid" : "suspect"
            #expect(level == vector.level, "\(vector.input)")
            #expect(reading.value == (vector.level == "invalid" ? nil : vector.canonical), "\(vector.input)")
        }
    }

    @Test("IBANs are accepted and refused as the vectors say, also without IR")
    func ibans() {
        #expect(vectors.iban.count == 11)
        for vector in vectors.iban {
            for typed in [vector.input, vector.input.lowercased(), String(vector.input.dropFirst(2))] {
                let reading = IBAN.read(typed)
                #expect(reading.isValid == vector.valid, "\(typed)")
                #expect(reading.value == (vector.valid ? vector.input : nil), "\(typed)")
            }
        }
        #expect(IBAN.read("DE89370400440532013000").fault?.problem == .foreign)
    }

    @Test("Every fault is a sentence in English and in Persian, without the code itself")
    func sentences() {
        let problems: [CodeFault.Problem] = [
            .empty, .notDigits, .wrongLength(found: 7), .allDigitsEqual, .serialZero, .checkDigit,
            .startsWithZero, .unusualDigits, .unknownAreaCode, .missingAreaCode, .badExtension, .foreign,
        ]
        for code in CodeFault.Code.allCases {
            for problem in problems {
                let fault = CodeFault(code, problem)
                #expect(fault.description.hasSuffix("."))
                #expect(fault.persian.hasSuffix("."))
                #expect(bytes(PersianText.display(fault.persian)).count > 10)
            }
        }
        #expect(
            !"\(CodeReading<String>.invalid(NationalCode.read("0012345670").fault ?? CodeFault(.iban, .empty)))"
                .contains("0012345670")
        )
    }
}
