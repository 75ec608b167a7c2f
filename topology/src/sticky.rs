//! Sessions that stay with an endpoint: what the cookie that says so looks like.

use std::sync::Arc;
use std::time::Duration;

/// Settings of `sticky`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: Arc<str>,
    /// How long clients keep it, from the moment when it was set. `None`: until the browser is closed.
    pub max_age: Option<Duration>,
    /// Below which path clients send it. Default: [`Sticky::DEFAULT_PATH`].
    pub path: Arc<str>,
    pub same_site: SameSite,
    /// Whether it is sent by https only. `None`: where the client came by https.
    pub secure: Option<bool>,
}

/// RFC 6265bis section 5.6.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// With requests of the same site, and with visits from elsewhere: who follows a link comes back to its endpoint.
    #[default]
    Lax,
    Strict,
    /// With requests from pages of other sites, too.
    None,
}

impl SameSite {
    pub const ALL: [Self; 3] = [Self::Lax, Self::Strict, Self::None];

    /// The word for it in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lax => "lax",
            Self::Strict => "strict",
            Self::None => "none",
        }
    }

    /// The word for it in cookies.
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::Strict => "Strict",
            Self::None => "None",
        }
    }
}

impl Sticky {
    /// An app may have several paths, and a session belongs to all of them.
    pub const DEFAULT_PATH: &str = "/";
}
