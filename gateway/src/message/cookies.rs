//! Cookies of a request, as RFC 6265 section 4.2.1 writes them.
//!
//! What breaks its grammar is passed over and harms no other cookie: scripts of third parties set many
//! that do, and the user whose browser keeps one must not lose those that are right.

use super::fields::Fields;

/// Pairs that are looked at in one request. Browsers keep about 180 per site; whoever sends more only
/// wants to be compared with.
pub const MAX_PAIRS: usize = 256;

/// Names and values in their order, over all Cookie fields. Quotes around a value are no part of it.
pub fn cookies<'r>(fields: &'r Fields, head: &'r [u8]) -> impl Iterator<Item = (&'r [u8], &'r [u8])> {
    let is_cookie = |name: &[u8]| name.eq_ignore_ascii_case(b"cookie");
    let lines = fields.iter().filter(move |field| is_cookie(field.name.within(head)));
    lines.flat_map(|field| pairs(field.value.within(head))).take(MAX_PAIRS).flatten()
}

/// The pairs of one field's value; `None` for what is no pair.
pub fn pairs(value: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    value.split(|byte| *byte == b';').map(|part| pair(part.trim_ascii()))
}

fn pair(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr::memchr(b'=', part)?;
    let (name, value) = (&part[..equals], unquoted(&part[equals + 1..]));
    let is_right = !name.is_empty() && name.iter().all(|byte| is_token(*byte)) && value.iter().all(is_octet);
    is_right.then_some((name, value))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `cookie-octet`.
fn is_octet(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::RequestHead;

    fn read(lines: &str) -> Vec<(String, String)> {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let parsed = RequestHead::parse(head.as_bytes()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        cookies(&parsed.fields, head.as_bytes()).map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn cookies_come_in_their_order_over_all_fields() {
        let lines = "Cookie: a=1; b=\"2\";c=3\r\ncookie:  d=; a=4\r\nX-Cookie: e=5\r\n";
        let wanted = [pair("a", "1"), pair("b", "2"), pair("c", "3"), pair("d", ""), pair("a", "4")];
        assert_eq!(read(lines), wanted);
    }

    #[test]
    fn what_is_no_cookie_is_passed_over_and_harms_no_other() {
        for bad in ["a", "=1", "a b=1", "a=1 2", "a=\"1", "a=1,2", "a=1\\", "a=ü", "", " "] {
            assert_eq!(read(&format!("Cookie: {bad}; good=1\r\n")), [pair("good", "1")], "{bad:?}");
        }
    }

    #[test]
    fn more_cookies_than_anybody_has_are_not_looked_at() {
        let many = "a=1;".repeat(MAX_PAIRS);
        assert_eq!(read(&format!("Cookie: {many}b=2\r\n")).len(), MAX_PAIRS);
    }
}
