//! How the harm that an app's bad endpoints do is kept small.

use std::sync::Arc;
use std::time::Duration;

use crate::Capacity;

/// Present only where an app asks for something other than the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Containment {
    /// Whom the app belongs to. `None`: it is a tenant of its own.
    pub tenant: Option<Arc<str>>,
    /// `None`: the app may use what there is.
    pub capacity: Option<Capacity>,
    pub outliers: Outliers,
    /// How long the weight of a new or returned endpoint grows from [`SLOW_START_PERCENT`] to the whole.
    /// `None`: it has its whole weight at once.
    pub slow_start: Option<Duration>,
}

/// What an endpoint's weight begins with under slow start: enough to warm caches and to be seen failing,
/// little enough for a cold process.
pub const SLOW_START_PERCENT: u32 = 10;

/// How endpoints that serve worse than they should are found, and for how long they get no requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outliers {
    /// Requests in a row without an answer that eject an endpoint: refused, reset, garbled, timed out.
    /// 0: they eject nobody.
    pub failures: u16,
    /// Answers 502, 503 or 504 in a row that eject an endpoint. 0: they eject nobody.
    pub gateway_errors: u16,
    /// `None`: success rates are not compared.
    pub success_rate: Option<SuccessRate>,
    /// `None`: latencies are not compared.
    pub latency: Option<Slowness>,
    /// From one comparison to the next.
    pub interval: Duration,
    /// How long the first ejection lasts; each that follows soon lasts twice as long as the one before.
    pub ejection: Duration,
    /// What repeated ejections grow to.
    pub max_ejection: Duration,
    /// Of the endpoints that stand for each other, how many may be out at a time: ejected, or down by
    /// their probes. From 0 to 100.
    pub max_ejected_percent: u8,
}

impl Outliers {
    /// Five in a row: with one request in a hundred failing for reasons of its own, that happens by chance
    /// once in ten thousand million requests. Envoy has the same number.
    pub const DEFAULT_FAILURES: u16 = 5;
    /// An answer is a weaker sign than none, since an app may mean it; whoever means it for some requests
    /// answers others in between.
    pub const DEFAULT_GATEWAY_ERRORS: u16 = 10;
    /// Long enough for [`SuccessRate::DEFAULT_MIN_REQUESTS`] at ten requests a second. Envoy's.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
    /// What a restart takes. A wrong ejection costs as little; a right one is followed by a longer one after
    /// a single further failure.
    pub const DEFAULT_EJECTION: Duration = Duration::from_secs(5);
    /// Envoy's. Beyond it an endpoint that was cured would be missed.
    pub const DEFAULT_MAX_EJECTION: Duration = Duration::from_secs(300);
    /// The other half can carry twice its load more often than not; with more out, whatever is wrong is
    /// no matter of single endpoints.
    pub const DEFAULT_MAX_EJECTED_PERCENT: u8 = 50;

    /// Nobody is ejected.
    pub fn off() -> Self {
        Self { failures: 0, gateway_errors: 0, success_rate: None, latency: None, ..Self::default() }
    }

    /// Whether endpoints are compared with each other, for which their requests must be counted.
    pub fn compares(&self) -> bool {
        self.success_rate.is_some() || self.latency.is_some()
    }
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            failures: Self::DEFAULT_FAILURES,
            gateway_errors: Self::DEFAULT_GATEWAY_ERRORS,
            success_rate: None,
            latency: None,
            interval: Self::DEFAULT_INTERVAL,
            ejection: Self::DEFAULT_EJECTION,
            max_ejection: Self::DEFAULT_MAX_EJECTION,
            max_ejected_percent: Self::DEFAULT_MAX_EJECTED_PERCENT,
        }
    }
}

/// An endpoint is an outlier when its share of successes lies this far below the others' mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessRate {
    /// In the others' standard deviations.
    pub deviations: u8,
    /// In an interval, for an endpoint to be compared.
    pub min_requests: u32,
    /// Others that can be compared, for a comparison to mean something.
    pub min_endpoints: u16,
}

impl SuccessRate {
    /// Beyond three lies one value in a thousand by chance. The endpoint itself is no part of what it is
    /// compared with, so this can be reached in small pools too.
    pub const DEFAULT_DEVIATIONS: u8 = 3;
    /// One failure is then one percent. Envoy's.
    pub const DEFAULT_MIN_REQUESTS: u32 = 100;
    /// The deviation of two is an accident.
    pub const DEFAULT_MIN_ENDPOINTS: u16 = 3;
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            deviations: Self::DEFAULT_DEVIATIONS,
            min_requests: Self::DEFAULT_MIN_REQUESTS,
            min_endpoints: Self::DEFAULT_MIN_ENDPOINTS,
        }
    }
}

/// An endpoint is an outlier when its mean latency is this many times the median of the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowness {
    pub factor: u8,
    pub min_requests: u32,
    /// Of the others.
    pub min_endpoints: u16,
    /// Whoever is below it is fast enough.
    pub least: Duration,
}

impl Slowness {
    /// What a neighbour on the same machine or a full garbage collection costs is less; a dying disk costs
    /// more.
    pub const DEFAULT_FACTOR: u8 = 3;
    /// A mean needs fewer values than a share, and slow endpoints serve fewer.
    pub const DEFAULT_MIN_REQUESTS: u32 = 20;
    /// A median of one is no median.
    pub const DEFAULT_MIN_ENDPOINTS: u16 = 2;
    /// Three times a millisecond is still nothing that anybody notices.
    pub const DEFAULT_LEAST: Duration = Duration::from_millis(20);
}

impl Default for Slowness {
    fn default() -> Self {
        Self {
            factor: Self::DEFAULT_FACTOR,
            min_requests: Self::DEFAULT_MIN_REQUESTS,
            min_endpoints: Self::DEFAULT_MIN_ENDPOINTS,
            least: Self::DEFAULT_LEAST,
        }
    }
}
