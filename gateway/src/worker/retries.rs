//! A budget for retries, per pool and worker, so that they never become the load that keeps an endpoint
//! down: linkerd2-proxy's model. Within any window of time, retries are at the most a share of the window's
//! requests and a reserve.

use topology::RetryAllowance;

use super::deadlines::Ticks;

/// The window moves in so many steps.
const SLOTS: usize = 10;
/// What a retry costs, where a request pays in its share of it in percent.
const COST: i32 = 100;

/// Time is in ticks since the worker's start.
#[derive(Debug)]
pub struct RetryBudget {
    allowance: RetryAllowance,
    /// What was paid in less what was taken out, by when.
    slots: [i32; SLOTS],
    /// The present one.
    at: usize,
    /// When that is over.
    ends: u32,
    slot_ticks: u32,
    /// What may be taken out of every window without anything paid in.
    reserve: i64,
    share: i32,
}

impl RetryBudget {
    pub fn new(allowance: RetryAllowance, now: u32) -> Self {
        let slot_ticks = (Ticks::of(allowance.window).0 / SLOTS as u32).max(1);
        let seconds = allowance.window.as_millis() as i64 * i64::from(COST) / 1_000;
        Self {
            allowance,
            slots: [0; SLOTS],
            at: 0,
            ends: now + slot_ticks,
            slot_ticks,
            reserve: i64::from(allowance.min_per_second) * seconds,
            share: allowance.percent as i32,
        }
    }

    /// Begins anew where the app wants another budget.
    pub fn agree(&mut self, allowance: RetryAllowance, now: u32) {
        if self.allowance != allowance {
            *self = Self::new(allowance, now);
        }
    }

    /// A request pays in.
    pub fn deposit(&mut self, now: u32) {
        self.move_to(now);
        self.slots[self.at] = self.slots[self.at].saturating_add(self.share);
    }

    /// Whether a retry may be made; it is then paid for.
    pub fn withdraw(&mut self, now: u32) -> bool {
        self.move_to(now);
        let left = self.reserve + self.slots.iter().map(|slot| i64::from(*slot)).sum::<i64>();
        let is_covered = left >= i64::from(COST);
        if is_covered {
            self.slots[self.at] = self.slots[self.at].saturating_sub(COST);
        }
        is_covered
    }

    fn move_to(&mut self, now: u32) {
        if now < self.ends {
            return;
        }
        let passed = 1 + (now - self.ends) / self.slot_ticks;
        for _ in 0..passed.min(SLOTS as u32) {
            self.at = (self.at + 1) % SLOTS;
            self.slots[self.at] = 0;
        }
        self.ends += passed * self.slot_ticks;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn allowance(percent: u32, min_per_second: u32, seconds: u64) -> RetryAllowance {
        RetryAllowance { percent, min_per_second, window: Duration::from_secs(seconds) }
    }

    #[test]
    fn retries_stay_within_a_fifth_of_the_requests_and_a_hundred() {
        let mut budget = RetryBudget::new(RetryAllowance::DEFAULT, 0);
        let reserve = (0..).take_while(|_| budget.withdraw(0)).count();
        assert_eq!(reserve, 100);
        let retries = (0..1000).filter(|_| {
            budget.deposit(0);
            budget.withdraw(0)
        });
        assert_eq!(retries.count(), 200);
    }

    #[test]
    fn what_was_used_up_comes_back_with_time() {
        let mut budget = RetryBudget::new(allowance(0, 1, 10), 0);
        while budget.withdraw(0) {}
        assert!(!budget.withdraw(99));
        assert_eq!((0..).take_while(|_| budget.withdraw(100)).count(), 10);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Pass(u32),
        Requests(u32),
        Retries(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u32..40).prop_map(Step::Pass),
            Just(Step::Pass(10_000)),
            (0_u32..50).prop_map(Step::Requests),
            (0_u32..50).prop_map(Step::Retries),
        ]
    }

    proptest! {
        /// Against a list of everything that ever happened.
        #[test]
        fn retries_of_a_window_are_a_share_of_its_requests_and_the_reserve(
            steps in prop::collection::vec(step(), 1..60),
            percent in 0_u32..=100,
            least in 0_u32..5,
            seconds in 1_u64..20,
            start in 0_u32..100,
        ) {
            let mut budget = RetryBudget::new(allowance(percent, least, seconds), start);
            let slot = seconds as u32;
            let (mut now, mut requests, mut retries) = (start, Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Pass(ticks) => now += ticks,
                    Step::Requests(count) => (0..count).for_each(|_| {
                        budget.deposit(now);
                        requests.push((now - start) / slot);
                    }),
                    Step::Retries(count) => for _ in 0..count {
                        let first = ((now - start) / slot).saturating_sub(SLOTS as u32 - 1);
                        let recent = |events: &[u32]| {
                            events.iter().filter(|at| **at >= first).count() as u64
                        };
                        let allowed = recent(&requests) * u64::from(percent)
                            + 100 * u64::from(least) * seconds;
                        let is_allowed = (recent(&retries) + 1) * 100 <= allowed;
                        prop_assert_eq!(budget.withdraw(now), is_allowed);
                        if is_allowed {
                            retries.push((now - start) / slot);
                        }
                    },
                }
            }
        }
    }
}
