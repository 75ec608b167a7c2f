//! Where we accept what hyper refuses or reads differently, on purpose. docs/fuzzing.md gives the
//! reasons in full; nothing that is not here may differ.

use gateway::message::{FieldKind, Fields};

/// `http::Uri` refuses some characters that RFC 3986 does not have. Clients send them, endpoints live with
/// them, and they delimit nothing in a request line: the target is forwarded as it came.
pub fn may_refuse_target(target: &[u8]) -> bool {
    target.iter().any(|byte| matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'))
}

/// hyper ignores a whole Connection field with bytes outside ASCII; we heed the options in it (obs-text,
/// RFC 9110 section 5.5).
pub fn may_differ_in_keep_alive(fields: &Fields, head: &[u8]) -> bool {
    fields.all(FieldKind::Connection).any(|field| !field.value.within(head).is_ascii())
}
