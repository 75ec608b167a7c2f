//! The admin API that writes: entries, changes, the history and the way back, and who may use it.

mod api;
mod auth;
mod doors;
mod entries;
mod history;
mod openapi;
#[expect(dead_code, reason = "the suite of TLS wants more of it")]
#[path = "../tls/pki.rs"]
mod pki;
mod problems;
mod routes;
