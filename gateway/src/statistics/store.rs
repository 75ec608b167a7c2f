//! What all workers have counted, by minute.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use topology::{AppId, VersionId};

use super::tally::{Counts, Tally};
use super::worker::Delta;

/// Whole minutes that are kept beside the one under way.
pub const MINUTES: u32 = 10;
/// Steps of the course of a minute.
pub const STEP: Duration = Duration::from_secs(10);
const STEPS: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// A service's place: the app's own requests that came to no version have none.
type Place = (AppId, Option<VersionId>);

#[derive(Debug)]
struct Minute {
    /// Since the store began.
    number: u64,
    steps: [Counts; STEPS],
    tally: Tally,
}

#[derive(Debug, Default)]
struct Service {
    /// The oldest first.
    minutes: VecDeque<Minute>,
    bytes: usize,
    /// Grows with every delta: whoever has the least was silent for the longest.
    touched: u64,
}

/// One store, for the control plane alone: workers send to it and scrapes read it.
#[derive(Debug)]
pub struct Store {
    began: Instant,
    most_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    services: BTreeMap<Place, Service>,
    bytes: usize,
    deltas: u64,
    forgotten: u64,
}

/// For metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStatus {
    pub services: usize,
    pub bytes: usize,
    /// Services with traffic that had to go for others.
    pub forgotten: u64,
}

/// What a service did over some minutes.
#[derive(Debug)]
pub struct Period {
    pub app: AppId,
    pub version: Option<VersionId>,
    pub tally: Tally,
    /// By [`STEP`], from the period's start.
    pub course: Vec<Counts>,
}

impl Store {
    pub fn new(began: Instant, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { began, most_bytes, inner: Mutex::default() })
    }

    /// Takes what workers send until `cancel`.
    pub async fn run(self: Arc<Self>, mut deltas: Receiver<Delta>, cancel: CancellationToken) {
        let mut minutely = tokio::time::interval(MINUTE);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = minutely.tick() => self.expire(Instant::now()),
                delta = deltas.recv() => match delta {
                    Some(delta) => self.take(delta, Instant::now()),
                    None => break,
                },
            }
        }
    }

    /// Adds what a worker has counted just before `now`.
    pub fn take(&self, delta: Delta, now: Instant) {
        let (minute, step) = self.minute_and_step(now);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.deltas += 1;
        let Inner { services, bytes, deltas, .. } = &mut *inner;
        for (metrics, tally) in delta {
            let place = (metrics.app().clone(), metrics.version().cloned());
            let service = services.entry(place).or_default();
            let before = service.bytes;
            service.add(&tally, minute, step);
            service.touched = *deltas;
            *bytes = *bytes + service.bytes - before;
        }
        inner.bound(self.most_bytes);
    }

    /// Forgets what is too old to be asked for.
    pub fn expire(&self, now: Instant) {
        let (minute, _) = self.minute_and_step(now);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.services.values_mut().for_each(|service| service.expire(minute));
        inner.services.retain(|_, service| !service.minutes.is_empty());
        inner.bytes = inner.services.values().map(|service| service.bytes).sum();
    }

    /// Every service with traffic in the last `minutes` whole minutes and the one under way, of `app` or of
    /// all, at most `most`; and how far back that goes from `now`.
    pub fn periods(
        &self,
        app: Option<&AppId>,
        minutes: u32,
        most: usize,
        now: Instant,
    ) -> (Vec<Period>, Duration) {
        let (minute, step) = self.minute_and_step(now);
        let first = minute.saturating_sub(u64::from(minutes.min(MINUTES)));
        let reaches = now.saturating_duration_since(self.began + MINUTE * first as u32);
        let steps = (minute - first) as usize * STEPS + step + 1;
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = inner.services.iter().filter(|((id, _), _)| app.is_none_or(|app| app == id));
        let periods = asked.filter_map(|((app, version), service)| {
            let mut tally = Tally::default();
            let mut course = vec![Counts::default(); steps];
            for found in service.minutes.iter().filter(|found| (first..=minute).contains(&found.number)) {
                tally.merge(&found.tally);
                let offset = (found.number - first) as usize * STEPS;
                course.iter_mut().skip(offset).zip(&found.steps).for_each(|(own, step)| own.add(step));
            }
            let (app, version) = (app.clone(), version.clone());
            (tally.counts.requests > 0).then_some(Period { app, version, tally, course })
        });
        (periods.take(most).collect(), reaches)
    }

    pub fn status(&self) -> StoreStatus {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        StoreStatus { services: inner.services.len(), bytes: inner.bytes, forgotten: inner.forgotten }
    }

    fn minute_and_step(&self, now: Instant) -> (u64, usize) {
        let since = now.saturating_duration_since(self.began).as_secs();
        let minute = since / MINUTE.as_secs();
        (minute, (since % MINUTE.as_secs() / STEP.as_secs()) as usize)
    }
}

