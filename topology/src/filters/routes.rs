//! Where requests go instead.

use std::sync::Arc;

use crate::{HostPattern, PathMatch};

/// Which paths of an app a filter is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Empty: all of them.
    pub paths: Vec<PathMatch>,
    /// Even where `paths` has them.
    pub except: Vec<PathMatch>,
}

/// The client is sent elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub from: PathMatch,
    /// `None`: whatever the host.
    pub host: Option<HostPattern>,
    /// An absolute path or an http(s) URI; after a prefix what is below it follows.
    pub to: Arc<str>,
    pub status: RedirectStatus,
    pub keep_query: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectStatus(pub u16);

/// What endpoints are asked for instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Taken off by whole segments, where it is there; begins with a slash and does not end with one.
    pub strip_prefix: Option<Arc<str>>,
    /// Put in front afterwards; begins with a slash and does not end with one.
    pub add_prefix: Option<Arc<str>>,
    /// Sent as Host.
    pub host: Option<Arc<str>>,
}

/// What is answered instead of asking an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    pub content_type: Arc<str>,
    pub body: Arc<str>,
}

impl Respond {
    pub const DEFAULT_TYPE: &str = "text/plain; charset=utf-8";
}
