//! Copies of requests, for versions that are to be tried without anybody depending on them.

use std::sync::Arc;

use crate::{AppId, VersionId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub to: MirrorTarget,
    /// Names of the app's matches; empty: whichever took the request, or none.
    pub matches: Vec<Arc<str>>,
    /// 1 to 100.
    pub percent: u8,
    /// Requests with longer bodies are not copied.
    pub max_body_bytes: u32,
    /// Copies that one worker has on their way at a time; further ones are left out.
    pub max_in_flight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorTarget {
    Version(VersionId),
    App(AppId),
}

impl Mirror {
    /// API calls and forms; whoever uploads files does not want them twice.
    pub const DEFAULT_MAX_BODY_BYTES: u32 = 64 << 10;
    /// With bodies of the default size 16 MiB per worker at the most.
    pub const DEFAULT_MAX_IN_FLIGHT: u32 = 256;
}
