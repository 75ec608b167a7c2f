//! Does an endpoint serve worse than it should? What requests met decides, where probes see nothing.
//!
//! Pure but for two cells that requests read with one load each: [`Streak`], which workers count in, and
//! [`EjectionCell`], which the control plane alone writes. An ejection and a probe's verdict do not know
//! of each other: an endpoint takes traffic when neither says no.

mod cell;
mod compare;
mod ejections;
mod streak;

pub use cell::{EjectionCell, EjectionReport};
pub use compare::{Sample, Slow, Unsuccessful, find_slow, find_unsuccessful};
pub use ejections::Ejections;
pub use streak::{Fault, Streak};

/// What an endpoint was ejected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Requests in a row without an answer.
    Failures,
    /// Answers 502, 503 or 504 in a row.
    GatewayErrors,
    SuccessRate,
    Latency,
}

impl Cause {
    pub const ALL: [Self; 4] = [Self::Failures, Self::GatewayErrors, Self::SuccessRate, Self::Latency];

    /// The word in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::GatewayErrors => "gateway_errors",
            Self::SuccessRate => "success_rate",
            Self::Latency => "latency",
        }
    }
}

/// Whether one more endpoint of `total` may be taken out when `out` are already.
pub fn may_eject(total: usize, out: usize, max_percent: u8) -> bool {
    (out + 1) * 100 <= total * usize::from(max_percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_endpoints_may_be_out_and_the_only_one_never() {
        assert!(!may_eject(1, 0, 50));
        assert!(may_eject(2, 0, 50) && !may_eject(2, 1, 50));
        assert!(may_eject(3, 0, 50) && !may_eject(3, 1, 50));
        assert!(may_eject(10, 4, 50) && !may_eject(10, 5, 50));
        assert!(may_eject(1, 0, 100) && !may_eject(10, 0, 0));
    }
}
