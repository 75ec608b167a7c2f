//! W3C Trace Context (Recommendation of 23 November 2021): `traceparent` and `tracestate`.

use super::fields::list_items;
use super::{FieldKind, RequestHead};

/// `00-` trace `-` parent `-` flags.
pub const TRACEPARENT_BYTES: usize = 55;
/// Section 3.3.1.5 asks for 512 at least; nobody needs a hundred times as much in every request.
const MAX_STATE_BYTES: usize = 8 << 10;
/// Section 3.3.1.1.
const MAX_MEMBERS: usize = 32;
/// Section 3.2.2.5: the one flag of version 00.
const SAMPLED: u8 = 1;

pub type TraceId = [u8; 16];
pub type SpanId = [u8; 8];

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Not all zeros.
    pub trace: TraceId,
    /// Not all zeros.
    pub span: SpanId,
    /// Whether the caller records, or may.
    pub is_sampled: bool,
}

impl Parent {
    /// Reads a field's value (section 3.2). Of a version above 00 it takes what version 00 has, as section
    /// 4.3 wants it.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(TRACEPARENT_BYTES)?;
        let [v1, v2, b'-', rest @ ..] = known else { return None };
        let version = hex_byte(*v1, *v2)?;
        let is_whole = match version {
            0 => more.is_empty(),
            // Section 3.2.2.1: it could not be told from a version that is none.
            0xff => false,
            _ => matches!(more, [] | [b'-', ..]),
        };
        let (trace, rest) = rest.split_at(32);
        let [b'-', rest @ ..] = rest else { return None };
        let (span, rest) = rest.split_at(16);
        let [b'-', f1, f2] = rest else { return None };
        let (trace, span) = (hex(trace)?, hex(span)?);
        let is_sampled = hex_byte(*f1, *f2)? & SAMPLED != 0;
        (is_whole && trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, is_sampled })
    }

    /// As version 00 has it.
    pub fn write(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace, &mut value[3..35]);
        write_hex(&self.span, &mut value[36..52]);
        value[54] = b'0' + u8::from(self.is_sampled);
        value
    }

    /// What a request says; `None` where it says nothing, or nothing that can be believed: two fields are
    /// none (section 3.2.1).
    pub fn of(request: &RequestHead, head: &[u8]) -> Option<Self> {
        let mut fields = request.fields.all(FieldKind::Traceparent);
        let field = fields.next()?;
        fields.next().is_none().then(|| Self::parse(field.value.within(head))).flatten()
    }
}

/// Whether a request's `tracestate` fields, together, are a list that others will understand (section 3.3).
/// We add nothing of our own, so that what is valid goes on as it came.
pub fn has_valid_state(request: &RequestHead, head: &[u8]) -> bool {
    let mut fields = request.fields.all(FieldKind::Tracestate).map(|field| field.value.within(head));
    let (mut bytes, mut keys) = (0, Vec::new());
    fields.all(|value| {
        bytes += value.len();
        bytes <= MAX_STATE_BYTES && list_items(value).all(|member| takes_member(member, &mut keys))
    })
}

fn takes_member<'h>(member: &'h [u8], keys: &mut Vec<&'h [u8]>) -> bool {
    let Some(equals) = memchr::memchr(b'=', member) else { return false };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let is_new = keys.len() < MAX_MEMBERS && !keys.contains(&key);
    keys.push(key);
    is_new && is_key(key) && is_value(value)
}

/// Section 3.3.1.3.1: a simple key, or one of a tenant and a system.
fn is_key(key: &[u8]) -> bool {
    let is_rest = |rest: &[u8]| {
        rest.iter().all(|byte| is_lower(*byte) || byte.is_ascii_digit() || b"_-*/".contains(byte))
    };
    match memchr::memchr(b'@', key) {
        None => matches!(key, [first, rest @ ..] if is_lower(*first) && rest.len() <= 255 && is_rest(rest)),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            let is_tenant = matches!(tenant, [first, rest @ ..]
                if (is_lower(*first) || first.is_ascii_digit()) && rest.len() <= 240 && is_rest(rest));
            is_tenant
                && matches!(system, [first, rest @ ..] if is_lower(*first) && rest.len() <= 13 && is_rest(rest))
        }
    }
}

/// Section 3.3.1.3.2: up to 256 visible characters and spaces, of which the last is no space.
fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len())
        && value.last() != Some(&b' ')
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && !b",=".contains(byte))
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase()
}

/// Lower case only (section 3.2.2).
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_byte(pair[0], pair[1])?;
    }
    Some(bytes)
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Twice as many digits as `bytes`.
pub fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_is_read_and_written_alike() {
        let parent = Parent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(parent.trace[..2], [0x4b, 0xf9]);
        assert_eq!(parent.span, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(parent.is_sampled);
        assert_eq!(parent.write(), VALID.as_bytes());
        // Flags that we do not know are not passed on (section 3.2.2.5.2).
        let other = Parent::parse(VALID.replace("-01", "-fe").as_bytes()).unwrap();
        assert!(!other.is_sampled && other.write().ends_with(b"-00"));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [VALID.replace("00-4", "cc-4"), VALID.replace("00-4", "01-4") + "-what-comes"] {
            assert_eq!(Parent::parse(later.as_bytes()), Parent::parse(VALID.as_bytes()), "{later}");
        }
    }

    #[test]
    fn whatever_breaks_a_rule_is_no_parent() {
        for bad in [
            "".to_owned(),
            VALID[..54].to_owned(),
            format!("{VALID}-00"),
            format!("{VALID}0"),
            VALID.to_uppercase(),
            VALID.replace("00-4", "ff-4"),
            VALID.replace("00-4", "cc-4") + ".",
            VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            VALID.replace("00f067aa0ba902b7", "0000000000000000"),
            VALID.replace("4bf9", "4bg9"),
            VALID.replace('-', "_"),
            format!(" {VALID}"),
        ] {
            assert_eq!(Parent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    fn said(fields: &str) -> (Option<Parent>, bool) {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let parsed = RequestHead::parse(head.as_bytes()).unwrap();
        (Parent::of(&parsed, head.as_bytes()), has_valid_state(&parsed, head.as_bytes()))
    }

    #[test]
    fn a_request_has_one_parent_or_none() {
        assert!(said(&format!("TraceParent: {VALID}\r\n")).0.is_some());
        assert!(said("").0.is_none());
        assert!(said(&format!("traceparent: {VALID}\r\ntraceparent: {VALID}\r\n")).0.is_none());
    }

    #[test]
    fn a_state_is_a_list_of_few_distinct_members() {
        for valid in
            ["", "a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a=1, ,b=2 ", "1t-_*/@sys=x y", "a=1,"]
        {
            assert!(said(&format!("tracestate: {valid}\r\n")).1, "{valid}");
        }
        let many: Vec<_> = (0..33).map(|number| format!("k{number}=v")).collect();
        for bad in [
            "a",
            "=1",
            "a=",
            "A=1",
            "a=1,a=2",
            "a=b=c",
            "a@b@c=1",
            "@b=1",
            "1a=1",
            "a=\u{e9}",
            &many.join(","),
        ] {
            assert!(!said(&format!("tracestate: {bad}\r\n")).1, "{bad}");
        }
        assert!(said(&format!("tracestate: {}\r\n", many[..32].join(","))).1);
        assert!(said("tracestate: a=1\r\ntracestate: b=2\r\n").1);
        assert!(!said("tracestate: a=1\r\ntracestate: a=2\r\n").1, "they are one list");
        let long = format!("a={}", "x".repeat(257));
        assert!(!said(&format!("tracestate: {long}\r\n")).1);
    }
}
