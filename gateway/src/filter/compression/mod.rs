//! Bodies of responses, made smaller for clients that can read them so.
//!
//! Which coding a client gets is decided when its request comes ([`negotiation`]); whether the response
//! is one that may be coded, when its head comes ([`Compression::plan`]); and the body is coded piece by piece on
//! its way ([`Encoder`]). Whenever the endpoint has nothing more to say for the moment, all that it has
//! said goes out, so a stream of events is as prompt as without.

mod encoder;
mod metrics;
mod negotiation;

use std::sync::Arc;

use topology::filters::{Coding, Compression as Settings};

pub use encoder::{Encoder, MAX_BYTES, Room};
pub use metrics::{CompressionCells, CompressionMetrics};
pub use negotiation::{choose, forbids};

use super::{Asked, Changes, Decision};
use crate::message::edits::push_line;
use crate::message::fields::list_items;
use crate::message::{FieldKind, Framing, Method, Recoding, ResponseHead, Version};

/// Said of every response that could have been coded, coded or not: a cache must not give it to a client
/// that reads something else (RFC 9110 section 12.5.5).
const VARY: &[u8] = b"Vary: Accept-Encoding\r\n";

#[derive(Debug)]
pub struct Compression {
    settings: Settings,
    pub metrics: Arc<CompressionMetrics>,
}

/// What is to become of a response.
#[derive(Debug, Default)]
pub struct Plan {
    /// What codes its body; `None`: it goes as it came.
    pub encoder: Option<Box<Encoder>>,
    /// What its head says.
    pub head: Recoding,
}

/// What is known of the request that a response answers.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub method: Method,
    pub version: Version,
    pub is_grpc: bool,
    /// Which worker asks.
    pub worker: usize,
    /// What its client gets, if the response can be coded.
    pub coding: Option<Coding>,
}

impl Compression {
    pub fn compile(settings: &Settings, former: Option<&Self>, workers: usize) -> Self {
        let metrics = former.map(|former| former.metrics.clone());
        let metrics = metrics.unwrap_or_else(|| Arc::new(CompressionMetrics::new(workers)));
        Self { settings: settings.clone(), metrics }
    }

    pub fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        changes.coding = choose(asked.request, asked.head, &self.settings.codings);
        Decision::Pass
    }

    pub fn describe(&self) -> String {
        let codings: Vec<_> = self.settings.codings.iter().map(|coding| coding.as_str()).collect();
        let types: Vec<_> = self.settings.types.iter().map(ToString::to_string).collect();
        let Settings { min_bytes, level, .. } = &self.settings;
        format!(
            "{} ({}) of {} from {min_bytes} bytes on",
            codings.join(", "),
            level.as_str(),
            types.join(", ")
        )
    }

    /// `head` are the bytes of `response`, a final one; `room` is what encoders may hold. `None`: nothing
    /// of it changes.
    pub fn plan(&self, response: &ResponseHead, head: &[u8], wanted: Wanted, room: &Room) -> Option<Plan> {
        if wanted.is_grpc || wanted.method == Method::Connect {
            return None;
        }
        if response.status == 304 {
            // Clients hold what they got, under the tag that they got it with.
            let mut plan = Plan { head: vary(response, head), ..Plan::default() };
            if wanted.coding.is_some() {
                weaken_tag(response, head, &mut plan.head);
            }
            return Some(plan);
        }
        // 206 is a piece of something that was agreed on before; what has no body has nothing to code.
        let is_candidate = !matches!(response.status, 204 | 206) && self.is_of_a_type(response, head);
        if !is_candidate || is_bound(response, head) {
            return None;
        }
        let mut plan = Plan { head: vary(response, head), ..Plan::default() };
        plan.encoder = self.encoder(response, wanted, room).map(Box::new);
        if let Some(encoder) = &plan.encoder {
            plan.head.is_recoded = true;
            push_line(b"Content-Encoding", encoder.coding.as_str().as_bytes(), &mut plan.head.lines);
            weaken_tag(response, head, &mut plan.head);
        }
        Some(plan)
    }

    fn encoder(&self, response: &ResponseHead, wanted: Wanted, room: &Room) -> Option<Encoder> {
        let coding = wanted.coding?;
        // HTTP/1.0 knows no chunks, and a body without a length would end its connection.
        if wanted.method == Method::Head || wanted.version == Version::Http10 {
            return None;
        }
        let length = match response.framing {
            Framing::None | Framing::Length(0) => return None,
            Framing::Length(length) if length < self.settings.min_bytes => return None,
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let encoder = Encoder::new(coding, self.settings.level, length, room);
        if encoder.is_none() {
            self.metrics.cells(wanted.worker).crowded.increment();
        }
        encoder
    }

    fn is_of_a_type(&self, response: &ResponseHead, head: &[u8]) -> bool {
        let kind = response.fields.first(FieldKind::ContentType).map(|field| field.value.within(head));
        kind.is_some_and(|kind| self.settings.types.iter().any(|pattern| pattern.covers(kind)))
    }
}

/// The coded body is not the endpoint's byte for byte, which a strong tag would promise (RFC 9110
/// section 8.8.1).
fn weaken_tag(response: &ResponseHead, head: &[u8], out: &mut Recoding) {
    let mut tags = values(response, head, b"etag");
    if let (Some(tag @ [b'"', ..]), None) = (tags.next(), tags.next()) {
        out.replaces_tag = true;
        push_line(b"ETag", &[b"W/", tag].concat(), &mut out.lines);
    }
}

/// Whether the endpoint has said that its bytes are to arrive as they are: coded already, a part of
/// something, not to be transformed, or with a digest of exactly these bytes.
fn is_bound(response: &ResponseHead, head: &[u8]) -> bool {
    const DIGESTS: [&[u8]; 4] = [b"content-digest", b"repr-digest", b"digest", b"content-md5"];
    let has = |name: &'static [u8]| values(response, head, name).next().is_some();
    has(b"content-encoding")
        || has(b"content-range")
        || DIGESTS.into_iter().any(has)
        || values(response, head, b"cache-control").any(forbids)
}

fn values<'r>(
    response: &'r ResponseHead,
    head: &'r [u8],
    name: &'static [u8],
) -> impl Iterator<Item = &'r [u8]> {
    let is_it = move |found: &[u8]| found.eq_ignore_ascii_case(name);
    let fields = response.fields.iter().filter(move |field| is_it(field.name.within(head)));
    fields.map(|field| field.value.within(head))
}

/// What is to be said of the choice, where the endpoint has not said it.
fn vary(response: &ResponseHead, head: &[u8]) -> Recoding {
    let says_it = |value: &[u8]| {
        list_items(value).any(|item| item == b"*" || item.eq_ignore_ascii_case(b"accept-encoding"))
    };
    let is_said = values(response, head, b"vary").any(says_it);
    Recoding { lines: if is_said { Vec::new() } else { VARY.to_vec() }, ..Recoding::default() }
}

#[cfg(test)]
mod tests;
