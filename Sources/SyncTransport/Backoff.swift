/// How long to wait before the hub is called again: exponential, with full jitter.
///
/// - Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
package struct Backoff: Hashable, Sendable {
    package var first = Duration.milliseconds(500)
    package var max = Duration.seconds(60)
    /// What a hub may ask for at most: it must not be able to switch a branch off.
    package var retryAfterMax = Duration.seconds(3600)

    package init() {}

    /// Returns the wait after a failure.
    ///
    /// - Parameters:
    ///   - attempt: How many failures in a row came before, from 0.
    ///   - retryAfterSeconds: What the hub asked for. The jitter then comes on top, so that many branches
    ///     that were sent away together do not come back together.
    ///   - random: 0 to 1.
    package func delay(attempt: Int, retryAfterSeconds: UInt32?, random: Double) -> Duration {
        // 500 ms doubled 7 times is above a minute; more would only risk an overflow.
        let doubled = first * (1 << Swift.min(Swift.max(attempt, 0), 7))
        let jitter = Swift.min(doubled, max) * Swift.min(Swift.max(random, 0), 1)
        guard let retryAfterSeconds else { return jitter }
        return Swift.min(.seconds(Int64(retryAfterSeconds)), retryAfterMax) + jitter
    }
}
