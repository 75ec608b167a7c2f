//! How a line looks.

use std::io::Write;
use std::net::IpAddr;

use crate::message::encode::{push_decimal, push_ip};
use crate::proxy::{Facts, LogFacts};
use crate::reason::Reason;
use crate::table::PooledEndpoint;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// What is known of a request when it is over.
#[derive(Debug)]
pub struct Entry<'a> {
    pub facts: &'a Facts,
    pub peer: IpAddr,
    pub listener: &'a str,
    pub status: u16,
    pub reason: Option<Reason>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    /// Of `sent_bytes` the response's content, without head and framing.
    pub body_bytes: u64,
    pub seconds: f64,
    pub upstream_seconds: Option<f64>,
    pub app: Option<&'a str>,
    pub endpoint: Option<&'a PooledEndpoint>,
    pub retries: u32,
}

/// A moment as both formats write it.
#[derive(Debug, Default)]
pub struct Stamp {
    /// `2026-11-20T14:41:34` and the milliseconds.
    pub iso_second: String,
    pub millisecond: u32,
    /// `20/Nov/2026:14:41:34 +0000`.
    pub common: String,
}

impl Entry<'_> {
    pub fn write(&self, format: Format, stamp: &Stamp, line: &mut Vec<u8>) {
        match format {
            Format::Json => self.json(stamp, line),
            Format::Combined => self.combined(stamp, line),
        }
        line.push(b'\n');
    }

    fn client(&self) -> IpAddr {
        self.facts.log.as_ref().and_then(|log| log.client).unwrap_or(self.peer)
    }

    /// Whom a filter found the client to be.
    fn consumer(&self) -> Option<&str> {
        self.facts.filtered.as_ref().and_then(|filtered| filtered.consumer())
    }

    fn json(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        let log = self.facts.log.as_deref();
        let text = |part: fn(&LogFacts) -> &[u8]| log.map_or(&[][..], part);
        json_start(stamp, self.client(), line);
        string(line, "listener", self.listener.as_bytes());
        string(line, "method", text(LogFacts::method));
        string(line, "host", text(LogFacts::host));
        string(line, "path", text(LogFacts::target));
        string(line, "protocol", self.facts.version.as_str().as_bytes());
        number(line, "status", u64::from(self.status));
        string(line, "reason", self.reason.map_or("", Reason::as_str).as_bytes());
        string(line, "app", self.app.unwrap_or("").as_bytes());
        if let Some(consumer) = self.consumer() {
            string(line, "consumer", consumer.as_bytes());
        }
        json_endpoint(self.endpoint, line);
        number(line, "received_bytes", self.received_bytes);
        number(line, "sent_bytes", self.sent_bytes);
        seconds(line, "seconds", self.seconds);
        if let Some(upstream) = self.upstream_seconds {
            seconds(line, "upstream_seconds", upstream);
        }
        number(line, "retries", u64::from(self.retries));
        let given = text(LogFacts::given_id);
        string(line, "request_id", if given.is_empty() { &self.facts.id } else { given });
        string(line, "user_agent", text(LogFacts::agent));
        string(line, "referer", text(LogFacts::referer));
        line.push(b'}');
    }

    fn combined(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        let log = self.facts.log.as_deref();
        let text =
            |part: fn(&LogFacts) -> &[u8]| log.map(part).filter(|text| !text.is_empty()).unwrap_or(b"-");
        combined_start(stamp, self.client(), self.consumer(), line);
        escape(text(LogFacts::method), line);
        line.push(b' ');
        escape(text(LogFacts::target), line);
        line.push(b' ');
        line.extend_from_slice(self.facts.version.as_str().as_bytes());
        line.extend_from_slice(b"\" ");
        push_decimal(u64::from(self.status), line);
        line.push(b' ');
        push_decimal(self.body_bytes, line);
        line.extend_from_slice(b" \"");
        escape(text(LogFacts::referer), line);
        line.extend_from_slice(b"\" \"");
        escape(text(LogFacts::agent), line);
        line.push(b'"');
    }
}

/// A connection of a TCP listener, or a session of a UDP listener, when it is over. It has the fields of
/// a request that make sense for it, under the same names.
#[derive(Debug)]
pub struct StreamEntry<'a> {
    /// Stands where a request has its method: `TCP` or `UDP`.
    pub protocol: &'static str,
    pub client: IpAddr,
    pub listener: &'a str,
    /// What a TLS client asked for, where the listener looks.
    pub server_name: Option<&'a str>,
    pub reason: Option<Reason>,
    pub app: Option<&'a str>,
    pub endpoint: Option<&'a PooledEndpoint>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub seconds: f64,
    /// Until an endpoint had taken the connection.
    pub connect_seconds: Option<f64>,
    pub retries: u32,
}

