//! When to probe: pure, with time and randomness as arguments.

use std::time::Duration;

use tokio::time::Instant;
use topology::HealthSettings;

/// Settings are validated where they are read; these bounds only keep a value that slipped through
/// from spinning a core or overflowing a clock.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_hours(24);
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_TIMEOUT: Duration = Duration::from_mins(10);

/// Every interval varies by a tenth either way, so that probes which started together drift apart and
/// gateways that share an endpoint do not meet there.
const JITTER: f64 = 0.1;

/// New endpoints that are probed at once, before the queue below begins: more than a rolling upgrade
/// of one app adds, few enough that their connects fit into one turn of the runtime.
const FIRST_BURST: u32 = 64;
/// Distance between first probes beyond the burst: 1,000 a second are what 5,000 endpoints cost at the
/// default interval for as long as they live, and make as many known within 5 s of a start.
const FIRST_SPACING: Duration = Duration::from_millis(1);

/// Of an endpoint that is up, or down.
pub(crate) fn interval(settings: &HealthSettings, is_up: bool) -> Duration {
    let interval = if is_up { settings.interval } else { settings.unhealthy_interval };
    interval.clamp(MIN_INTERVAL, MAX_INTERVAL)
}

pub(crate) fn timeout(settings: &HealthSettings) -> Duration {
    settings.timeout.clamp(MIN_TIMEOUT, MAX_TIMEOUT)
}

/// From the start of one probe to the start of the next.
pub(crate) fn jittered(interval: Duration, random: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.f64())
}

/// Spreads the first probes of endpoints that appear together (a start, a registry that came back), over
/// all apps. It is a leaky bucket: a lone new endpoint never waits.
///
/// It limits no concurrency: an endpoint has at most one probe under way, and how many there may be at once is far more than one
/// app's hanging endpoints come to.
#[derive(Debug)]
pub(crate) struct FirstProbes {
    /// When all first probes handed out so far would be done, at one per [`FIRST_SPACING`].
    drained: Instant,
}

impl FirstProbes {
    pub(crate) fn new(now: Instant) -> Self {
        Self { drained: now }
    }

    /// How long the first probe of an endpoint that appears now waits: never more than its `interval`.
    pub(crate) fn delay(&mut self, now: Instant, interval: Duration, random: &mut fastrand::Rng) -> Duration {
        let queued = self.drained.saturating_duration_since(now);
        let wait = queued.saturating_sub(FIRST_SPACING * FIRST_BURST);
        if wait >= interval {
            // So many that even their steady rate is above the queue's: spread them evenly, as their
            // later probes will be.
            return interval.mul_f64(random.f64());
        }
        self.drained = self.drained.max(now) + FIRST_SPACING;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    #[test]
    fn intervals_vary_by_a_tenth_and_average_out() {
        let mut random = fastrand::Rng::with_seed(7);
        let drawn: Vec<Duration> = (0..1000).map(|_| jittered(INTERVAL, &mut random)).collect();
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(*least >= INTERVAL.mul_f64(0.9) && *least < INTERVAL.mul_f64(0.92), "{least:?}");
        assert!(*most <= INTERVAL.mul_f64(1.1) && *most > INTERVAL.mul_f64(1.08), "{most:?}");
        let mean = drawn.iter().sum::<Duration>() / 1000;
        assert!(mean.abs_diff(INTERVAL) < INTERVAL / 50, "{mean:?}");
    }

    #[test]
    fn lone_endpoint_is_probed_at_once() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut first = FirstProbes::new(now);
        for second in 0..100 {
            let later = now + Duration::from_secs(second);
            assert_eq!(first.delay(later, INTERVAL, &mut random), Duration::ZERO);
        }
    }

    #[test]
    fn thousands_of_new_endpoints_are_spread_over_one_interval() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut first = FirstProbes::new(now);
        let mut delays: Vec<Duration> =
            (0..20_000).map(|_| first.delay(now, INTERVAL, &mut random)).collect();
        delays.sort();
        assert_eq!(delays.iter().filter(|delay| delay.is_zero()).count(), FIRST_BURST as usize + 1);
        assert!(*delays.last().unwrap() <= INTERVAL);
        let busiest = (0..50).map(|tenth| {
            let from = Duration::from_millis(tenth * 100);
            delays.iter().filter(|delay| (from..from + Duration::from_millis(100)).contains(delay)).count()
        });
        // 20,000 over 50 tenths are 400 each, and the burst falls into the first.
        assert!(busiest.max().unwrap() < 560);
    }

    #[test]
    fn queue_empties_with_time() {
        let now = Instant::now();
        let mut random = fastrand::Rng::with_seed(7);
        let mut first = FirstProbes::new(now);
        for _ in 0..1000 {
            first.delay(now, INTERVAL, &mut random);
        }
        assert!(first.delay(now, INTERVAL, &mut random) > Duration::from_millis(900));
        assert_eq!(first.delay(now + Duration::from_secs(1), INTERVAL, &mut random), Duration::ZERO);
    }

    #[test]
    fn settings_out_of_range_are_brought_into_it() {
        for (given, wanted, wanted_timeout) in
            [(Duration::ZERO, MIN_INTERVAL, MIN_TIMEOUT), (Duration::MAX, MAX_INTERVAL, MAX_TIMEOUT)]
        {
            let wild = HealthSettings {
                interval: given,
                unhealthy_interval: given,
                timeout: given,
                ..HealthSettings::default()
            };
            assert_eq!([true, false].map(|is_up| interval(&wild, is_up)), [wanted; 2]);
            assert_eq!(timeout(&wild), wanted_timeout);
        }
    }
}
