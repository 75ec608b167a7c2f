//! Trailers: field lines after the last chunk, a HEADERS frame at the end of a stream.

use http::HeaderMap;

use super::super::chunked::{MAX_TRAILER_BYTES, is_allowed_trailer};
use super::super::{FieldKind, Malformed};
use super::write::append_lines;

/// Appends `fields` as field lines, without those that no recipient may take from a trailer section.
pub fn write_trailers(fields: &HeaderMap, out: &mut Vec<u8>) {
    let start = out.len();
    for (name, value) in fields {
        let name = name.as_str().as_bytes();
        let is_ours = FieldKind::of(name).is_hop_by_hop() || FieldKind::of(name) == FieldKind::Host;
        let has_room = out.len() - start + name.len() + value.len() + 4 <= MAX_TRAILER_BYTES;
        if is_ours || !is_allowed_trailer(name) || !has_room {
            continue;
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes().trim_ascii());
        out.extend_from_slice(b"\r\n");
    }
}

/// `lines` are what [`super::super::chunked::ChunkedDecoder::trailers`] kept.
///
/// # Errors
/// [`Malformed::Grammar`] for a field that HTTP/2 cannot carry.
pub fn read_trailers(lines: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut fields = HeaderMap::new();
    append_lines(lines, &mut fields)?;
    Ok(fields)
}
