//! What a WebSocket client wants to see before it believes that it is understood.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{FieldKind, RequestHead, Version};

/// RFC 6455 section 1.3. SHA-1 proves nothing there but that the server read the request.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The Sec-WebSocket-Accept for a client that gave a key (RFC 6455 section 4.2.2). An endpoint that
/// speaks HTTP/2 never sees the key (RFC 8441 section 5.1), so we answer for it.
pub fn accept(request: &RequestHead, head: &[u8]) -> Option<Box<[u8]>> {
    let is_websocket = request.upgrade?.within(head).eq_ignore_ascii_case(b"websocket");
    if request.version != Version::Http11 || !is_websocket {
        return None;
    }
    let key = request.fields.first(FieldKind::SecWebSocketKey)?.value.within(head);
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    Some(STANDARD.encode(proof).into_bytes().into())
}
