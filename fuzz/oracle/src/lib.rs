//! What must hold for any bytes that arrive from outside. Every entry point takes arbitrary bytes and
//! panics where a promise is broken: the fuzz targets and `tests/suites/differential.rs` call them.
//!
//! hyper is the second opinion on HTTP/1.1. The rule is one-sided: what we refuse, hyper may take; what
//! we accept, hyper must accept and read in the same way, but for the list in [`differences`].

mod chunked;
mod claims;
mod client_hello;
mod differences;
mod dns;
mod lookups;
mod ours;
mod peer_messages;
mod pieces;
mod proxy_header;
mod registry;
mod requests;
mod responses;
mod roundtrip;
mod saved;
mod theirs;
mod trace_context;
mod translation;

pub use chunked::chunked;
pub use claims::address_claims;
pub use client_hello::client_hello;
pub use dns::dns_query;
pub use lookups::lookups;
pub use peer_messages::peer_messages;
pub use proxy_header::proxy_header;
pub use registry::registry_values;
pub use requests::requests;
pub use responses::responses;
pub use saved::saved;
pub use trace_context::trace_context;
pub use translation::http2_translation;

/// Bytes as a failed assertion shows them.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
