//! Fields that are changed, and what browsers are told about other origins.

use std::sync::Arc;
use std::time::Duration;

/// Changes to the fields of a head. Names are as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// In place of whatever was there.
    pub set: Vec<(Arc<str>, HeaderValue)>,
    /// Beside whatever was there.
    pub add: Vec<(Arc<str>, HeaderValue)>,
    pub remove: Vec<Arc<str>>,
}

/// Text with places for what is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValue(pub Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(Arc<str>),
    Variable(Variable),
}

/// Written in braces: `{client_ip}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The client's address, as far back as trusted proxies name it.
    ClientIp,
    RequestId,
    /// As asked for, in lower case and without a port.
    Host,
    /// As asked for, without the query.
    Path,
    /// `http` or `https`.
    Scheme,
    /// Whom a filter found the client to be; empty where none did.
    Consumer,
    App,
}

impl Variable {
    pub const ALL: [(&'static str, Self); 7] = [
        ("client_ip", Self::ClientIp),
        ("request_id", Self::RequestId),
        ("host", Self::Host),
        ("path", Self::Path),
        ("scheme", Self::Scheme),
        ("consumer", Self::Consumer),
        ("app", Self::App),
    ];
}

/// Cross-origin requests (the Fetch standard's "CORS protocol").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// `https://app.example.com`, `https://*.example.com`, or `*` alone.
    pub origins: Vec<Arc<str>>,
    pub methods: Vec<Arc<str>>,
    /// Request fields that scripts may set; `None`: those that they ask for.
    pub headers: Option<Vec<Arc<str>>>,
    /// Response fields that scripts may read.
    pub expose: Vec<Arc<str>>,
    pub credentials: bool,
    /// How long a browser may remember a preflight's answer.
    pub max_age: Duration,
}
