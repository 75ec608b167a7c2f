//! What filters may look at.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::time::Instant;

use crate::message::cookies::cookies;
use crate::message::target::is_ambiguous;
use crate::message::{Field, FieldKind, Names, RequestHead, forwarded};
use crate::worker::request_ids::RequestId;

/// Whether an address is one of `trusted_proxies`.
pub type Trusts<'a> = &'a dyn Fn(IpAddr) -> bool;

/// A request's head and where it came from.
pub struct Asked<'a> {
    pub request: &'a RequestHead,
    pub head: &'a [u8],
    /// Normalized, without the query.
    pub path: &'a [u8],
    /// Normalized.
    pub host: &'a str,
    /// Empty where none is known yet.
    pub app: &'a str,
    /// The name of the app's match that took it.
    pub taken_by: Option<&'a str>,
    pub id: &'a RequestId,
    /// When the request began.
    pub now: Instant,
    /// Which worker asks.
    pub worker: usize,
    pub is_tls: bool,
    pub peer: IpAddr,
    /// Only where the peer is trusted itself.
    pub trusts: Option<Trusts<'a>>,
    /// Fields in which only the gateway says who the client is, once it knows.
    pub told: &'a Names,
    pub found: Found,
}

/// What is found when it is first asked for.
#[derive(Debug, Default)]
pub struct Found {
    client: OnceCell<IpAddr>,
    has_ambiguous_path: OnceCell<bool>,
}

/// Something is there twice that may be there once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated;

impl Asked<'_> {
    /// Who asks: the peer, or whom trusted proxies name. IPv4 in IPv6's clothes counts as IPv4.
    pub fn client(&self) -> IpAddr {
        *self.found.client.get_or_init(|| {
            let named = self.trusts.and_then(|trusts| forwarded::client(self.request, self.head, trusts));
            named.unwrap_or(self.peer).to_canonical()
        })
    }

    /// Whether an endpoint may take the path for another one than we do.
    pub fn has_ambiguous_path(&self) -> bool {
        *self.found.has_ambiguous_path.get_or_init(|| is_ambiguous(self.raw_path()))
    }

    /// The values of a field as far as its word counts before anybody has proved who he is: what only a trusted
    /// proxy may say is not there when another one says it, and what only the gateway says never is.
    pub fn heeded<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> {
        let is_trusted = self.trusts.is_some();
        let is_heeded = move |field: &&Field| {
            let given = field.name.within(self.head);
            given.eq_ignore_ascii_case(name.as_bytes())
                && field.kind.is_heeded(is_trusted)
                && !self.told.contains(given)
        };
        self.request.fields.iter().filter(is_heeded).map(|field| field.value.within(self.head))
    }

    /// A field's first value, by a name that may have any case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let is_named = |given: &[u8]| given.eq_ignore_ascii_case(name.as_bytes());
        let mut fields = self.request.fields.iter().filter(|field| is_named(field.name.within(self.head)));
        fields.next().map(|field| field.value.within(self.head))
    }

    /// A field's value where it is there once, its name in any spelling that an endpoint may take for it.
    ///
    /// # Errors
    /// [`Repeated`]: what we verify and what an endpoint goes by could be two values.
    pub fn only_field(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let is_named = |given: &[u8]| given.iter().map(fold).eq(name.as_bytes().iter().map(fold));
        let mut fields = self.request.fields.iter().filter(|field| is_named(field.name.within(self.head)));
        let first = fields.next().map(|field| field.value.within(self.head));
        if fields.next().is_some() { Err(Repeated) } else { Ok(first) }
    }

    /// As [`Self::only_field`], of a cookie.
    ///
    /// # Errors
    /// [`Repeated`].
    pub fn only_cookie(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        let mut found =
            cookies(&self.request.fields, self.head).filter(|(found, _)| *found == name.as_bytes());
        let first = found.next().map(|(_, value)| value);
        if found.next().is_some() { Err(Repeated) } else { Ok(first) }
    }

    pub fn scheme(&self) -> &'static str {
        let told = || self.request.fields.first(FieldKind::XForwardedProto);
        let is_told = self.trusts.is_some()
            && told().is_some_and(|field| field.value.within(self.head).eq_ignore_ascii_case(b"https"));
        if self.is_tls || is_told { "https" } else { "http" }
    }

    /// As received, without the query.
    pub fn raw_path(&self) -> &[u8] {
        let target = self.request.path_and_query.within(self.head);
        memchr::memchr(b'?', target).map_or(target, |at| &target[..at])
    }

    /// With its question mark, as received; empty without one.
    pub fn query(&self) -> &[u8] {
        let target = self.request.path_and_query.within(self.head);
        memchr::memchr(b'?', target).map_or(&[], |at| &target[at..])
    }
}
