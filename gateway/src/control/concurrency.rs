//! How many requests endpoints bear at a time, for apps that want it found out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use healthcheck::adaptive::{AdaptiveLimit, Window};
use healthcheck::outlier::Sample;
use topology::Adaptive;

use crate::table::{CompiledApp, PooledEndpoint};

/// Long enough for a mean, short enough to follow a load.
const WINDOW: Duration = Duration::from_millis(250);

/// One app's endpoints.
pub struct Concurrency {
    at: Instant,
    endpoints: HashMap<u64, Known>,
}

struct Known {
    limit: AdaptiveLimit,
    total: Sample,
}

impl Concurrency {
    pub fn begin(now: Instant) -> Self {
        Self { at: now, endpoints: HashMap::new() }
    }

    /// Sets the limits for the next window, if one has ended.
    pub fn look(&mut self, app: &CompiledApp, now: Instant) {
        let Some(range) = app.spec.capacity().and_then(|limits| limits.adaptive) else { return };
        if now - self.at < WINDOW {
            return;
        }
        self.at = now;
        let mut former = std::mem::take(&mut self.endpoints);
        for endpoint in &app.endpoints {
            let known = former.remove(&endpoint.live.id);
            if let Some(known) = observe(endpoint, known, &range) {
                self.endpoints.insert(endpoint.live.id, known);
            }
        }
        // Who waits looks again at the next tick.
    }
}

fn observe(endpoint: &Arc<PooledEndpoint>, known: Option<Known>, range: &Adaptive) -> Option<Known> {
    let (tally, load) = (endpoint.live.tally.get()?, endpoint.live.load.get()?);
    let total = tally.total();
    let mut known = known.unwrap_or_else(|| Known { limit: AdaptiveLimit::new(range), total });
    let sample = total.since(&std::mem::replace(&mut known.total, total));
    let window = Window {
        requests: sample.requests,
        failures: sample.failures,
        mean_latency: sample.mean_latency(),
        was_full: load.refusals.swap(0, Ordering::Relaxed) > 0
            || 2 * load.in_flight.used() >= known.limit.limit(),
    };
    load.bearable.store(known.limit.observe(&window, range), Ordering::Relaxed);
    Some(known)
}
