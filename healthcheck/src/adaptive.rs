//! How many requests an endpoint bears at a time: more while it answers as fast as it can, fewer once it
//! queues. Additive increase and multiplicative decrease, as TCP's; pure, fed with one window after the
//! other.

use std::time::Duration;

use topology::Adaptive;

/// What an endpoint did in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    pub requests: u64,
    pub failures: u64,
    /// Of those that were answered.
    pub mean_latency: Duration,
    /// Whether the limit was reached, or nearly so. A limit that nobody meets says nothing of what lies
    /// beyond it.
    pub was_full: bool,
}

/// Below it a mean is noise.
const MIN_REQUESTS: u64 = 10;
/// Latency of twice what the endpoint can do means that every request waits for as long as it is served.
const TOLERANCE: f64 = 2.0;
/// One failure in ten is no accident.
const MAX_FAILURES: f64 = 0.1;
/// Gentler than TCP's half, since a window is many round trips.
const DECREASE: f64 = 0.8;
/// How fast a worse latency becomes the usual one, per window, once the limit is at its least: then the queue
/// is not ours, and an endpoint that became slower for good must not be held down for ever. At four windows
/// a second it doubles in some 17 s. While the limit is higher the best latency stays the measure, or a queue
/// that lasts would be taken for the endpoint's nature.
const DRIFT: f64 = 0.01;

/// One endpoint's limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveLimit {
    limit: f64,
    /// Seconds that an answer takes without a queue; 0 before the first window.
    base: f64,
}

impl AdaptiveLimit {
    /// From the least upwards, which takes seconds: an endpoint that queued from the beginning would have
    /// its latency with a queue taken for the one without.
    pub fn new(settings: &Adaptive) -> Self {
        Self { limit: f64::from(settings.min), base: 0.0 }
    }

    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Takes a window; returns the limit for the next one.
    pub fn observe(&mut self, window: &Window, settings: &Adaptive) -> u32 {
        if window.requests >= MIN_REQUESTS {
            self.adapt(window, f64::from(settings.min));
        }
        self.limit = self.limit.clamp(f64::from(settings.min), f64::from(settings.max));
        self.limit()
    }

    fn adapt(&mut self, window: &Window, least: f64) {
        let latency = window.mean_latency.as_secs_f64();
        let has_answers = window.requests > window.failures;
        let is_failing = window.failures as f64 > MAX_FAILURES * window.requests as f64;
        let is_queueing = has_answers && self.base > 0.0 && latency > TOLERANCE * self.base;
        if is_failing || is_queueing {
            self.limit *= DECREASE;
        } else if window.was_full {
            // Large limits would take minutes in steps of one.
            self.limit += self.limit.sqrt();
        }
        if has_answers {
            self.base = match self.base {
                unknown if unknown <= 0.0 => latency,
                base if latency < base => latency,
                base if self.limit <= least => base + DRIFT * base.min(latency - base),
                base => base,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RANGE: Adaptive = Adaptive { min: 4, max: 1000 };

    /// Serves `capacity` requests at a time in `service` each; the others queue inside it.
    struct Server {
        capacity: f64,
        service: f64,
        random: u64,
    }

    impl Server {
        /// A window in which as many requests are there as the limit lets in. `noise` of each mean.
        fn window(&mut self, limit: u32, noise: f64) -> Window {
            // An xorshift, so that a seed tells everything.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let dice = (self.random % 2001) as f64 / 1000.0 - 1.0;
            let latency = self.service * (f64::from(limit) / self.capacity).max(1.0) * (1.0 + noise * dice);
            let mean_latency = Duration::from_secs_f64(latency);
            Window { requests: 100, failures: 0, mean_latency, was_full: true }
        }
    }

    fn run(limit: &mut AdaptiveLimit, server: &mut Server, windows: usize, noise: f64) -> Vec<u32> {
        let step = |_| {
            let window = server.window(limit.limit(), noise);
            limit.observe(&window, &RANGE)
        };
        (0..windows).map(step).collect()
    }

    proptest! {
        /// Proptest prints the failing case, its seed with it.
        #[test]
        fn the_limit_finds_what_a_server_bears_and_follows_when_it_bears_less(
            capacity in 10.0..300.0_f64, service in 0.001..0.5_f64, noise in 0.0..0.2_f64, seed in 1u64..,
        ) {
            let mut server = Server { capacity, service, random: seed };
            let mut limit = AdaptiveLimit::new(&RANGE);
            run(&mut limit, &mut server, 100, noise);
            let settled = run(&mut limit, &mut server, 100, noise);
            let mean = |limits: &[u32]| limits.iter().map(|limit| f64::from(*limit)).sum::<f64>() / limits.len() as f64;
            prop_assert!(mean(&settled) > capacity * 0.8, "{} is too little for {}", mean(&settled), capacity);
            prop_assert!(mean(&settled) < capacity * 3.5, "{} is too much for {}", mean(&settled), capacity);
            // Half of the server is gone.
            server.capacity = capacity / 2.0;
            run(&mut limit, &mut server, 50, noise);
            let after = run(&mut limit, &mut server, 100, noise);
            prop_assert!(mean(&after) < 0.8 * mean(&settled), "{} after {}", mean(&after), mean(&settled));
        }

        #[test]
        fn whatever_happens_the_limit_stays_in_its_range(
            windows in proptest::collection::vec((0u64..200, 0u64..200, 0u64..10_000, any::<bool>()), 0..200),
            min in 1u32..50, more in 0u32..50,
        ) {
            let range = Adaptive { min, max: min + more };
            let mut limit = AdaptiveLimit::new(&range);
            for (requests, failures, millis, was_full) in windows {
                let failures = failures.min(requests);
                let mean_latency = Duration::from_millis(millis);
                let now = limit.observe(&Window { requests, failures, mean_latency, was_full }, &range);
                prop_assert!((range.min..=range.max).contains(&now));
            }
        }
    }

    #[test]
    fn failures_lower_it_and_idleness_leaves_it() {
        let mut limit = AdaptiveLimit::new(&RANGE);
        let idle = Window { requests: 100, mean_latency: Duration::from_millis(5), ..Window::default() };
        assert_eq!(limit.observe(&idle, &RANGE), RANGE.min);
        let full = Window { was_full: true, ..idle };
        let grown = (0..50).map(|_| limit.observe(&full, &RANGE)).max();
        assert!(grown > Some(100) && Some(limit.observe(&idle, &RANGE)) == grown, "{grown:?}");
        let failing = Window { failures: 50, ..idle };
        assert!(Some(limit.observe(&failing, &RANGE)) < grown);
        assert_eq!((0..50).map(|_| limit.observe(&failing, &RANGE)).min(), Some(RANGE.min));
        let few = Window { requests: 3, was_full: true, ..idle };
        assert_eq!(limit.observe(&few, &RANGE), RANGE.min);
    }

    #[test]
    fn an_endpoint_that_became_slower_for_good_is_not_held_down_for_ever() {
        let mut server = Server { capacity: 50.0, service: 0.01, random: 7 };
        let mut limit = AdaptiveLimit::new(&RANGE);
        run(&mut limit, &mut server, 100, 0.0);
        server.service = 0.1;
        run(&mut limit, &mut server, 20, 0.0);
        assert_eq!(limit.limit(), RANGE.min);
        let later = run(&mut limit, &mut server, 400, 0.0);
        assert!(later.iter().max() > Some(&40), "{:?}", later.iter().max());
    }
}
