import ArgumentParser

/// Looks at the installation.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract:
            "Whether this node stands on firm ground, and what to mend. Exit: 0 green, 1 yellow, 2 red, 3 unknown.",
        discussion: """
            Looks at the directory, its disk, other programs, the clock and the service, and changes nothing. How the node \
            itself is tells `status`; whether its rows are right, `verify`.
            """
    )

    private struct Document: Encodable {
        let state: HealthState?
        let checks: [Finding]
    }

    @OptionGroup var options: NodeOptions

    func run() async throws {
        var findings: [Finding] = []
        let settings: Settings
        let output: Output
        do {
            settings = try options.settings()
            output = try options.output(settings)
        } catch {
            // Without settings nothing else can be found.
            Terminal.write("peyvand: \(CommandFailure(error).sentence)\n", to: .error)
            throw ExitCode(HealthState.red.exitCode)
        }
        findings = Examination(directory: settings.directory).findings()
        if findings.first?.state == .green { findings.append(await Self.node(settings, output.language)) }
        let state = findings.compactMap(\.state).max()
        do {
            try output.result(
                Document(state: state, checks: findings),
                text: output.words.findings(findings, state, output.style)
            )
        } catch is ClosedOutput {
            throw ExitCode(0)
        }
        throw ExitCode(state?.exitCode ?? healthUnknownExitCode)
    }

    /// Whether the node answers.
    private static func node(_ settings: Settings, _ language: Language) async -> Finding {
        do {
            let connection = try await NodeConnection.open(settings, language: language)
            defer { try? connection.close() }
            let status = try await connection.perform(ShowStatus())
            return Finding(
                .node,
                status.state,
                status.state == .green
                    ? "The node answers, and is well." : "The node answers, and is not well: see `peyvand status`.",
                status.state == .green
                    ? "گره پاسخ می‌دهد و خوب است." : "گره پاسخ می‌دهد و خوب نیست: `peyvand status` را ببینید."
            )
        } catch {
            let sentence = CommandFailure(error, language: language).sentence
            return Finding(.node, .red, "The node does not answer. \(sentence)", "گره پاسخ نمی‌دهد. \(sentence)")
        }
    }
}
