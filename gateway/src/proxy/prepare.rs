//! From a request's head to the app that takes it and the head that goes upstream.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use topology::AppId;
use topology::filters::MirrorTarget;

use super::admit::{admit, lacks, unfit};
use super::client::Client;
use super::facts::{BodyLimits, Facts, Heads, LogFacts, Refusal, Request};
use super::mirror::{self, Copy};
use super::patience::Patience;
use super::screen::Undecided;
use super::secure::is_misdirected;
use super::sticky::Returning;
use super::{hops, screen};
use crate::access_log::Logging;
use crate::filter::{Changes, Filters, Step};
use crate::listener::tls::ClientIdentity;
use crate::message::encode::{self, Hop, TraceHop};
use crate::message::{FieldKind, Malformed, Method, NO_NAMES, RequestHead, Version, http2, target};
use crate::reason::Reason;
use crate::table::{CompiledApp, Match};
use crate::worker::{Step as LoadStep, TableHandle};

/// `head` is a complete head of HTTP/1.1.
pub fn prepare<W>(client: &Client<W>, head: &[u8], started: Instant) -> Result<Box<Request>, Box<Refusal>> {
    match RequestHead::parse_within(head, client.origin.listener.limits.head) {
        Ok(parsed) => route(client, &parsed, head, head.len(), started),
        Err(malformed) => Err(unread(client, malformed, head.len(), started)),
    }
}

/// `head` came in an HTTP/2 frame; what it held there is not known, so what is counted is what it says.
pub fn prepare_http2<W>(
    client: &Client<W>,
    head: &::http::request::Parts,
    has_body: bool,
    started: Instant,
) -> Result<Box<Request>, Box<Refusal>> {
    match http2::read_request_within(head, has_body, client.origin.listener.limits.head) {
        Ok((bytes, parsed)) => route(client, &parsed, &bytes, bytes.len(), started),
        Err(malformed) => Err(unread(client, malformed, 0, started)),
    }
}

fn unread<W>(client: &Client<W>, malformed: Malformed, bytes: usize, started: Instant) -> Box<Refusal> {
    let facts = Facts::unknown(started, client.worker.request_ids.next(), bytes);
    Box::new(Refusal { facts, reason: malformed.into(), detail: Some(malformed), app: None, location: None })
}

fn route<W>(
    client: &Client<W>,
    parsed: &RequestHead,
    head: &[u8],
    head_bytes: usize,
    started: Instant,
) -> Result<Box<Request>, Box<Refusal>> {
    let worker = &client.worker;
    let path = target::route_path(parsed.path_and_query.within(head));
    let path = path.map_err(|malformed| unread(client, malformed, head_bytes, started))?;
    let hops = hops::left(parsed, head);
    let hops = hops.map_err(|malformed| unread(client, malformed, head_bytes, started))?;
    let host = topology::normalize_host(parsed.authority.within(head)).unwrap_or_default();
    let table = worker.table();
    let found = table.find(&client.origin.listener.name, &host, &path);
    let mut facts = facts(client, parsed, head, head_bytes, started);
    tell(client, parsed, head, found.app().map(|app| &**app), &mut facts);
    let refuse =
        |facts, reason, app| Err(Box::new(Refusal { facts, reason, detail: None, app, location: None }));
    if worker.gives_up(LoadStep::Requests) {
        // Behind a CONNECT what follows may be meant for the tunnel.
        let keep_alive = facts.keep_alive && parsed.method != Method::Connect;
        return refuse(Facts { keep_alive, ..facts }, Reason::Overload, None);
    }
    if is_misdirected(&client.origin, &host) {
        return refuse(facts, Reason::MisdirectedRequest, None);
    }
    let mut changes = None;
    if let Some(limits) = &worker.shared.rate_limits
        && let Err(reason) = screen::limit(
            client,
            (limits, found.app().map(|app| &**app)),
            (parsed, head),
            (&host, &path),
            &facts,
            &mut changes,
        )
    {
        facts.filtered = screen::filtered(changes, None);
        return refuse(facts, reason, None);
    }
    if let Some(reason) = unfit(parsed, hops, &found) {
        // Behind a CONNECT what follows may be meant for the tunnel.
        let keep_alive = facts.keep_alive && parsed.method != Method::Connect;
        return refuse(Facts { keep_alive, ..facts }, reason, None);
    }
    let app = match found {
        Match::App(app) => app.clone(),
        Match::UnknownHost => return refuse(facts, Reason::UnknownHost, None),
        Match::UnknownPath => return refuse(facts, Reason::UnknownPath, None),
    };
    pass(client, (table, app), (parsed, head), (&host, &path), (facts, hops), changes)
}

