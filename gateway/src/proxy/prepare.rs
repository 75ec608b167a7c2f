//! From a request's head to the app that takes it and the head that goes upstream.

use std::time::Instant;

use super::client::Client;
use super::facts::{Facts, LogFacts, Refusal, Request};
use crate::config::HttpsConfig;
use crate::message::encode::{self, Hop};
use crate::message::{FieldKind, Malformed, Method, RequestHead, target};
use crate::reason::Reason;
use crate::table::{CompiledApp, Match, Upstream};

/// `head` is complete.
pub fn prepare(client: &Client, head: &[u8], started: Instant) -> Result<Request, Box<Refusal>> {
    let worker = &client.worker;
    let id = worker.request_ids.next();
    let refuse_unread = |malformed: Malformed| {
        let facts = Facts::unknown(started, id, head.len());
        Box::new(Refusal {
            facts,
            reason: malformed.into(),
            detail: Some(malformed),
            app: None,
            location: None,
        })
    };
    let parsed = RequestHead::parse(head).map_err(refuse_unread)?;
    let path = target::route_path(parsed.path_and_query.within(head)).map_err(refuse_unread)?;
    let trusts = |address| worker.shared.is_trusted(address);
    let facts = Facts {
        started,
        method: parsed.method,
        version: parsed.version,
        framing: parsed.framing,
        keep_alive: parsed.keep_alive && !worker.is_draining(),
        is_last: !parsed.keep_alive,
        expects_continue: parsed.expects_continue,
        head_bytes: head.len(),
        id,
        log: worker
            .log
            .is_on()
            .then(|| Box::new(LogFacts::of(&parsed, head, client.is_trusted.then_some(&trusts)))),
    };
    let refuse =
        |facts, reason, app| Err(Box::new(Refusal { facts, reason, detail: None, app, location: None }));
    if parsed.method == Method::Connect {
        // What follows may be meant for the tunnel.
        let facts = Facts { keep_alive: false, ..facts };
        return refuse(facts, Reason::MethodNotSupported, None);
    }
    let host = topology::normalize_host(parsed.authority.within(head)).unwrap_or_default();
    if is_misdirected(client, &host) {
        return refuse(facts, Reason::MisdirectedRequest, None);
    }
    let table = worker.table();
    let app = match table.find(&client.listener.name, &host, &path) {
        Match::App(app) => app.clone(),
        Match::UnknownHost => return refuse(facts, Reason::UnknownHost, None),
        Match::UnknownPath => return refuse(facts, Reason::UnknownPath, None),
    };
    if wants_https(client, &app, &parsed, head) && !path.starts_with(ACME_CHALLENGES) {
        // Without a host there is no place to send the client to.
        let Some(location) = https_location(&host, client.listener.https.port, &parsed, head) else {
            return refuse(facts, Reason::UnknownHost, Some(app));
        };
        let (reason, location) = (Reason::HttpsRequired, Some(location));
        return Err(Box::new(Refusal { facts, reason, detail: None, app: Some(app), location }));
    }
    if app.spec.requires_client_certificate && client.identity.is_none() {
        return refuse(facts, Reason::ClientCertificateRequired, Some(app));
    }
    match app.upstream {
        Upstream::Plain => {}
        Upstream::Unknown => return refuse(facts, Reason::UpstreamTlsUnknown, Some(app)),
        // Endpoints are dialled in clear text only, and that is no substitute.
        Upstream::Tls(_) => return refuse(facts, Reason::UpstreamTlsFailed, Some(app)),
    }
    if app.http.is_empty() {
        return refuse(facts, Reason::NoEndpoint, Some(app));
    }
    let hop = Hop {
        peer: client.peer.ip(),
        is_trusted: client.is_trusted,
        is_tls: client.listener.is_tls(),
        local_authority: &client.listener.authority,
        pseudonym: &worker.shared.pseudonym,
        request_id: std::str::from_utf8(&facts.id).expect("hexadecimal digits"),
    };
    let mut upstream_head = Vec::with_capacity(head.len() + ADDED_BYTES);
    encode::request(&parsed, head, &hop, &mut upstream_head);
    Ok(Request { table, app, upstream_head, facts })
}

/// What our fields add to a usual head, so that writing it allocates once.
const ADDED_BYTES: usize = 320;

/// Where an ACME server looks for proof that the host is ours (RFC 8555 section 8.3): in clear text, since
/// there may be no certificate yet.
const ACME_CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// A client that verified us as one name asks for another, which other certificates prove. Clients that
/// named none are let through: nothing says what they verified.
fn is_misdirected(client: &Client, host: &str) -> bool {
    let (Some(tls), Some(server_name)) = (&client.listener.tls, &client.server_name) else { return false };
    !host.is_empty() && **server_name != *host && !tls.certificates().same_identity(server_name, host)
}

/// A request in clear text that is to come by https; a trusted proxy may have taken the TLS off.
fn wants_https(client: &Client, app: &CompiledApp, parsed: &RequestHead, head: &[u8]) -> bool {
    if client.listener.is_tls() || !(client.listener.https.redirect || app.spec.https_only) {
        return false;
    }
    let proto = || parsed.fields.first(FieldKind::XForwardedProto).map(|field| field.value.within(head));
    !(client.is_trusted && proto().is_some_and(|proto| proto.eq_ignore_ascii_case(b"https")))
}

/// The same place by https. `host` is normalized and claimed by an app, so nobody is sent elsewhere.
fn https_location(host: &str, port: u16, parsed: &RequestHead, head: &[u8]) -> Option<Box<[u8]>> {
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
