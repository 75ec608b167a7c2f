//! A worker's part: it counts into tallies that nobody else sees, and gives them away.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use foldhash::quality::FixedState;
use tokio::sync::mpsc::{Receiver, Sender};

use super::tally::{Seen, Tally};
use crate::metrics::{ServiceMetrics, WorkerMetrics};

/// Two seconds: what an operator sees is no older, and a merge of a few microseconds for each service and
/// worker is nothing at that rate.
const TICKS: u32 = 20;
/// Services of one delta; one more, and it is given away early. A tally has up to 20 KiB where every path
/// differs.
const MAX_SERVICES: usize = 128;
/// Deltas that wait for the control plane, which takes each within a millisecond; with the bound above, 40 MiB
/// at the very most.
const WAITING_DELTAS: usize = 16;

/// What a worker has counted since the last time.
pub type Delta = Vec<(Arc<ServiceMetrics>, Tally)>;

/// From the workers to the control plane.
pub fn channel() -> (Sender<Delta>, Receiver<Delta>) {
    tokio::sync::mpsc::channel(WAITING_DELTAS)
}

#[derive(Debug)]
pub struct WorkerStatistics {
    /// By the address of the service's cells, which the entry keeps from being used again.
    services: RefCell<HashMap<usize, (Arc<ServiceMetrics>, Tally), RandomState>>,
    hashes: FixedState,
    to: Sender<Delta>,
    given: Cell<u32>,
    metrics: Arc<WorkerMetrics>,
}

impl WorkerStatistics {
    /// All workers of a process have the same `seed`.
    pub fn new(to: Sender<Delta>, seed: u64, metrics: Arc<WorkerMetrics>) -> Self {
        let hashes = FixedState::with_seed(seed);
        Self { services: RefCell::default(), hashes, to, given: Cell::new(0), metrics }
    }

    pub fn count(&self, service: &Arc<ServiceMetrics>, seen: &Seen<'_>) {
        let mut services = self.services.borrow_mut();
        let key = Arc::as_ptr(service).addr();
        if services.len() >= MAX_SERVICES && !services.contains_key(&key) {
            self.give(&mut services);
        }
        let (_, tally) = services.entry(key).or_insert_with(|| (service.clone(), Tally::default()));
        tally.count(seen, &self.hashes);
    }

    /// Once per tick: gives away what there is, now and then.
    pub fn tick(&self, now: u32) {
        if now.wrapping_sub(self.given.get()) >= TICKS {
            self.given.set(now);
            let mut services = self.services.borrow_mut();
            if !services.is_empty() {
                self.give(&mut services);
            }
        }
    }

    /// If the control plane is behind, it is dropped and counted.
    fn give(&self, services: &mut HashMap<usize, (Arc<ServiceMetrics>, Tally), RandomState>) {
        let delta: Delta = services.drain().map(|(_, counted)| counted).collect();
        if let Err(refused) = self.to.try_send(delta) {
            let requests = refused.into_inner().iter().map(|(_, tally)| tally.counts.requests).sum();
            self.metrics.statistics_dropped.add(requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use topology::AppId;

    use super::*;

    fn service(name: &str) -> Arc<ServiceMetrics> {
        Arc::new(ServiceMetrics::new(&AppId::parse(name).unwrap(), None, 1))
    }

    fn seen() -> Seen<'static> {
        Seen {
            status: 200,
            has_failed: false,
            received_bytes: 10,
            sent_bytes: 100,
            took: Some(Duration::from_millis(1)),
            client: [192, 0, 2, 1].into(),
            target: b"/a?b",
        }
    }

    #[test]
    fn what_was_counted_is_given_away_every_two_seconds_and_once() {
        let (to, mut from) = channel();
        let statistics = WorkerStatistics::new(to, 1, Arc::default());
        let (shop, blog) = (service("shop"), service("blog"));
        for service in [&shop, &blog, &shop] {
            statistics.count(service, &seen());
        }
        statistics.tick(TICKS - 1);
        assert!(from.try_recv().is_err(), "too early");
        statistics.tick(TICKS);
        let delta = from.try_recv().unwrap();
        let mut counted: Vec<_> =
            delta.iter().map(|(service, tally)| (service.app().as_str(), tally.counts.requests)).collect();
        counted.sort_unstable();
        assert_eq!(counted, [("blog", 1), ("shop", 2)]);
        statistics.tick(2 * TICKS);
        assert!(from.try_recv().is_err(), "nothing new");
    }

    #[test]
    fn memory_is_bounded_and_what_nobody_takes_is_counted() {
        let (to, from) = channel();
        let metrics = Arc::new(WorkerMetrics::default());
        let statistics = WorkerStatistics::new(to, 1, metrics.clone());
        let services: Vec<_> = (0..MAX_SERVICES).map(|number| service(&format!("app{number}"))).collect();
        for round in 0..=WAITING_DELTAS {
            services.iter().for_each(|service| statistics.count(service, &seen()));
            // One more than fit: the others are given away.
            statistics.count(&service(&format!("more{round}")), &seen());
            statistics.services.borrow_mut().clear();
        }
        assert_eq!(from.len(), WAITING_DELTAS);
        assert_eq!(metrics.statistics_dropped.value(), MAX_SERVICES as u64);
    }
}
