//! What matches and filters look up in a request: cookies, parameters of the query, and what its client
//! would rather have.

use gateway::message::accept;
use gateway::message::cookies;
use gateway::message::query::{self, Encoded};

use crate::shown;

/// `input`: a line that is a Cookie field's value, a line that is a query, and the rest: an Accept field's
/// value, or that of one of its relatives.
///
/// # Panics
/// When a cookie is found that RFC 6265 knows not, when one is not where it was, when what is found
/// depends on its neighbours, when a parameter is decoded otherwise than the URL standard says, or when a
/// weight is read that RFC 9110 knows not.
pub fn lookups(input: &[u8]) {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    cookie_pairs(lines.next().unwrap_or_default());
    parameters(&[b"/?", lines.next().unwrap_or_default()].concat());
    weights(lines.next().unwrap_or_default());
}

fn weights(value: &[u8]) {
    let found: Vec<_> = accept::weighted(std::iter::once(value)).collect();
    let plain: Vec<_> = value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
        .take(accept::MAX_ITEMS)
        .filter_map(plainly_weighed)
        .collect();
    assert_eq!(found, plain, "{}", shown(value));
}

/// The standard library's reading of a number, within the grammar's bounds.
fn plainly_weighed(item: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(given) = parts.find(|part| part.len() >= 2 && part[..2].eq_ignore_ascii_case(b"q=")) else {
        return Some((name, 1000));
    };
    let text = std::str::from_utf8(&given[2..]).ok()?;
    let is_plain = text.len() <= 5
        && text.starts_with(['0', '1'])
        && (text.len() == 1 || text.as_bytes()[1] == b'.')
        && text.bytes().skip(2).all(|byte| byte.is_ascii_digit());
    let weight = text.parse::<f64>().ok().filter(|weight| is_plain && *weight <= 1.0)?;
    Some((name, (weight * 1000.0).round() as u16))
}

fn cookie_pairs(value: &[u8]) {
    let found: Vec<_> = cookies::pairs(value).flatten().collect();
    for (name, value) in &found {
        assert!(is_token(name) && value.iter().all(is_octet), "{} {}", shown(name), shown(value));
    }
    let ours: Vec<_> = found.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(ours, plainly_read(value), "{}", shown(value));
    // Written as RFC 6265 asks clients to, they are the same cookies.
    let written: Vec<_> = ours.iter().map(|(name, value)| [name, &b"="[..], value].concat()).collect();
    let written = written.join(&b"; "[..]);
    let again: Vec<_> = cookies::pairs(&written).flatten().collect();
    assert_eq!(again, found, "{}", shown(&written));
    // Nothing that stands before them changes them.
    let preceded = [b"x=\"; =; y z=1;", value].concat();
    assert_eq!(cookies::pairs(&preceded).flatten().collect::<Vec<_>>(), found, "{}", shown(value));
}

/// The grammar once more, byte by byte.
fn plainly_read(value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for part in value.split(|byte| *byte == b';') {
        let text: Vec<u8> = part.to_vec();
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c);
        let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
        let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
        let mut name = Vec::new();
        let mut rest = text[start..end].iter().copied();
        let mut has_value = false;
        for byte in rest.by_ref() {
            if byte == b'=' {
                has_value = true;
                break;
            }
            name.push(byte);
        }
        let mut content: Vec<u8> = rest.collect();
        if content.len() >= 2 && content.first() == Some(&b'"') && content.last() == Some(&b'"') {
            content.pop();
            content.remove(0);
        }
        if has_value && is_token(&name) && content.iter().all(is_octet) {
            found.push((name, content));
        }
    }
    found
}

fn is_token(name: &[u8]) -> bool {
    // RFC 9110 section 5.6.2: any VCHAR, except delimiters.
    !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte))
}

fn is_octet(byte: &u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

fn parameters(path_and_query: &[u8]) {
    let ours: Vec<_> = query::parameters(path_and_query).collect();
    let theirs = form_urlencoded::parse(&path_and_query[2..]);
    assert!(ours.len() <= query::MAX_PAIRS);
    for (position, (our, their)) in ours.iter().zip(theirs).enumerate() {
        let place = format!("pair {position} of {}", shown(path_and_query));
        agree(our.0, &their.0, &place);
        agree(our.1, &their.1, &place);
    }
}

/// The URL standard leaves a broken escape as it is; for us it means nothing.
fn agree(our: Encoded<'_>, their: &str, place: &str) {
    let their = their.as_bytes();
    if !our.is_valid() {
        assert!(!our.equals(their) && !our.starts_with(b""), "{place}");
        return;
    }
    // What is no UTF-8 is not theirs to compare.
    if !String::from_utf8_lossy(their).contains(char::REPLACEMENT_CHARACTER) {
        assert!(our.equals(their), "{place}");
        assert!(our.starts_with(&their[..their.len() / 2]), "{place}");
        assert!(!our.equals(&[their, b"x"].concat()) && !our.starts_with(&[their, b"x"].concat()), "{place}");
    }
}