/// A request whose app is known: which of the app's matches takes it, what its filters say, and what its
/// endpoints are sent.
fn pass<W>(
    client: &Client<W>,
    (table, app): (Rc<TableHandle>, Arc<CompiledApp>),
    (parsed, head): (&RequestHead, &[u8]),
    (host, path): (&str, &[u8]),
    (mut facts, hops): (Facts, Option<u64>),
    mut changes: Option<Box<Changes>>,
) -> Result<Box<Request>, Box<Refusal>> {
    let refuse = |facts, (reason, location), app| {
        Err(Box::new(Refusal { facts, reason, detail: None, app: Some(app), location }))
    };
    let taken = app.matches.as_deref().and_then(|matches| {
        screen::taken_by(client, (&app, matches), (parsed, head), (host, path), &mut facts)
    });
    if let Err(denied) = admit(client.origin.approach(), &app, taken, parsed, head, (host, path)) {
        screen::dress(&app, (parsed, head), &mut changes);
        facts.filtered = screen::filtered(changes, app.filters.as_ref());
        return refuse(facts, denied, app);
    }
    let heads = Heads::default();
    let mut request =
        Box::new(Request { table, app, taken, key: None, heads, facts, undecided: None, copy: None });
    if let Some(filters) = request.app.filters.clone() {
        let chain = (&*request.app, &*filters, taken);
        let (head, place) = ((parsed, head), (host, path));
        match screen::decide(client, chain, head, place, &request.facts, &mut changes) {
            Step::Passed => {}
            Step::Refused(reason) => return Err(screen::refused(request, changes, reason)),
            Step::Waits(at) => {
                request.undecided = Some(Undecided::new(head, place, hops, changes, at));
                return Ok(request);
            }
        }
    }
    set_out(client, request, parsed, head, hops, changes)
}

/// A request that nothing stands in the way of any more but what its app lacks.
#[inline]
pub(super) fn set_out<W>(
    client: &Client<W>,
    mut request: Box<Request>,
    parsed: &RequestHead,
    head: &[u8],
    hops: Option<u64>,
    changes: Option<Box<Changes>>,
) -> Result<Box<Request>, Box<Refusal>> {
    let Request { app, facts, taken, .. } = &mut *request;
    facts.body = BodyLimits::of(&client.origin.listener.limits, app.spec.limits.as_deref(), facts.is_grpc);
    if let Some(reason) = lacks(app, *taken, parsed, head, facts.body.max) {
        return Err(screen::refused(request, changes, reason));
    }
    facts.patience = match app.spec.timeouts.as_deref() {
        said if facts.is_grpc => Patience::of_grpc(said, grpc_deadline(parsed, head)),
        said => Patience::of(said),
    };
    let Request { app, facts, table, .. } = &*request;
    let filters = app.filters.as_deref();
    let heads = heads(client, app, filters, (parsed, head), facts, hops, changes.as_deref());
    let is_mirrored = changes.as_ref().is_some_and(|changes| changes.is_mirrored);
    let copy =
        if is_mirrored { copy(client, table, app, (parsed, head), facts, changes.as_deref()) } else { None };
    let key = screen::key(client, app, (parsed, head), facts);
    (request.heads, request.copy, request.key) = (heads, copy, key);
    request.facts.filtered = screen::filtered(changes, request.app.filters.as_ref());
    request.facts.returning = Returning::of(&client.origin, &request.app, (parsed, head));
    Ok(request)
}

/// The copy of a request that goes elsewhere.
fn copy<W>(
    client: &Client<W>,
    table: &Rc<TableHandle>,
    app: &Arc<CompiledApp>,
    (parsed, head): (&RequestHead, &[u8]),
    facts: &Facts,
    changes: Option<&Changes>,
) -> Option<Box<Copy>> {
    let mirror = app.filters.as_ref()?.mirror()?;
    let to = match &mirror.settings.to {
        MirrorTarget::Version(_) => app,
        MirrorTarget::App(id) => table.app(id).filter(|to| takes_copies(to, &app.id))?,
    };
    let key = screen::key(client, to, (parsed, head), facts);
    Copy::begin(client, mirror, (to, key), table, facts, |to| {
        let mut heads = heads(client, to, app.filters.as_deref(), (parsed, head), facts, None, changes);
        mirror::mark(&mut heads);
        heads
    })
}

/// Whether the owner of `app` lets `from` send copies, which pass none of its filters.
fn takes_copies(app: &CompiledApp, from: &AppId) -> bool {
    app.spec.filters.as_ref().is_some_and(|filters| filters.mirrored_by.contains(from))
}