impl StreamEntry<'_> {
    /// What is counted for it: as if it had been a request.
    const IN_ORDER: u16 = 200;

    pub fn write(&self, format: Format, stamp: &Stamp, line: &mut Vec<u8>) {
        match format {
            Format::Json => self.json(stamp, line),
            Format::Combined => self.combined(stamp, line),
        }
        line.push(b'\n');
    }

    fn status(&self) -> u64 {
        u64::from(self.reason.map_or(Self::IN_ORDER, Reason::status))
    }

    fn json(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        json_start(stamp, self.client, line);
        string(line, "listener", self.listener.as_bytes());
        string(line, "method", self.protocol.as_bytes());
        string(line, "protocol", self.protocol.as_bytes());
        string(line, "host", self.server_name.unwrap_or("").as_bytes());
        number(line, "status", self.status());
        string(line, "reason", self.reason.map_or("", Reason::as_str).as_bytes());
        string(line, "app", self.app.unwrap_or("").as_bytes());
        json_endpoint(self.endpoint, line);
        number(line, "received_bytes", self.received_bytes);
        number(line, "sent_bytes", self.sent_bytes);
        seconds(line, "seconds", self.seconds);
        if let Some(connect) = self.connect_seconds {
            seconds(line, "connect_seconds", connect);
        }
        number(line, "retries", u64::from(self.retries));
        line.push(b'}');
    }

    /// `"TCP {app} -"` stands for the request line, the bytes to the client for the response's.
    fn combined(&self, stamp: &Stamp, line: &mut Vec<u8>) {
        combined_start(stamp, self.client, None, line);
        for part in [self.protocol, " ", self.app.unwrap_or("-"), " -\" "] {
            line.extend_from_slice(part.as_bytes());
        }
        push_decimal(self.status(), line);
        line.push(b' ');
        push_decimal(self.sent_bytes, line);
        line.extend_from_slice(b" \"-\" \"-\"");
    }
}

fn json_start(stamp: &Stamp, client: IpAddr, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(stamp.iso_second.as_bytes());
    line.push(b'.');
    for digit in [100, 10, 1] {
        line.push(b'0' + (stamp.millisecond / digit % 10) as u8);
    }
    line.extend_from_slice(b"Z\",\"client\":\"");
    push_ip(client, line);
    line.push(b'"');
}

fn json_endpoint(endpoint: Option<&PooledEndpoint>, line: &mut Vec<u8>) {
    let Some(endpoint) = endpoint else { return };
    string(line, "version", endpoint.key.version.as_str().as_bytes());
    string(line, "instance", endpoint.key.instance.as_str().as_bytes());
    key(line, "endpoint");
    line.push(b'"');
    push_ip(endpoint.address.ip(), line);
    line.push(b':');
    push_decimal(u64::from(endpoint.address.port()), line);
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
    line.extend_from_slice(b" [");
    line.extend_from_slice(stamp.common.as_bytes());
    line.extend_from_slice(b"] \"");
}

fn key(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

fn string(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(line, name);
    line.push(b'"');
    escape(value, line);
    line.push(b'"');
}

fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    key(line, name);
    push_decimal(value, line);
}

/// Microseconds are what a proxy's part of a request is counted in.
fn seconds(line: &mut Vec<u8>, name: &str, value: f64) {
    key(line, name);
    let micros = (value * 1e6) as u64;
    push_decimal(micros / 1_000_000, line);
    line.push(b'.');
    let mut digit = 100_000;
    while digit > 0 {
        line.push(b'0' + (micros / digit % 10) as u8);
        digit /= 10;
    }
}

/// What clients send cannot end a string or a line, in either format. Bytes outside ASCII are written
/// as the code points of the same number.
fn escape(text: &[u8], line: &mut Vec<u8>) {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        return line.extend_from_slice(text);
    }
    for byte in text {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => line.push(*byte),
            _ => write!(line, "\\u{byte:04x}").expect("writing to a Vec never fails"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let mut line = Vec::new();
        escape(b"a\"b\\c\n\x7f\xe4", &mut line);
        assert_eq!(line, br#"a\"b\\c\u000a\u007f\u00e4"#);
    }

    #[test]
    fn seconds_have_six_places() {
        let mut line = Vec::new();
        seconds(&mut line, "s", 1.000_25);
        assert_eq!(line, b",\"s\":1.000250");
    }
}
