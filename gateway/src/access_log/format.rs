//! How a line looks.

use std::net::IpAddr;

use super::entry::{Ending, Entry, StreamEntry};
use super::stamp::Stamp;
use super::text::{escape, push_seconds, push_text};
use crate::message::encode::{push_decimal, push_ip};
use crate::message::trace_context::write_hex;
use crate::proxy::LogFacts;
use crate::reason::Reason;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Apache's combined format.
    Combined,
}

impl Entry<'_> {
    pub(super) fn write(&self, format: Format, stamp: &Stamp, line: &mut Vec<u8>) {
        match format {
            Format::Json => self.json(stamp, line),
            Format::Combined => self.combined(stamp, line),
        }
        line.push(b'\n');
    }

    /// Whom a filter found the client to be.
    fn consumer(&self) -> Option<&str> {
        self.facts.filtered.as_ref().and_then(|filtered| filtered.consumer())
    }

    fn json(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        let facts = self.facts;
        let log = facts.log.as_deref();
        let is_plain = log.is_none_or(|log| log.is_plain);
        let text = |part: fn(&LogFacts) -> &[u8]| log.map_or(&[][..], part);
        json_start(stamp, self.client(), line);
        push_all(line, b",\"listener\":\"", self.ending.listener.as_bytes());
        line.extend_from_slice(b"\",\"method\":\"");
        push_text(text(LogFacts::method), is_plain, line);
        line.extend_from_slice(b"\",\"host\":\"");
        push_text(text(LogFacts::host), is_plain, line);
        line.extend_from_slice(b"\",\"path\":\"");
        push_text(text(LogFacts::target), is_plain, line);
        push_all(line, b"\",\"protocol\":\"", facts.version.as_str().as_bytes());
        line.push(b'"');
        if let Some(consumer) = self.consumer() {
            line.extend_from_slice(b",\"consumer\":\"");
            escape(consumer.as_bytes(), line);
            line.push(b'"');
        }
        self.ending.json(b",\"upstream_seconds\":", line);
        let taken_by = text(LogFacts::taken_by);
        if !taken_by.is_empty() {
            push_all(line, b",\"match\":\"", taken_by);
            line.push(b'"');
        }
        line.extend_from_slice(b",\"request_id\":\"");
        let given = text(LogFacts::given_id);
        push_text(if given.is_empty() { &facts.id } else { given }, is_plain, line);
        if let Some(trace) = &facts.trace {
            let mut digits = [0; 32];
            write_hex(&trace.id, &mut digits);
            push_all(line, b"\",\"trace\":\"", &digits);
        }
        line.extend_from_slice(b"\",\"user_agent\":\"");
        push_text(text(LogFacts::agent), is_plain, line);
        line.extend_from_slice(b"\",\"referer\":\"");
        push_text(text(LogFacts::referer), is_plain, line);
        line.extend_from_slice(b"\"}");
    }

    fn combined(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        let log = self.facts.log.as_deref();
        let text =
            |part: fn(&LogFacts) -> &[u8]| log.map(part).filter(|text| !text.is_empty()).unwrap_or(b"-");
        combined_start(stamp, self.client(), self.consumer(), line);
        escape(text(LogFacts::method), line);
        line.push(b' ');
        escape(text(LogFacts::target), line);
        push_all(line, b" ", self.facts.version.as_str().as_bytes());
        line.extend_from_slice(b"\" ");
        push_decimal(u64::from(self.ending.status), line);
        line.push(b' ');
        push_decimal(self.body_bytes, line);
        line.extend_from_slice(b" \"");
        escape(text(LogFacts::referer), line);
        line.extend_from_slice(b"\" \"");
        escape(text(LogFacts::agent), line);
        line.push(b'"');
    }
}

impl StreamEntry<'_> {
    pub(super) fn write(&self, format: Format, stamp: &Stamp, line: &mut Vec<u8>) {
        match format {
            Format::Json => self.json(stamp, line),
            Format::Combined => self.combined(stamp, line),
        }
        line.push(b'\n');
    }

    fn json(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        json_start(stamp, self.ending.client, line);
        push_all(line, b",\"listener\":\"", self.ending.listener.as_bytes());
        push_all(line, b"\",\"method\":\"", self.protocol.as_bytes());
        push_all(line, b"\",\"protocol\":\"", self.protocol.as_bytes());
        line.extend_from_slice(b"\",\"host\":\"");
        escape(self.server_name.unwrap_or("").as_bytes(), line);
        line.push(b'"');
        self.ending.json(b",\"connect_seconds\":", line);
        line.push(b'}');
    }

    /// `"TCP {app} -"` stands for the request line, the bytes to the client for the response's.
    fn combined(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        combined_start(stamp, self.ending.client, None, line);
        for part in [self.protocol, " ", self.ending.app.unwrap_or("-"), " -\" "] {
            line.extend_from_slice(part.as_bytes());
        }
        push_decimal(u64::from(self.ending.status), line);
        line.push(b' ');
        push_decimal(self.ending.sent_bytes, line);
        line.extend_from_slice(b" \"-\" \"-\"");
    }
}

impl Ending<'_> {
    /// `awaited_key` says what was waited for.
    fn json(&self, awaited_key: &[u8], line: &mut Vec<u8>) {
        line.extend_from_slice(b",\"status\":");
        push_decimal(u64::from(self.status), line);
        push_all(line, b",\"reason\":\"", self.reason.map_or("", Reason::as_str).as_bytes());
        match self.endpoint {
            Some(endpoint) => push_all(line, b"\"", endpoint.log_fields()),
            None => {
                push_all(line, b"\",\"app\":\"", self.app.unwrap_or("").as_bytes());
                line.push(b'"');
            }
        }
        line.extend_from_slice(b",\"received_bytes\":");
        push_decimal(self.received_bytes, line);
        line.extend_from_slice(b",\"sent_bytes\":");
        push_decimal(self.sent_bytes, line);
        line.extend_from_slice(b",\"seconds\":");
        push_seconds(self.took, line);
        if let Some(awaited) = self.awaited {
            line.extend_from_slice(awaited_key);
            push_seconds(awaited, line);
        }
        line.extend_from_slice(b",\"retries\":");
        push_decimal(u64::from(self.retries), line);
    }
}

fn json_start(stamp: &Stamp, client: IpAddr, line: &mut Vec<u8>) {
    push_all(line, b"{\"time\":\"", stamp.iso());
    line.extend_from_slice(b"\",\"client\":\"");
    push_ip(client, line);
    line.push(b'"');
}

/// `user`: one word.
fn combined_start(stamp: &Stamp, client: IpAddr, user: Option<&str>, line: &mut Vec<u8>) {
    push_ip(client, line);
    line.extend_from_slice(b" - ");
    match user {
        Some(user) if !user.is_empty() => escape(user.replace(' ', "%20").as_bytes(), line),
        _ => line.push(b'-'),
    }
    push_all(line, b" [", stamp.common().as_bytes());
    line.extend_from_slice(b"] \"");
}

fn push_all(line: &mut Vec<u8>, start: &[u8], rest: &[u8]) {
    line.extend_from_slice(start);
    line.extend_from_slice(rest);
}
