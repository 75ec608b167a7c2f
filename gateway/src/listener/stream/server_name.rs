//! The name that a client asks for.
//!
//! rustls tells it only to who chooses the certificate, in the middle of reading the ClientHello. Both
//! happen within one call on one thread, so a note for that thread is enough.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

thread_local! {
    static NOTED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Certificates, chosen by the one inside; the name by which they are chosen is then known to
/// [`Stream::server_name`](super::Stream::server_name).
#[derive(Debug)]
pub struct NotesServerName(pub Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for NotesServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        NOTED.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// What was noted since the last call.
pub fn take_noted() -> Option<Box<str>> {
    NOTED.take()
}
