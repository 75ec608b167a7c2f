//! What an app's traffic leaves in the access log.

use crate::Sample;

/// Without any, an app's every request leaves a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Of the requests that did not fail.
    pub sample: Sample,
    /// Whether those that failed leave a line whatever the sample.
    pub errors: bool,
}

impl LogSettings {
    /// `[log] enabled = false`.
    pub const OFF: Self = Self { sample: Sample::NONE, errors: false };
}
