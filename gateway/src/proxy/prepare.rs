//! From a request's head to the app that takes it and the head that goes upstream.

use std::time::Instant;

use super::client::Client;
use super::facts::{Facts, LogFacts, Refusal, Request};
use super::hops;
use crate::message::encode::{self, Hop};
use crate::message::{Malformed, Method, RequestHead, target};
use crate::reason::Reason;
use crate::table::Match;

/// `head` is complete.
pub fn prepare(client: &Client, head: &[u8], started: Instant) -> Result<Request, Box<Refusal>> {
    let worker = &client.worker;
    let id = worker.request_ids.next();
    let refuse_unread = |malformed: Malformed| {
        let facts = Facts::unknown(started, id, head.len());
        Box::new(Refusal { facts, reason: malformed.into(), detail: Some(malformed), app: None })
    };
    let parsed = RequestHead::parse(head).map_err(refuse_unread)?;
    let path = target::route_path(parsed.path_and_query.within(head)).map_err(refuse_unread)?;
    let hops = hops::left(&parsed, head).map_err(refuse_unread)?;
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
    let refuse = |facts, reason, app| Err(Box::new(Refusal { facts, reason, detail: None, app }));
    if parsed.method == Method::Connect {
        // What follows may be meant for the tunnel.
        let facts = Facts { keep_alive: false, ..facts };
        return refuse(facts, Reason::MethodNotSupported, None);
    }
    if hops == Some(0) {
        // We are its final recipient, and neither echo requests nor have options of our own.
        return refuse(facts, Reason::MethodNotSupported, None);
    }
    let host = topology::normalize_host(parsed.authority.within(head)).unwrap_or_default();
    let table = worker.table();
    let app = match table.find(&client.listener.name, &host, &path) {
        Match::App(app) => app.clone(),
        Match::UnknownHost => return refuse(facts, Reason::UnknownHost, None),
        Match::UnknownPath => return refuse(facts, Reason::UnknownPath, None),
    };
    if app.http.is_empty() {
        return refuse(facts, Reason::NoEndpoint, Some(app));
    }
    let hop = Hop {
        peer: client.peer.ip(),
        is_trusted: client.is_trusted,
        is_tls: client.listener.is_tls,
        local_authority: &client.listener.authority,
        pseudonym: &worker.shared.pseudonym,
        request_id: std::str::from_utf8(&facts.id).expect("hexadecimal digits"),
    };
    let mut upstream_head = Vec::with_capacity(head.len() + ADDED_BYTES);
    encode::request(&parsed, head, &hop, &mut upstream_head);
    if let Some(hops) = hops {
        hops::write(hops - 1, &mut upstream_head);
    }
    Ok(Request { table, app, upstream_head, facts })
}

/// What our fields add to a usual head, so that writing it allocates once.
const ADDED_BYTES: usize = 320;
