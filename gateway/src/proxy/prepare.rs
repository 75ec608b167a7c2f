//! From a request's head to the app that takes it and the head that goes upstream.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Connection;
use super::record::LogFacts;
use crate::message::encode::{self, Hop};
use crate::message::{Framing, Malformed, Method, RequestHead, Version, target};
use crate::reason::Reason;
use crate::table::{CompiledApp, Match};
use crate::worker::TableHandle;
use crate::worker::request_ids::RequestId;

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    /// The one table that this request reads, from its first byte to its log line.
    pub table: Rc<TableHandle>,
    pub app: Arc<CompiledApp>,
    pub upstream_head: Vec<u8>,
    pub facts: Facts,
}

/// What is known of a request, whatever becomes of it.
#[derive(Debug)]
pub struct Facts {
    pub started: Instant,
    pub method: Method,
    pub version: Version,
    pub framing: Framing,
    pub keep_alive: bool,
    /// The client waits with its body for a 100.
    pub expects_continue: bool,
    pub head_bytes: usize,
    pub id: RequestId,
    /// Only where there is an access log.
    pub log: Option<Box<LogFacts>>,
}

impl Facts {
    /// Of a request that could not be understood.
    pub fn unknown(started: Instant, id: RequestId, head_bytes: usize) -> Self {
        Self {
            started,
            method: Method::Other,
            version: Version::Http11,
            framing: Framing::None,
            keep_alive: false,
            expects_continue: false,
            head_bytes,
            id,
            log: None,
        }
    }

    /// Whether bytes follow the head that somebody has to read.
    pub fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }
}

/// A request that goes nowhere.
#[derive(Debug)]
pub struct Refusal {
    pub facts: Facts,
    pub reason: Reason,
    /// Says more than the reason; shown to the client.
    pub detail: Option<Malformed>,
    pub app: Option<Arc<CompiledApp>>,
}

/// `head` is complete.
pub fn prepare(connection: &Connection, head: &[u8], started: Instant) -> Result<Request, Box<Refusal>> {
    let worker = &connection.worker;
    let id = worker.request_ids.next();
    let refuse_unread = |malformed: Malformed| {
        let facts = Facts::unknown(started, id, head.len());
        Box::new(Refusal { facts, reason: reason_of(malformed), detail: Some(malformed), app: None })
    };
    let parsed = RequestHead::parse(head).map_err(refuse_unread)?;
    let path = target::route_path(parsed.path_and_query.within(head)).map_err(refuse_unread)?;
    let facts = Facts {
        started,
        method: parsed.method,
        version: parsed.version,
        framing: parsed.framing,
        keep_alive: parsed.keep_alive && !worker.is_draining(),
        expects_continue: parsed.expects_continue,
        head_bytes: head.len(),
        id,
        log: worker.log.is_on().then(|| Box::new(LogFacts::of(&parsed, head, connection.is_trusted))),
    };
    let refuse = |facts, reason, app| Err(Box::new(Refusal { facts, reason, detail: None, app }));
    if parsed.method == Method::Connect {
        return refuse(facts, Reason::MethodNotSupported, None);
    }
    let host = topology::normalize_host(parsed.authority.within(head)).unwrap_or_default();
    let table = worker.table();
    let app = match table.find(&connection.listener.name, &host, &path) {
        Match::App(app) => app.clone(),
        Match::UnknownHost => return refuse(facts, Reason::UnknownHost, None),
        Match::UnknownPath => return refuse(facts, Reason::UnknownPath, None),
    };
    if app.http.is_empty() {
        return refuse(facts, Reason::NoEndpoint, Some(app));
    }
    let hop = Hop {
        peer: connection.peer.ip(),
        is_trusted: connection.is_trusted,
        is_tls: connection.listener.is_tls,
        local_authority: &connection.listener.authority,
        pseudonym: &worker.shared.pseudonym,
        request_id: std::str::from_utf8(&facts.id).expect("hexadecimal digits"),
    };
    let mut upstream_head = Vec::with_capacity(head.len() + ADDED_BYTES);
    encode::request(&parsed, head, &hop, &mut upstream_head);
    Ok(Request { table, app, upstream_head, facts })
}

/// What our fields add to a usual head, so that writing it allocates once.
const ADDED_BYTES: usize = 320;

/// One place says what a client is told about a message that breaks a rule.
pub fn reason_of(malformed: Malformed) -> Reason {
    match malformed {
        Malformed::TooManyFields | Malformed::HeadTooLong => Reason::HeadTooLarge,
        Malformed::TargetTooLong => Reason::UriTooLong,
        Malformed::Version => Reason::VersionNotSupported,
        Malformed::UnknownCoding => Reason::CodingNotSupported,
        Malformed::Expectation => Reason::ExpectationFailed,
        Malformed::Chunk | Malformed::Trailer => Reason::BadBody,
        _ => Reason::BadRequest,
    }
}
