/// One number that monitoring watches, for one thing or for several that labels tell apart.
///
/// Its text is the exposition format 0.0.4 of Prometheus.
struct Metric: Codable, Sendable {
    /// Whether it may fall.
    enum Kind: String, Codable, Sendable {
        case gauge
        /// It only rises while a process lives.
        case counter
    }

    struct Sample: Codable, Sendable {
        var labels: [String: String] = [:]
        let value: Double
    }

    /// The name: what is counted, and its unit.
    let id: String
    let kind: Kind
    /// What it tells, in a sentence.
    let help: String
    let samples: [Sample]

    /// What it is called among media types.
    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// All of them as Prometheus reads them. Those without a number are left out.
    static func text(_ metrics: [Metric]) -> String {
        metrics.filter { !$0.samples.isEmpty }.map(\.text).joined()
    }

    private var text: String {
        "# HELP \(id) \(Self.escaped(help))\n# TYPE \(id) \(kind.rawValue)\n"
            + samples.map { sample in
                let labels = sample.labels.sorted { $0.key < $1.key }
                    .map { "\($0.key)=\"\(Self.escaped($0.value, withQuotes: true))\"" }
                return id + (labels.isEmpty ? "" : "{\(labels.joined(separator: ","))}")
                    + " \(Self.number(sample.value))\n"
            }
            .joined()
    }

    private static func escaped(_ text: String, withQuotes: Bool = false) -> String {
        let escaped = text.replacing("\\", with: "\\\\").replacing("\n", with: "\\n")
        return withQuotes ? escaped.replacing("\"", with: "\\\"") : escaped
    }

    /// Whole numbers without a fraction, as far as they are exact.
    private static func number(_ value: Double) -> String {
        Int64(exactly: value).map(String.init) ?? "\(value)"
    }
}
