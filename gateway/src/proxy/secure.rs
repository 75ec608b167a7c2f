//! Where https and certificates decide over a request.

use super::admit::Approach;
use super::client::Origin;
use crate::config::HttpsConfig;
use crate::message::{FieldKind, RequestHead};
use crate::table::CompiledApp;

/// Where an ACME server looks for proof that the host is ours (RFC 8555 section 8.3): in clear text, since
/// there may be no certificate yet.
pub const ACME_CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// A client that verified us as one name asks for another, which other certificates prove. Clients that
/// named none are let through: nothing says what they verified.
pub fn is_misdirected(origin: &Origin, host: &str) -> bool {
    let (Some(tls), Some(server_name)) = (&origin.listener.tls, &origin.server_name) else { return false };
    !host.is_empty() && **server_name != *host && !tls.certificates().same_identity(server_name, host)
}

/// A request in clear text that is to come by https; a trusted proxy may have taken the TLS off.
pub fn wants_https(approach: Approach<'_>, app: &CompiledApp, parsed: &RequestHead, head: &[u8]) -> bool {
    if approach.is_tls || !(approach.https.redirect || app.spec.https_only) {
        return false;
    }
    let proto = || parsed.fields.first(FieldKind::XForwardedProto).map(|field| field.value.within(head));
    !(approach.is_trusted && proto().is_some_and(|proto| proto.eq_ignore_ascii_case(b"https")))
}

/// The same place by https. `host` is normalized and claimed by an app, so nobody is sent elsewhere.
pub fn https_location(host: &str, port: u16, parsed: &RequestHead, head: &[u8]) -> Option<Box<[u8]>> {
    if host.is_empty() {
        return None;
    }
    let mut location = format!("https://{host}").into_bytes();
    if port != HttpsConfig::DEFAULT_PORT {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    match parsed.path_and_query.within(head) {
        path @ [b'/', ..] => location.extend_from_slice(path),
        query @ [b'?', ..] => {
            location.push(b'/');
            location.extend_from_slice(query);
        }
        // "*" of OPTIONS: the server itself.
        _ => location.push(b'/'),
    }
    Some(location.into())
}
