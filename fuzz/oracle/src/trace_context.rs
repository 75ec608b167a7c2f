//! Trace context that clients send.

use gateway::message::RequestHead;
use gateway::message::trace_context::{Parent, TRACEPARENT_BYTES, has_valid_state};

use crate::shown;

/// Lines of `input`: the first is a `traceparent`, the others are `tracestate` fields.
///
/// # Panics
/// When a parent is taken that a plain second reading of the Recommendation does not take, or the other way
/// round; when what we write is not read back; or when a state is taken that breaks a rule.
pub fn trace_context(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let parent = lines.next().unwrap_or_default();
    let read = Parent::parse(parent);
    assert_eq!(
        read.map(|parent| (parent.trace, parent.span, parent.is_sampled)),
        again(parent),
        "{}",
        shown(parent)
    );
    if let Some(read) = read {
        let written = read.write();
        assert_eq!(Parent::parse(&written), Some(read), "{}", shown(&written));
        // Of version 00 only the flags may differ: unknown ones are not passed on.
        if parent.starts_with(b"00-") {
            assert_eq!(written[..TRACEPARENT_BYTES - 2], parent[..TRACEPARENT_BYTES - 2]);
        }
    }
    states(&lines.collect::<Vec<_>>());
}

type Read = ([u8; 16], [u8; 8], bool);

/// Section 3.2 of the Recommendation, field by field.
fn again(value: &[u8]) -> Option<Read> {
    // What follows a later version's flags may be any bytes.
    let text = String::from_utf8_lossy(value);
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, span, flags, more @ ..] = &parts[..] else { return None };
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    };
    let is_shaped = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    let is_version = match *version {
        "ff" => false,
        "00" => more.is_empty(),
        _ => true,
    };
    let is_all_zeros = |part: &str| part.chars().all(|c| c == '0');
    if !is_shaped || !is_version || is_all_zeros(trace) || is_all_zeros(span) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok()?.to_be_bytes();
    let span = u64::from_str_radix(span, 16).ok()?.to_be_bytes();
    Some((trace, span, u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

fn states(lines: &[&[u8]]) {
    let fields: Vec<u8> =
        lines.iter().flat_map(|line| [&b"tracestate: "[..], line, b"\r\n"].concat()).collect();
    let head = [&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], &fields, b"\r\n"].concat();
    let Ok(parsed) = RequestHead::parse(&head) else { return };
    if !has_valid_state(&parsed, &head) {
        return;
    }
    let all = lines.join(&b',');
    let members: Vec<&[u8]> =
        all.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()).collect();
    assert!(members.len() <= 32, "{}", shown(&all));
    let mut keys: Vec<&[u8]> = Vec::new();
    for member in members {
        let equals = member.iter().position(|byte| *byte == b'=').expect("a member has a key and a value");
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        assert!((1..=256).contains(&key.len()) && (1..=256).contains(&value.len()), "{}", shown(member));
        assert!(
            key.iter()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte))
        );
        assert!(value.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'='), "{}", shown(member));
        keys.push(key);
    }
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "a key twice: {}", shown(&all));
}
