//! A load's report, stretch by stretch.

use std::ops::Range;
use std::time::Duration;

use benches::load::Report;
use benches::record::Record;
use serde_json::json;

/// Enough to see a pattern, few enough to read; the raw lines have all.
const SHOWN_FAILURES: usize = 5;

/// A part of a run, by the time since the load's start.
pub struct Stretch {
    pub name: &'static str,
    pub time: Range<Duration>,
}

/// Records every second and every stretch, and prints a table of the stretches.
pub fn tell(record: &mut Record, report: &Report, stretches: &[Stretch]) -> Verdict {
    let end = stretches.iter().map(|stretch| stretch.time.end).max().unwrap_or_default();
    for (second, window) in report.seconds(end) {
        record.line("second", json!({"second": second, "seen": window.to_json()}));
    }
    record.say("| stretch | seconds | requests | failed | closed | median ms | p90 | p99 | max |");
    record.say("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for Stretch { name, time } in stretches {
        let window = report.window(time);
        record.line("stretch", json!({"name": name, "seen": window.to_json()}));
        record.say(&format!(
            "| {name} | {:.1} | {} | {} | {} | {} |",
            (time.end - time.start).as_secs_f64(),
            window.requests,
            window.failures.len(),
            window.closed,
            window.latency.cells(),
        ));
    }
    let whole = report.whole();
    for what in whole.failures.iter().take(SHOWN_FAILURES) {
        record.say(&format!("\nfailed: {what}"));
    }
    Verdict { failed: whole.failures.len(), closed: whole.closed }
}

/// What must be 0 and 0.
#[must_use]
pub struct Verdict {
    failed: usize,
    closed: usize,
}

impl Verdict {
    /// # Errors
    /// When anything failed or was closed.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.failed == 0 && self.closed == 0,
            "{} requests failed, {} connections were closed",
            self.failed,
            self.closed
        );
        Ok(())
    }
}
