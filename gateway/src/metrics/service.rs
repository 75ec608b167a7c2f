//! Counters of one version of one app.

use std::sync::OnceLock;

use topology::{AppId, RetryCause, VersionId};

use super::{ByReason, Counter, Gauge, Histogram, HistogramTotal};
use crate::message::Method;
use crate::reason::Reason;
use crate::table::Nearness;

const METHODS: usize = Method::ALL.len();
/// 1xx to 5xx.
const CLASSES: usize = 5;

/// What stands for the method of a TCP listener's connections, so that one family holds every outcome.
const TUNNEL: &str = "tcp";

/// All workers' counters of a service. A worker's cells exist from its first request on, so an app
/// without traffic costs a pointer per worker.
#[derive(Debug)]
pub struct ServiceMetrics {
    app: AppId,
    version: Option<VersionId>,
    shards: Box<[OnceLock<Box<ServiceCells>>]>,
}

/// Totals of a service.
#[derive(Debug, Clone, Default)]
pub struct ServiceOutcome {
    pub requests: u64,
    /// Of which ended with 5xx, whoever said so.
    pub errors: u64,
    pub seconds: HistogramTotal,
}

/// One worker's part.
#[derive(Debug, Default)]
pub struct ServiceCells {
    answered: [[Counter; CLASSES]; METHODS],
    failed: OnceLock<Box<FailureCells>>,
    /// Of TCP listeners: connections that both sides ended in order.
    tunnels: Counter,
    /// Tunnels under way: upgraded connections and CONNECT.
    pub tunnels_open: Gauge,
    /// From the first byte of the request to the last byte of the response.
    pub request_seconds: Histogram,
    /// From the request's last attempt to the first byte of the response's head.
    pub upstream_seconds: Histogram,
    /// What the gateway itself added before the request went upstream.
    pub added_seconds: Histogram,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub connects: Counter,
    pub connect_failures: Counter,
    pub reuses: Counter,
    /// Attempts that were followed by another one, by what they failed by.
    pub retries: [Counter; RetryCause::ALL.len()],
    /// Attempts that would have been, had the budget allowed it.
    pub retries_over_budget: Counter,
    pub hedges: [Counter; HedgeResult::ALL.len()],
    /// Requests and connections by how near their endpoints are; all attempts.
    pub zones: [Counter; Nearness::ALL.len()],
}

/// What a second endpoint, asked because the first one was slow, was good for.
#[derive(Debug, Clone, Copy)]
pub enum HedgeResult {
    /// It answered first.
    Won,
    /// The first one did.
    Lost,
    /// It did not answer, or said that it failed.
    Failed,
}

impl HedgeResult {
    pub const ALL: [Self; 3] = [Self::Won, Self::Lost, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Default)]
struct FailureCells {
    requests: [ByReason; METHODS],
    tunnels: ByReason,
}

impl ServiceMetrics {
    /// `version` is `None` for requests that never came to one.
    pub fn new(app: &AppId, version: Option<&VersionId>, workers: usize) -> Self {
        Self {
            app: app.clone(),
            version: version.cloned(),
            shards: (0..workers).map(|_| OnceLock::new()).collect(),
        }
    }

    pub fn app(&self) -> &AppId {
        &self.app
    }

    pub fn version(&self) -> Option<&VersionId> {
        self.version.as_ref()
    }

    /// The cells that `worker` alone writes.
    pub fn cells(&self, worker: usize) -> &ServiceCells {
        self.shards[worker].get_or_init(Box::default)
    }

    /// What its requests came to so far, over all workers.
    pub fn outcome(&self) -> ServiceOutcome {
        let (mut totals, mut seconds) = (RequestTotals::default(), HistogramTotal::default());
        for cells in self.used() {
            cells.add_requests(&mut totals);
            cells.request_seconds.add_to(&mut seconds);
        }
        let mut outcome = ServiceOutcome { seconds, ..ServiceOutcome::default() };
        for (_, class, _, count) in totals.iter() {
            outcome.requests += count;
            outcome.errors += if class == "5xx" { count } else { 0 };
        }
        outcome
    }

    /// The cells of the workers that have counted anything.
    pub fn used(&self) -> impl Iterator<Item = &ServiceCells> {
        self.shards.iter().filter_map(OnceLock::get).map(|cells| &**cells)
    }
}

impl ServiceCells {
    /// An endpoint's final response was passed on in full.
    pub fn count_answer(&self, method: Method, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES) - 1;
        self.answered[method as usize][class].increment();
    }

    pub fn count_failure(&self, method: Method, reason: Reason) {
        self.failures().requests[method as usize].count(reason);
    }

    pub fn count_tunnel(&self) {
        self.tunnels.increment();
    }

    pub fn count_tunnel_failure(&self, reason: Reason) {
        self.failures().tunnels.count(reason);
    }

    fn failures(&self) -> &FailureCells {
        self.failed.get_or_init(Box::default)
    }

    /// Adds this worker's counts, class by class, to `total`.
    pub(super) fn add_requests(&self, total: &mut RequestTotals) {
        for (method, classes) in self.answered.iter().enumerate() {
            for (class, counter) in classes.iter().enumerate() {
                total.answered[method][class] += counter.value();
            }
        }
        total.tunnels += self.tunnels.value();
        let Some(failed) = self.failed.get() else { return };
        let rows = failed.requests.iter().chain([&failed.tunnels]);
        for (row, sums) in rows.zip(total.failed.iter_mut().chain([&mut total.failed_tunnels])) {
            for (reason, sum) in Reason::ALL.iter().zip(sums) {
                *sum += row.value(*reason);
            }
        }
    }
}

/// Requests of a service over all workers.
#[derive(Debug)]
pub(super) struct RequestTotals {
    answered: [[u64; CLASSES]; METHODS],
    failed: [[u64; Reason::ALL.len()]; METHODS],
    tunnels: u64,
    failed_tunnels: [u64; Reason::ALL.len()],
}

impl Default for RequestTotals {
    fn default() -> Self {
        let failed_tunnels = [0; Reason::ALL.len()];
        Self {
            answered: [[0; CLASSES]; METHODS],
            failed: [failed_tunnels; METHODS],
            tunnels: 0,
            failed_tunnels,
        }
    }
}

impl RequestTotals {
    /// Method, status class, reason (empty for an answer) and count, where the count is not 0.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        const NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let answered = Method::ALL.iter().zip(&self.answered).flat_map(|(method, classes)| {
            classes.iter().zip(NAMES).map(|(count, class)| (method.as_str(), class, "", *count))
        });
        let methods = Method::ALL.iter().map(|method| method.as_str()).chain([TUNNEL]);
        let rows = self.failed.iter().chain([&self.failed_tunnels]);
        let failed = methods.zip(rows).flat_map(|(method, reasons)| {
            reasons.iter().zip(Reason::ALL).map(move |(count, reason)| {
                (method, NAMES[usize::from(reason.status() / 100) - 1], reason.as_str(), *count)
            })
        });
        let tunnels = [(TUNNEL, "2xx", "", self.tunnels)];
        answered.chain(failed).chain(tunnels).filter(|(.., count)| *count > 0)
    }
}