impl Inner {
    /// The longest silent go first.
    fn bound(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes {
            let least = self.services.iter().min_by_key(|(_, service)| service.touched);
            let Some(place) = least.map(|(place, _)| place.clone()) else { return };
            let gone = self.services.remove(&place);
            self.bytes -= gone.map_or(0, |service| service.bytes);
            self.forgotten += 1;
        }
    }
}

impl Service {
    /// What a service takes without its minutes: names, and its place in the tree.
    const BYTES: usize = 256;

    fn add(&mut self, tally: &Tally, minute: u64, step: usize) {
        if self.minutes.back().is_none_or(|last| last.number != minute) {
            let steps = [Counts::default(); STEPS];
            self.minutes.push_back(Minute { number: minute, steps, tally: Tally::default() });
        }
        if let Some(last) = self.minutes.back_mut() {
            last.steps[step].add(&tally.counts);
            last.tally.merge(tally);
        }
        self.expire(minute);
    }

    fn expire(&mut self, minute: u64) {
        self.minutes.retain(|found| found.number + u64::from(MINUTES) >= minute);
        let of = |minute: &Minute| size_of::<[Counts; STEPS]>() + minute.tally.bytes();
        self.bytes = Self::BYTES + self.minutes.iter().map(of).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use foldhash::quality::FixedState;

    use super::super::tally::Seen;
    use super::*;
    use crate::metrics::ServiceMetrics;

    fn service(name: &str) -> Arc<ServiceMetrics> {
        let version = VersionId::parse("v1").unwrap();
        Arc::new(ServiceMetrics::new(&AppId::parse(name).unwrap(), Some(&version), 1))
    }

    /// `requests` of different clients.
    fn tally(requests: u8) -> Tally {
        let mut tally = Tally::default();
        for number in 0..requests {
            let target = format!("/{number}");
            let seen = Seen {
                status: 503,
                has_failed: true,
                received_bytes: 1,
                sent_bytes: 2,
                took: Some(Duration::from_millis(3)),
                client: [192, 0, 2, number].into(),
                target: target.as_bytes(),
            };
            tally.count(&seen, &FixedState::with_seed(1));
        }
        tally
    }

    fn at(store: &Store, seconds: u64) -> Instant {
        store.began + Duration::from_secs(seconds)
    }

    #[test]
    fn a_period_is_the_whole_minutes_asked_for_and_the_one_under_way() {
        let store = Store::new(Instant::now(), 1 << 20);
        let shop = service("shop");
        for (seconds, requests) in [(5, 1), (65, 2), (75, 3), (125, 4)] {
            store.take(vec![(shop.clone(), tally(requests))], at(&store, seconds));
        }
        let ask = |minutes| {
            let (mut periods, reaches) = store.periods(None, minutes, 10, at(&store, 129));
            (periods.remove(0), reaches.as_secs())
        };
        let (period, reaches) = ask(1);
        assert_eq!((period.tally.counts.requests, reaches), (9, 69));
        let course: Vec<_> = period.course.iter().map(|counts| counts.requests).collect();
        assert_eq!(course, [2, 3, 0, 0, 0, 0, 4]);
        // The same clients in every minute.
        assert_eq!(period.tally.clients.estimate(), 4);
        let (period, reaches) = ask(2);
        assert_eq!((period.tally.counts.requests, reaches), (10, 129));
        assert_eq!(period.tally.counts.classes, [0, 0, 0, 0, 10]);
        assert_eq!(ask(10).1, 129);
        assert!(store.periods(Some(&AppId::parse("blog").unwrap()), 1, 10, at(&store, 129)).0.is_empty());
    }

    #[test]
    fn old_minutes_and_silent_services_are_forgotten() {
        let store = Store::new(Instant::now(), 1 << 20);
        store.take(vec![(service("shop"), tally(1))], at(&store, 0));
        store.expire(at(&store, 10 * 60 + 59));
        assert_eq!(store.status().services, 1);
        store.expire(at(&store, 11 * 60));
        assert_eq!(store.status(), StoreStatus { services: 0, bytes: 0, forgotten: 0 });
    }

    #[test]
    fn memory_is_bounded_and_the_longest_silent_go_first() {
        const MOST: usize = 200 << 10;
        let store = Store::new(Instant::now(), MOST);
        let names: Vec<_> = (0..200).map(|number| format!("app{number:03}")).collect();
        for name in &names {
            // The first one speaks all the time.
            let delta = vec![(service("app000"), tally(1)), (service(name), tally(50))];
            store.take(delta, at(&store, 1));
            assert!(store.status().bytes <= MOST);
        }
        let left: Vec<_> = store
            .periods(None, 1, 1_000, at(&store, 2))
            .0
            .iter()
            .map(|period| period.app.to_string())
            .collect();
        assert!(left.len() < 100 && left[0] == "app000", "{left:?}");
        assert_eq!(left[1..], names[names.len() - (left.len() - 1)..]);
        assert!(store.status().forgotten >= 100);
    }
}