fn facts<W>(
    client: &Client<W>,
    parsed: &RequestHead,
    head: &[u8],
    head_bytes: usize,
    started: Instant,
) -> Facts {
    let worker = &client.worker;
    Facts {
        started,
        method: parsed.method,
        version: parsed.version,
        framing: parsed.framing,
        // HTTP/2's connections are kept by what they do, not by what a message says.
        keep_alive: parsed.keep_alive
            && !client.is_draining()
            && (parsed.version == Version::Http2 || !worker.gives_up(LoadStep::Keepalive)),
        is_last: !parsed.keep_alive,
        expects_continue: parsed.expects_continue,
        upgrade: parsed.upgrade.map(|protocol| protocol.within(head).into()),
        accept: parsed.upgrade.and_then(|_| http2::websocket_accept(parsed, head)),
        is_grpc: is_grpc(parsed, head),
        patience: Patience::DEFAULT,
        body: BodyLimits::default(),
        head_bytes,
        id: worker.request_ids.next(),
        filtered: None,
        returning: None,
        logging: Logging::Never,
        is_counted: false,
        trace: None,
        log: None,
    }
}

/// Who will be told of the request, and what would be gone with the head by then.
fn tell<W>(
    client: &Client<W>,
    parsed: &RequestHead,
    head: &[u8],
    app: Option<&CompiledApp>,
    facts: &mut Facts,
) {
    let worker = &client.worker;
    facts.logging = worker.log.choose(app.and_then(|app| app.spec.log.as_deref()));
    facts.is_counted = app.is_some_and(|app| app.is_counted);
    if let Some(tracing) = &worker.tracing {
        facts.trace = Some(tracing.begin(parsed, head, client.origin.is_trusted));
    }
    let is_traced = facts.trace.as_ref().is_some_and(|trace| trace.is_sampled);
    if facts.logging != Logging::Never || facts.is_counted || is_traced {
        let mut log = log_facts(client, parsed, head);
        if app.and_then(|app| app.filters.as_ref()).is_some_and(|filters| filters.hides_query) {
            log.hide_query();
        }
        facts.log = Some(log);
    }
}

fn log_facts<W>(client: &Client<W>, parsed: &RequestHead, head: &[u8]) -> Box<LogFacts> {
    let trusts = |address| client.worker.shared.is_trusted(address);
    Box::new(LogFacts::of(parsed, head, client.origin.is_trusted.then_some(&trusts)))
}

/// What endpoints of `app` are sent, in the versions that they speak; `filters` are those that had `changes`
/// made.
pub(super) fn heads<W>(
    client: &Client<W>,
    app: &CompiledApp,
    filters: Option<&Filters>,
    (parsed, head): (&RequestHead, &[u8]),
    facts: &Facts,
    hops: Option<u64>,
    changes: Option<&Changes>,
) -> Heads {
    let strips = filters.map_or(&NO_NAMES, |filters| &filters.request_strips);
    let edits = changes.map(|changes| changes.request_edits(strips));
    let hop = Hop {
        peer: client.origin.peer.ip(),
        is_trusted: client.origin.is_trusted,
        is_tls: client.origin.listener.is_tls(),
        local_authority: &client.origin.listener.authority,
        pseudonym: &client.worker.shared.pseudonym,
        request_id: std::str::from_utf8(&facts.id).expect("hexadecimal digits"),
        identity: client.origin.identity.as_ref().map(ClientIdentity::lines),
        trace: facts
            .trace
            .as_deref()
            .map(|trace| TraceHop { traceparent: trace.traceparent(), keeps_state: trace.keeps_state }),
        edits: edits.as_ref(),
    };
    let mut heads = Heads::default();
    if app.speaks_http1 {
        let added = edits.as_ref().map_or(0, |edits| edits.added.len());
        heads.http1 = Vec::with_capacity(head.len() + added + ADDED_BYTES);
        encode::request(parsed, head, &hop, &mut heads.http1);
        if let Some(hops) = hops {
            hops::write(hops - 1, &mut heads.http1);
        }
    }
    if app.speaks_http2 {
        heads.http2 = http2::write_request(parsed, head, &hop).ok().map(Box::new);
        if let (Some(hops), Some(head)) = (hops, &mut heads.http2) {
            head.headers_mut().insert(::http::header::MAX_FORWARDS, (hops - 1).into());
        }
    }
    heads
}

/// gRPC over HTTP/2, "Requests": the content type is `application/grpc`, with or without what follows.
pub fn is_grpc(request: &RequestHead, head: &[u8]) -> bool {
    const CONTENT_TYPE: &[u8] = b"application/grpc";
    let field = request.fields.first(FieldKind::ContentType).map(|field| field.value.within(head));
    field.is_some_and(|value| {
        value.get(..CONTENT_TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(CONTENT_TYPE))
            && matches!(value.get(CONTENT_TYPE.len()), None | Some(b'+' | b';' | b' '))
    })
}

/// gRPC over HTTP/2, "Timeout": at most eight digits and a unit.
pub fn grpc_deadline(request: &RequestHead, head: &[u8]) -> Option<Duration> {
    let value = request.fields.first(FieldKind::GrpcTimeout)?.value.within(head);
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// What our fields add to a usual head, so that writing it allocates once.
const ADDED_BYTES: usize = 320;
