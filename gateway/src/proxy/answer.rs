//! What the gateway says itself.

use super::facts::Facts;
use crate::message::encode::{push_decimal, push_length};
use crate::message::{Malformed, Method, Version};
use crate::reason::{Reason, phrase};

/// A complete response, and how much of it is content.
#[derive(Debug)]
pub struct Answer {
    pub bytes: Vec<u8>,
    pub body_bytes: u64,
}

/// The status, the reason code as a field and in a line of text, and for a
/// malformed message the rule that it breaks. `extra` are whole lines of the head.
pub fn write(
    reason: Reason,
    detail: Option<Malformed>,
    facts: &Facts,
    extra: &[u8],
    keep_alive: bool,
) -> Answer {
    let status = reason.status();
    let mut body = format!("{status} {}: {}\n", phrase(status), reason.as_str());
    if let Some(detail) = detail {
        body.push_str(&format!("{detail}\n"));
    }
    let mut out = Vec::with_capacity(256 + extra.len() + body.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(u64::from(status), &mut out);
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=utf-8\r\nX-Sluice-Reason: ");
    out.extend_from_slice(reason.as_str().as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(extra);
    if status == 503 {
        // Probes decide within seconds; a client that asks again at once only adds to the load.
        out.extend_from_slice(b"Retry-After: 1\r\n");
    }
    push_length(&mut out, body.len() as u64);
    match (keep_alive, facts.version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
    if facts.method == Method::Head {
        return Answer { bytes: out, body_bytes: 0 };
    }
    out.extend_from_slice(body.as_bytes());
    Answer { bytes: out, body_bytes: body.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_reason_and_the_broken_rule() {
        let mut facts = Facts::unknown(std::time::Instant::now(), [b'0'; 32], 0);
        let out = write(Reason::BadRequest, Some(Malformed::HostCount), &facts, b"", false);
        let text = String::from_utf8(out.bytes).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 400 Bad Request\r\n")
                && text.contains("X-Sluice-Reason: bad_request\r\n")
        );
        assert!(text.contains("Connection: close\r\n") && text.contains("exactly one Host"));
        facts.method = Method::Head;
        facts.version = Version::Http10;
        let head = String::from_utf8(write(Reason::UnknownHost, None, &facts, b"", true).bytes).unwrap();
        assert!(head.ends_with("\r\n\r\n") && head.contains("Connection: keep-alive\r\n"));
    }
}
