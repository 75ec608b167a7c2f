//! The generic cell rate algorithm (ITU-T I.371): one number per client says when it will have asked for
//! nothing again, and a request moves that by its share of the period.

/// Nanoseconds throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Between two requests at the steady rate.
    interval: u64,
    burst: u64,
}

/// What is left, or how long to wait; nanoseconds.
pub type Verdict = Result<Left, u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub requests: u64,
    /// Until all of the burst may be asked for again.
    pub full_in: u64,
}

impl Gcra {
    /// `requests` per `period`, and `burst` of them at once.
    pub fn new(requests: u32, period: u64, burst: u32) -> Self {
        Self { interval: (period / u64::from(requests)).max(1), burst: u64::from(burst) }
    }

    /// What is to be said at `now` of a client whose next `arrival` is due then; and when it is due
    /// afterwards, if it passes.
    pub fn decide(&self, arrival: u64, now: u64) -> (Verdict, Option<u64>) {
        let room = self.interval.saturating_mul(self.burst);
        let next = arrival.max(now).saturating_add(self.interval);
        let used = next - now;
        if used > room {
            return (Err(used - room), None);
        }
        let left = Left { requests: (room - used) / self.interval, full_in: used };
        (Ok(left), Some(next))
    }

    /// How long the whole burst takes to come back.
    pub fn window(&self) -> u64 {
        self.interval.saturating_mul(self.burst)
    }

    pub fn burst(&self) -> u64 {
        self.burst
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let gcra = Gcra::new(10, SECOND, 3);
        let mut arrival = 0;
        let mut take = |now: u64| {
            let (verdict, next) = gcra.decide(arrival, now);
            arrival = next.unwrap_or(arrival);
            verdict.map(|left| left.requests)
        };
        assert_eq!([take(SECOND), take(SECOND), take(SECOND)], [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(take(SECOND), Err(SECOND / 10));
        assert_eq!(take(SECOND + SECOND / 10), Ok(0));
        assert_eq!(take(3 * SECOND), Ok(2));
    }

    proptest! {
        #[test]
        fn no_span_of_time_has_more_than_its_share(
            requests in 1u32..1_000,
            burst in 1u32..100,
            pauses in prop::collection::vec(0u64..20_000_000, 1..400),
        ) {
            let gcra = Gcra::new(requests, SECOND, burst);
            let (mut arrival, mut now) = (0, SECOND);
            let mut passed = Vec::new();
            for pause in pauses {
                now += pause;
                let (verdict, next) = gcra.decide(arrival, now);
                match next {
                    Some(next) => {
                        arrival = next;
                        passed.push(now);
                    }
                    // What is said about the wait is exact.
                    None => {
                        let wait = verdict.unwrap_err();
                        prop_assert!(gcra.decide(arrival, now + wait).0.is_ok());
                        prop_assert!(gcra.decide(arrival, now + wait - 1).0.is_err());
                    }
                }
            }
            for (at, first) in passed.iter().enumerate() {
                for (count, last) in passed[at..].iter().enumerate() {
                    let share = u64::from(burst) + (last - first) / (SECOND / u64::from(requests));
                    prop_assert!((count as u64) < share, "{} within {}", count + 1, last - first);
                }
            }
        }
    }
}
