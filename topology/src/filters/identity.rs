//! Who the client is.

use std::sync::Arc;
use std::time::Duration;

use super::{FilePath, Scope};
use crate::AppId;

/// Clients show a secret that each of them has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    pub scope: Scope,
    pub place: ApiKeyPlace,
    pub keys: Vec<ApiKey>,
    /// `name sha256` per line, added to `keys`.
    pub file: Option<FilePath>,
    /// Tells endpoints whose key it was.
    pub consumer_header: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeyPlace {
    Header(Arc<str>),
    Query(Arc<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub name: Arc<str>,
    pub sha256: [u8; 32],
}

/// RFC 7617.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    pub scope: Scope,
    pub realm: Arc<str>,
    /// `name:hash` each, as htpasswd writes them.
    pub users: Vec<Arc<str>>,
    /// The same, a line each, added to `users`.
    pub file: Option<FilePath>,
    pub consumer_header: Arc<str>,
}

/// RFC 7519, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    pub scope: Scope,
    pub place: TokenPlace,
    pub keys: Jwks,
    /// `None`: whoever has a key.
    pub issuer: Option<Arc<str>>,
    /// The token must be for one of them; empty: for anybody.
    pub audience: Vec<Arc<str>>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// Claims that endpoints are told.
    pub claims: Vec<Claim>,
    /// The claim that names the client in the log.
    pub consumer_claim: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// `Authorization: Bearer`.
    Bearer,
    Header(Arc<str>),
    Cookie(Arc<str>),
}

/// Where the keys are (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    Inline(Arc<str>),
    File(FilePath),
    Url { url: Arc<str>, refresh: Duration },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub name: Arc<str>,
    pub header: Arc<str>,
}

/// Another app of the gateway says whether a request may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuth {
    pub scope: Scope,
    pub app: AppId,
    /// What that app is asked for.
    pub path: Arc<str>,
    pub timeout: Duration,
    /// Fields of its answer that endpoints are told.
    pub copy: Vec<Arc<str>>,
}
