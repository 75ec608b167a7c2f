//! The `[retries]` and `[hedge]` sections.

use std::time::Duration;

use topology::{Backoff, Hedge, Retries, RetryAllowance, RetryCause, RetryCauses};

use crate::document::{Table, pick};

/// Who asks ten endpoints in vain has no endpoint that answers.
const MAX_ATTEMPTS: u8 = 10;
/// A retry for every request doubles an app's load, and more would be no budget.
const MAX_PERCENT: u32 = 100;
/// The smallest app that needs more has requests to take a share of.
const MAX_PER_SECOND: u32 = 1_000;
/// The budget counts in tenths of its window, and workers count time in tenths of a second.
const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Requests of a minute ago say nothing of the load now.
const MAX_WINDOW: Duration = Duration::from_secs(60);
/// The finest that the unit allows.
const MIN_PAUSE: Duration = Duration::from_millis(1);
/// A client that waits longer than this has gone.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Three doublings: by the fourth attempt the wait no longer grows.
const BACKOFF_GROWTH: u32 = 8;
/// A request that may be silent for longer needs no second endpoint.
const MAX_HEDGE_AFTER: Duration = Duration::from_secs(60);

pub(super) fn read_retries(spec: &Table<'_>) -> Option<Retries> {
    let table = spec.table("retries")?;
    let default = Retries::DEFAULT;
    let words = RetryCause::ALL.map(|cause| (cause.as_str(), cause));
    let on = table.list("on", RetryCause::ALL.len(), |word| pick(word, &words));
    table.refuse_empty("on", "write attempts = 1 to ask one endpoint only");
    let retries = Retries {
        attempts: table.integer("attempts", 1..=MAX_ATTEMPTS).unwrap_or(default.attempts),
        on: on.map_or(default.on, |causes| RetryCauses::of(&causes)),
        budget: read_budget(&table).unwrap_or(default.budget),
        backoff: read_backoff(&table),
    };
    table.finish();
    Some(retries)
}

fn read_budget(retries: &Table<'_>) -> Option<RetryAllowance> {
    let table = retries.table("budget")?;
    let default = RetryAllowance::DEFAULT;
    let budget = RetryAllowance {
        percent: table.integer("percent", 0..=MAX_PERCENT).unwrap_or(default.percent),
        min_per_second: table.integer("min_per_second", 0..=MAX_PER_SECOND).unwrap_or(default.min_per_second),
        window: table.duration("window", MIN_WINDOW..=MAX_WINDOW).unwrap_or(default.window),
    };
    table.finish();
    Some(budget)
}

fn read_backoff(retries: &Table<'_>) -> Option<Backoff> {
    let table = retries.table("backoff")?;
    let base = table.duration("base", MIN_PAUSE..=MAX_PAUSE);
    let base = table.required("base", base, "base = \"25ms\"");
    let max = table.duration("max", MIN_PAUSE..=MAX_PAUSE);
    if let (Some(base), Some(max)) = (base, max)
        && max < base
    {
        table.mistake("max", "is shorter than base; a wait doubles from base up to max");
    }
    table.finish();
    let base = base?;
    Some(Backoff { base, max: max.unwrap_or(base * BACKOFF_GROWTH) })
}

pub(super) fn read_hedge(spec: &Table<'_>) -> Option<Hedge> {
    let table = spec.table("hedge")?;
    let after = table.duration("after", MIN_PAUSE..=MAX_HEDGE_AFTER);
    let after = table.required("after", after, "after = \"50ms\", what nearly all responses take less than");
    table.finish();
    Some(Hedge { after: after? })
}
