//! Spans as OTLP wants them: `ExportTraceServiceRequest` in Protocol Buffers (opentelemetry-proto 1.x,
//! `trace/v1/trace.proto`). A dozen fields of five messages are written by hand, since a code generator and the
//! SDK around it would be the larger part; the tests read them back with the official definitions.

use std::time::Duration;

use super::attributes;
use super::span::Finished;

/// `Span.SpanKind`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `Status.StatusCode`.
const ERROR: u64 = 2;
/// `SpanFlags`: the trace's own, and that we know whether the parent is in another process, and that it is.
const SAMPLED: u32 = 0x001;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Who we are, to the collector.
#[derive(Debug, Clone)]
pub struct Resource {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: String,
}

/// One message with every span of `requests`; and how many there are.
pub fn request(resource: &Resource, requests: &[Finished]) -> (Vec<u8>, u64) {
    let mut spans = 0;
    let mut out = Vec::new();
    message(&mut out, 1, |resource_spans| {
        message(resource_spans, 1, |out| {
            let mut attributes = Attributes { out, field: 1 };
            attributes.text("service.name", resource.service.as_bytes());
            attributes.text("service.instance.id", resource.instance.as_bytes());
            attributes.text("service.version", env!("CARGO_PKG_VERSION").as_bytes());
        });
        message(resource_spans, 2, |scope_spans| {
            message(scope_spans, 1, |scope| {
                bytes(scope, 1, b"sluice");
                bytes(scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for finished in requests {
                spans += 1 + finished.attempts.len() as u64;
                message(scope_spans, 2, |span| request_span(finished, span));
                for number in 0..finished.attempts.len() {
                    message(scope_spans, 2, |span| attempt_span(finished, number, span));
                }
            }
        });
    });
    (out, spans)
}

fn request_span(finished: &Finished, span: &mut Vec<u8>) {
    bytes(span, 1, &finished.trace);
    bytes(span, 2, &finished.span);
    if let Some(parent) = &finished.parent {
        bytes(span, 4, parent);
    }
    bytes(span, 5, attributes::name(&finished.method).as_bytes());
    number(span, 6, SERVER);
    times(finished.began, finished.took, span);
    attributes::of_request(finished, &mut Attributes { out: span, field: 9 });
    if attributes::is_error(finished.status, finished.reason, 500) {
        message(span, 15, |status| number(status, 3, ERROR));
    }
    let remote = if finished.parent.is_some() { IS_REMOTE } else { 0 };
    fixed32(span, 16, SAMPLED | HAS_IS_REMOTE | remote);
}

fn attempt_span(finished: &Finished, at: usize, span: &mut Vec<u8>) {
    let (attempt, after, took) = &finished.attempts[at];
    bytes(span, 1, &finished.trace);
    bytes(span, 2, &attempt.span);
    bytes(span, 4, &finished.span);
    bytes(span, 5, attributes::name(&finished.method).as_bytes());
    number(span, 6, CLIENT);
    times(finished.began + *after, *took, span);
    attributes::of_attempt(finished, at, attempt, &mut Attributes { out: span, field: 9 });
    if attributes::is_error(attempt.status, attempt.failure, 400) {
        message(span, 15, |status| number(status, 3, ERROR));
    }
    fixed32(span, 16, SAMPLED | HAS_IS_REMOTE);
}

fn times(began: Duration, took: Duration, span: &mut Vec<u8>) {
    let nanos = |at: Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    fixed64(span, 7, nanos(began));
    fixed64(span, 8, nanos(began + took));
}

/// Writes `KeyValue`s as a message's repeated field.
#[derive(Debug)]
pub struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    field: u64,
}

impl Attributes<'_> {
    /// A string is UTF-8; what is not is shown as what it can be read as.
    pub fn text(&mut self, key: &str, value: &[u8]) {
        let value = String::from_utf8_lossy(value);
        self.value(key, |any| bytes(any, 1, value.as_bytes()));
    }

    pub fn number(&mut self, key: &str, value: i64) {
        // `int64`: two's complement, as a varint.
        self.value(key, |any| number(any, 3, value as u64));
    }

    fn value(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        message(self.out, self.field, |pair| {
            bytes(pair, 1, key.as_bytes());
            message(pair, 2, write);
        });
    }
}

/// Wire types of Protocol Buffers.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | VARINT);
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn fixed32(out: &mut Vec<u8>, field: u64, value: u32) {
    varint(out, field << 3 | FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | LENGTH);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A message within one: its length stands first and is known last.
fn message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, field, &inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_sevens() {
        for (value, wanted) in [
            (0, &[0][..]),
            (127, &[127]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, wanted);
        }
    }
}
