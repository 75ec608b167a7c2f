//! Whether a copy of a request goes elsewhere. Who sends it is `proxy::mirror`.

use std::sync::{Arc, OnceLock};

use topology::filters::{Mirror as Settings, MirrorTarget};

use super::faults::{is_among, is_taken};
use super::{Asked, Changes, Decision};
use crate::metrics::Counter;

/// So that a mirror's share has nothing to do with that of the faults.
const TURN: u32 = 1_000;

#[derive(Debug)]
pub struct Mirror {
    pub settings: Settings,
    pub metrics: Arc<MirrorMetrics>,
}

/// All workers' counters of one app's copies.
#[derive(Debug)]
pub struct MirrorMetrics(Box<[OnceLock<Box<MirrorCells>>]>);

/// One worker's part.
#[derive(Debug, Default)]
pub struct MirrorCells {
    /// Whatever was answered.
    pub answered: Counter,
    /// Nobody took them, or no answer came.
    pub failed: Counter,
    /// Too many were on their way, or their bodies were too long.
    pub skipped: Counter,
}

impl MirrorMetrics {
    fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// The cells that `worker` alone writes.
    pub fn cells(&self, worker: usize) -> &MirrorCells {
        self.0[worker].get_or_init(Box::default)
    }

    pub fn total(&self, counter: fn(&MirrorCells) -> &Counter) -> u64 {
        self.0.iter().filter_map(OnceLock::get).map(|cells| counter(cells).value()).sum()
    }
}

impl Mirror {
    pub fn compile(settings: &Settings, former: Option<&Self>, workers: usize) -> Self {
        let metrics = former.map(|former| former.metrics.clone());
        let metrics = metrics.unwrap_or_else(|| Arc::new(MirrorMetrics::new(workers)));
        Self { settings: settings.clone(), metrics }
    }

    pub fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        let Settings { matches, percent, .. } = &self.settings;
        changes.is_mirrored = is_taken(matches, asked.taken_by) && is_among(asked.id, TURN, *percent);
        Decision::Pass
    }

    pub fn describe(&self) -> String {
        let Settings { to, matches, percent, max_body_bytes, max_in_flight } = &self.settings;
        let to = match to {
            MirrorTarget::Version(version) => format!("version {version}"),
            MirrorTarget::App(app) => format!("app {app}"),
        };
        let of = if matches.is_empty() { String::new() } else { format!(" of {}", matches.join(", ")) };
        format!("{percent} %{of} to {to}; bodies up to {max_body_bytes} bytes, {max_in_flight} at a time")
    }
}
