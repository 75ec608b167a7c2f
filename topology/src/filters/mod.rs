//! What an app's owner wants done to requests and responses on their way. Each kind is there once or
//! not at all; in which order they act is the gateway's to say, and the same for every app.

mod access;
mod compression;
mod faults;
mod headers;
mod identity;
mod mirror;
mod pages;
mod routes;

use std::path::Path;
use std::sync::Arc;

use crate::AppId;

pub use access::{Addresses, RateKey, RateLimit};
pub use compression::{BadMediaPattern, Coding, Compression, CompressionLevel, MediaPattern};
pub use faults::Fault;
pub use headers::{Cors, HeaderEdits, HeaderValue, Piece, Variable};
pub use identity::{ApiKey, ApiKeyPlace, ApiKeys, BasicAuth, Claim, ForwardAuth, Jwks, Jwt, TokenPlace};
pub use mirror::{Mirror, MirrorTarget};
pub use pages::{ErrorPages, Maintenance};
pub use routes::{Redirect, RedirectStatus, Respond, Rewrite, Scope};

/// All that is set for one app; at least one of them is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    pub error_pages: Option<Arc<ErrorPages>>,
    pub addresses: Option<Addresses>,
    pub maintenance: Option<Maintenance>,
    /// Each with a name of its own.
    pub rate_limits: Vec<RateLimit>,
    pub cors: Option<Cors>,
    /// The first that fits decides.
    pub redirects: Vec<Redirect>,
    /// Of routes without an app only.
    pub respond: Option<Arc<Respond>>,
    pub api_keys: Option<ApiKeys>,
    pub basic_auth: Option<BasicAuth>,
    pub jwt: Option<Jwt>,
    pub forward_auth: Option<ForwardAuth>,
    pub rewrite: Option<Rewrite>,
    pub request_headers: Option<HeaderEdits>,
    pub response_headers: Option<HeaderEdits>,
    /// The first that hits a request decides.
    pub faults: Vec<Fault>,
    pub mirror: Option<Mirror>,
    /// Apps that may send copies here. Copies pass none of this app's filters, so without its owner's word
    /// there are none.
    pub mirrored_by: Vec<AppId>,
    /// Apps that may ask this one whether requests may pass. Their questions pass none of this app's filters.
    pub asked_by: Vec<AppId>,
    pub compression: Option<Compression>,
}

impl Filters {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Fields in which endpoints are told who the client is: nobody else may say it in them.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        let keys = self.api_keys.iter().map(|keys| &keys.consumer_header);
        let basic = self.basic_auth.iter().map(|basic| &basic.consumer_header);
        let jwt = self.jwt.iter().flat_map(|jwt| jwt.claims.iter().map(|claim| &claim.header));
        let forward = self.forward_auth.iter().flat_map(|forward| &forward.copy);
        keys.chain(basic).chain(jwt).chain(forward).map(|name| &**name)
    }
}

/// A file of this machine, read again when it changes.
pub type FilePath = Arc<Path>;
