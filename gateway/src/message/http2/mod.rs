//! HTTP/2's heads in the model that all messages have, and back (RFC 9113 section 8).
//!
//! A head is written out as HTTP/1.1 would have it while its spans are taken down, so everything that
//! reads heads reads these, and nothing is parsed twice. `h2` has checked the frames and the characters;
//! what a request or a response may say is checked here.

mod read;
mod trailers;
mod websocket;
mod write;

pub use read::{read_request, read_request_within, read_response};
pub use trailers::{read_trailers, write_trailers};
pub use websocket::accept as websocket_accept;
pub use write::{append_lines, write_interim, write_request, write_response, write_switched};

#[cfg(test)]
mod tests;
