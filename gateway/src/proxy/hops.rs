//! Max-Forwards: how many more hops a TRACE or OPTIONS may take (RFC 9110 section 7.6.2).

use crate::message::encode::push_decimal;
use crate::message::{Malformed, Method, RequestHead};

const NAME: &[u8] = b"Max-Forwards";

/// How many hops are left, this one not counted; `None` where nobody limits them, or for a method that
/// Max-Forwards means nothing to.
///
/// # Errors
/// For more than one field and for a value that is no number: two hops could count differently.
pub fn left(request: &RequestHead, head: &[u8]) -> Result<Option<u64>, Malformed> {
    if !matches!(request.method, Method::Trace | Method::Options) {
        return Ok(None);
    }
    let is_named = |name: &[u8]| name.eq_ignore_ascii_case(NAME);
    let mut limits = request.fields.iter().filter(|field| is_named(field.name.within(head)));
    match (limits.next(), limits.next()) {
        (None, _) => Ok(None),
        (Some(limit), None) => number(limit.value.within(head)).map(Some),
        _ => Err(Malformed::Grammar),
    }
}

fn number(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Grammar);
    }
    let digits = value.iter().map(|digit| u64::from(digit - b'0'));
    // "The lesser of the decremented value and the recipient's maximum": ours is this type's.
    Ok(digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(digit)))
}

/// Writes `left` into the head that goes upstream, in place of what was received.
pub fn write(left: u64, upstream_head: &mut Vec<u8>) {
    let mut field = [NAME, b": "].concat();
    push_decimal(left, &mut field);
    field.extend_from_slice(b"\r\n");
    let (start, end) = line(upstream_head);
    upstream_head.splice(start..end, field);
}

/// Where the field's line is, or would be: a Connection field may have named it away.
fn line(head: &[u8]) -> (usize, usize) {
    let mut start = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.len() < line.len() && name.eq_ignore_ascii_case(NAME) {
            return (start, end);
        }
        start = end;
    }
    let before_empty_line = head.len() - b"\r\n".len();
    (before_empty_line, before_empty_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_of(method: &str, fields: &str) -> Result<Option<u64>, Malformed> {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        left(&RequestHead::parse(head.as_bytes()).unwrap(), head.as_bytes())
    }

    #[test]
    fn only_trace_and_options_are_limited() {
        for method in ["TRACE", "OPTIONS"] {
            assert_eq!(left_of(method, "max-forwards: 3\r\n"), Ok(Some(3)));
            assert_eq!(left_of(method, ""), Ok(None));
        }
        assert_eq!(left_of("GET", "Max-Forwards: x\r\n"), Ok(None));
    }

    #[test]
    fn a_limit_is_one_number() {
        assert_eq!(left_of("TRACE", "Max-Forwards: 99999999999999999999999\r\n"), Ok(Some(u64::MAX)));
        for bad in
            ["Max-Forwards:", "Max-Forwards: -1", "Max-Forwards: 1\r\nMax-Forwards: 1", "Max-Forwards: 1, 1"]
        {
            assert_eq!(left_of("TRACE", &format!("{bad}\r\n")), Err(Malformed::Grammar), "{bad}");
        }
    }

    #[test]
    fn the_number_is_written_where_it_was() {
        for (head, wanted) in [
            (
                "TRACE / HTTP/1.1\r\nMAX-forwards: 10\r\nA: b\r\n\r\n",
                "TRACE / HTTP/1.1\r\nMax-Forwards: 9\r\nA: b\r\n\r\n",
            ),
            ("TRACE / HTTP/1.1\r\nA: b\r\n\r\n", "TRACE / HTTP/1.1\r\nA: b\r\nMax-Forwards: 9\r\n\r\n"),
        ] {
            let mut head = head.as_bytes().to_vec();
            write(9, &mut head);
            assert_eq!(String::from_utf8(head).unwrap(), wanted);
        }
    }
}
