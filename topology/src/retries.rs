//! Which failed attempts at a request are followed by another one, and how many of them.

use std::time::Duration;

/// What an attempt failed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryCause {
    /// No connection came about, so nothing was sent.
    ConnectFailed,
    /// The endpoint ended the connection or the stream before its response began.
    Reset,
    /// No response's head came in time.
    Timeout,
    Status500,
    Status502,
    Status503,
    Status504,
}

impl RetryCause {
    pub const ALL: [Self; 7] = [
        Self::ConnectFailed,
        Self::Reset,
        Self::Timeout,
        Self::Status500,
        Self::Status502,
        Self::Status503,
        Self::Status504,
    ];

    /// The word for it in `retries.on` and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status500 => "500",
            Self::Status502 => "502",
            Self::Status503 => "503",
            Self::Status504 => "504",
        }
    }

    /// Statuses by which an endpoint says that it failed, rather than the request.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            500 => Some(Self::Status500),
            502 => Some(Self::Status502),
            503 => Some(Self::Status503),
            504 => Some(Self::Status504),
            _ => None,
        }
    }
}

/// A set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryCauses(u8);

impl RetryCauses {
    pub const fn of(causes: &[RetryCause]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < causes.len() {
            set |= 1 << causes[at] as u8;
            at += 1;
        }
        Self(set)
    }

    pub const fn contains(self, cause: RetryCause) -> bool {
        self.0 & (1 << cause as u8) != 0
    }
}

/// When a request is sent to another endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Endpoints that one request is sent to at the most, the first one included.
    pub attempts: u8,
    pub on: RetryCauses,
    pub budget: RetryAllowance,
    /// `None`: the next endpoint is asked at once.
    pub backoff: Option<Backoff>,
}

impl Retries {
    /// Of an app that says nothing. Three endpoints: a third failure is the app's, not an endpoint's. Only
    /// what says nothing of the request itself is repeated.
    pub const DEFAULT: Self = Self {
        attempts: 3,
        on: RetryCauses::of(&[RetryCause::ConnectFailed, RetryCause::Reset]),
        budget: RetryAllowance::DEFAULT,
        backoff: None,
    };
}

/// How many retries a pool of endpoints may be sent by one worker within any window of `window`: a share
/// of the requests of that window, and some more for those who have few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAllowance {
    /// Retries per hundred requests.
    pub percent: u32,
    /// Retries per second that are allowed without any request.
    pub min_per_second: u32,
    pub window: Duration,
}

impl RetryAllowance {
    /// As linkerd2-proxy has it. The reserve, a hundred retries in ten seconds, lets an app of few requests
    /// lose all endpoints but one; a fifth more load is what an app that is failing can bear.
    pub const DEFAULT: Self = Self { percent: 20, min_per_second: 10, window: Duration::from_secs(10) };
}

/// How long a retry waits: a random part of a time that doubles with every one, up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_it_was_made_of() {
        for cause in RetryCause::ALL {
            let alone = RetryCauses::of(&[cause]);
            assert!(RetryCause::ALL.iter().all(|other| alone.contains(*other) == (*other == cause)));
            assert!(RetryCauses::of(&RetryCause::ALL).contains(cause));
            assert!(!RetryCauses::default().contains(cause));
        }
    }
}
