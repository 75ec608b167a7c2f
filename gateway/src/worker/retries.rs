//! A budget for retries, per pool and worker, so that they never become the load that keeps an endpoint
//! down.

use std::cell::Cell;

/// A fifth of the requests may be tried again, as in linkerd2-proxy.
const DEPOSIT: u32 = 20;
const COST: u32 = 100;
/// Retries that may be made at once: endpoints that refuse are avoided for a second after each refusal, so
/// an app's every endpoint but one can be dead for minutes before this is used up.
const MOST: u32 = 100 * COST;

/// In hundredths of a retry.
#[derive(Debug)]
pub struct RetryBudget(Cell<u32>);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Cell::new(MOST))
    }
}

impl RetryBudget {
    pub fn deposit(&self) {
        self.0.set((self.0.get() + DEPOSIT).min(MOST));
    }

    /// Whether a retry may be made; it is then paid for.
    pub fn withdraw(&self) -> bool {
        let left = self.0.get().checked_sub(COST);
        self.0.set(left.unwrap_or(self.0.get()));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_within_a_fifth_of_the_requests() {
        let budget = RetryBudget::default();
        while budget.withdraw() {}
        let mut retries = 0;
        for _ in 0..1000 {
            budget.deposit();
            retries += u32::from(budget.withdraw());
        }
        assert_eq!(retries, 200);
    }
}
