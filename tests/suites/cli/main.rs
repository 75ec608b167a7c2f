//! What operators type: every command against a running gateway, its exit code, and the shape of its JSON.

mod agreement;
mod ask;
mod doors;
mod endpoints;
mod routes;
mod vip;

#[expect(dead_code, reason = "the suite of TLS wants more of it")]
#[path = "../tls/pki.rs"]
mod pki;
