//! How an instance is asked whether it can take requests, before it is registered and while it serves.

use std::time::Duration;

use discovery::document::{Table, show_duration};
use serde::{Deserialize, Serialize};

use super::stored::millis;

const MAX_PATH_BYTES: usize = 1 << 10;
const MAX_IN_A_ROW: u32 = 100;
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub kind: ProbeKind,
    #[serde(with = "millis")]
    pub interval: Duration,
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// Passes in a row before it is registered.
    pub rise: u32,
    /// Failures in a row after which the policy acts.
    pub fall: u32,
    /// From "it runs" to the last of `rise` passes.
    #[serde(with = "millis")]
    pub deadline: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// 200 to 299 from this path.
    Http { path: String },
    /// A connection is accepted.
    Tcp,
    /// It runs, and that is all.
    None,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            // The contract of the platform's containers.
            kind: ProbeKind::Http { path: "/_ping".to_owned() },
            // A start is waited for by somebody, so it is asked more often than a serving endpoint is.
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            // As gateways have it: one lucky answer is none.
            rise: 2,
            fall: 3,
            // Java with a cold cache.
            deadline: Duration::from_secs(120),
        }
    }
}

pub(super) fn read_probe(version: &Table<'_>) -> Probe {
    let default = Probe::default();
    let Some(table) = version.table("probe") else { return default };
    let path = table.parsed("path", probe_path);
    let kind = table.choice("kind", &[("http", 0), ("tcp", 1), ("none", 2)]).unwrap_or(0);
    if kind != 0 && table.has("path") {
        table.mistake("path", "only kind = \"http\" asks for a path; remove one of them");
    }
    let interval =
        table.duration("interval", Duration::from_millis(100)..=LONGEST).unwrap_or(default.interval);
    let timeout = table
        .duration("timeout", Duration::from_millis(1)..=LONGEST)
        .unwrap_or(default.timeout.min(interval));
    if timeout > interval {
        let (timeout, interval) = (show_duration(timeout), show_duration(interval));
        table.mistake("timeout", format!("{timeout} is longer than the interval of {interval}"));
    }
    let probe = Probe {
        kind: match kind {
            1 => ProbeKind::Tcp,
            2 => ProbeKind::None,
            _ => path.map_or(default.kind, |path| ProbeKind::Http { path }),
        },
        interval,
        timeout,
        rise: table.integer("rise", 1..=MAX_IN_A_ROW).unwrap_or(default.rise),
        fall: table.integer("fall", 1..=MAX_IN_A_ROW).unwrap_or(default.fall),
        deadline: table.duration("deadline", Duration::from_secs(1)..=LONGEST).unwrap_or(default.deadline),
    };
    table.finish();
    probe
}

fn probe_path(text: &str) -> Result<String, String> {
    let target = text.starts_with('/')
        && text.len() <= MAX_PATH_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    target
        .then(|| text.to_owned())
        .ok_or_else(|| format!("is no path; write / and at most {MAX_PATH_BYTES} visible ASCII characters"))
}
