//! What load generators print about what they saw.

use serde_json::{Value, json};

/// What the clients of one run saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Complete answers, whatever they said.
    pub requests: u64,
    /// Answers that were no success, and connections that failed.
    pub errors: u64,
    /// As a client sees it that waits for one answer before it asks again. `None` where the generator does
    /// not tell.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

impl Outcome {
    /// Of what `wrk --latency` printed; `None` when that is no report.
    pub fn of_wrk(text: &str) -> Option<Self> {
        let sockets = text.split_once("Socket errors:").map_or("", |(_, rest)| rest);
        let sockets = sockets.lines().next().unwrap_or_default();
        let failed =
            ["connect ", "read ", "write ", "timeout "].map(|kind| after(sockets, kind).unwrap_or(0));
        let refused = after(text, "Non-2xx or 3xx responses: ").unwrap_or(0);
        Some(Self {
            requests: before(text, " requests in ")?,
            errors: failed.iter().sum::<u64>() + refused,
            p50_ms: wrk_percentile(text, "50%"),
            p99_ms: wrk_percentile(text, "99%"),
        })
    }

    /// Of what `h2load` printed; `None` when that is no report. It knows no percentiles.
    pub fn of_h2load(text: &str) -> Option<Self> {
        let unsuccessful = [" 3xx", " 4xx", " 5xx"].map(|class| before(text, class).unwrap_or(0));
        // What failed includes answers of 4xx and 5xx, and not redirects.
        let failed = before(text, " failed,")?;
        Some(Self {
            requests: before(text, " succeeded,")?,
            errors: failed.max(unsuccessful.iter().sum()),
            p50_ms: None,
            p99_ms: None,
        })
    }

    pub fn to_json(&self) -> Value {
        json!({
            "requests": self.requests, "errors": self.errors, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms,
        })
    }
}

/// The whole number that ends where `marker` begins.
fn before(text: &str, marker: &str) -> Option<u64> {
    let (head, _) = text.split_once(marker)?;
    let digits = head.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The whole number that begins where `marker` ends.
fn after(text: &str, marker: &str) -> Option<u64> {
    let (_, tail) = text.split_once(marker)?;
    let digits = tail.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// In milliseconds. A line of it reads `     99%    2.95ms`.
fn wrk_percentile(text: &str, percent: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(percent))?.trim();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let in_millis = match &value[digits.len()..] {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|number| number * in_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "\
Running 3s test @ http://localhost:18002/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.28ms  422.91us  10.02ms   88.08%
    Req/Sec    48.52k     4.08k   54.72k    73.33%
  Latency Distribution
     50%    1.18ms
     75%    1.37ms
     90%    1.71ms
     99%    2.95s 
  138622 requests in 3.02s, 22.34MB read
Requests/sec:  45898.99
Transfer/sec:      7.40MB
";

    const H2LOAD: &str = "\
starting benchmark...
spawning thread #0: 10 total client(s). Timing-based test with 0s of warm-up time and 3s of main duration for measurements.
finished in 3.00s, 39904.67 req/s, 2.44MB/s
requests: 119714 total, 120714 started, 119714 done, 119710 succeeded, 4 failed, 1 errored, 2 timeout
status codes: 119711 2xx, 0 3xx, 0 4xx, 3 5xx
traffic: 7.31MB (7663296) total, 1.26MB (1317029) headers (space savings 89.52%), 1.37MB (1436532) data
                     min         max         mean         sd        +/- sd
time for request:     3.36ms     45.91ms     24.97ms      5.13ms    72.59%
";

    #[test]
    fn a_report_of_wrk_is_read() {
        let outcome = Outcome::of_wrk(WRK);
        let expected = Outcome { requests: 138_622, errors: 0, p50_ms: Some(1.18), p99_ms: Some(2950.0) };
        assert_eq!(outcome, Some(expected));
    }

    #[test]
    fn every_kind_of_error_of_wrk_counts() {
        let troubled = format!(
            "{WRK}  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\n"
        );
        assert_eq!(Outcome::of_wrk(&troubled).map(|outcome| outcome.errors), Some(54_321));
    }

    #[test]
    fn latencies_below_a_millisecond_are_fractions() {
        let quick = WRK.replace("1.18ms", "870.00us");
        assert_eq!(Outcome::of_wrk(&quick).and_then(|outcome| outcome.p50_ms), Some(0.87));
    }

    #[test]
    fn a_report_of_h2load_is_read() {
        let expected = Outcome { requests: 119_710, errors: 4, p50_ms: None, p99_ms: None };
        assert_eq!(Outcome::of_h2load(H2LOAD), Some(expected));
        let redirected = H2LOAD.replace("0 3xx", "70 3xx");
        assert_eq!(Outcome::of_h2load(&redirected).map(|outcome| outcome.errors), Some(73));
    }

    #[test]
    fn what_is_no_report_is_none() {
        assert_eq!(Outcome::of_wrk("unable to connect to localhost:1 Connection refused"), None);
        assert_eq!(Outcome::of_h2load("Could not connect to the host"), None);
        assert_eq!(Outcome::of_wrk(""), None);
    }
}
