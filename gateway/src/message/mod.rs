//! The one model that every protocol version is read into and written from.
//!
//! A head is the received bytes plus spans into them. Nothing is copied to be understood; what a
//! message keeps is copied once, from the receive buffer into the send buffer, with the short list of
//! changes that [`encode`] makes. Names are looked up by a linear scan: a head has a dozen fields.
//!
//! This module has no I/O and knows no route, endpoint or configuration. The grammar is `httparse`'s;
//! the framing rules of RFC 9112 are ours, and stricter.

pub mod accept;
pub mod chunked;
pub mod cookies;
pub mod edits;
pub mod encode;
pub mod fields;
pub mod forwarded;
pub mod framing;
pub mod http2;
pub mod malformed;
pub mod query;
pub mod request;
pub mod response;
pub mod scan;
pub mod target;
pub mod trace_context;

pub use edits::{NO_NAMES, Names, Recoding, RequestEdits, ResponseEdits};
pub use fields::{Field, FieldKind, Fields, Span};
pub use framing::{Framing, Version};
pub use malformed::Malformed;
pub use request::{Method, RequestHead};
pub use response::ResponseHead;

#[cfg(test)]
mod fuzz_regressions;
