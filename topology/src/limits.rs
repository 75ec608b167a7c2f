//! What an app takes of its clients.

/// Stricter than what the listeners ask for: the smaller body and the higher rate hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppLimits {
    /// Of a request's body, in bytes.
    pub max_body: Option<u64>,
    /// In bytes per second, of a body that a client sends or takes.
    pub min_body_rate: Option<u32>,
}
