//! What clients are told where no endpoint answers, and an app that is closed for a while.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

/// Answers of the gateway itself as pages for people and as JSON for programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Who is speaking; plain text.
    pub title: Option<Arc<str>>,
    /// What is said beside the status, whichever it is; plain text.
    pub text: Option<Arc<str>>,
    /// Instead of `text`, by status; ordered by it.
    pub texts: Vec<(u16, Arc<str>)>,
}

impl ErrorPages {
    pub fn text_of(&self, status: u16) -> Option<&str> {
        let own = self.texts.binary_search_by_key(&status, |(status, _)| *status);
        own.ok().map(|at| &*self.texts[at].1).or(self.text.as_deref())
    }
}

/// The app is closed, but for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    pub enabled: bool,
    /// Clients that get through.
    pub allow: Vec<IpNet>,
    /// When others are to ask again.
    pub retry_after: Duration,
    /// What they are told; plain text.
    pub text: Option<Arc<str>>,
}

impl Maintenance {
    /// Long enough that waiting clients are no load, short enough that they notice the end.
    pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(60);
}
