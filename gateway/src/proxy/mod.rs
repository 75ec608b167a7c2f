//! The life of a request, in the order in which it happens:
//!
//! 1. [`connection`] waits for bytes, finds where a head ends and gives up on those who never send one.
//! 2. [`prepare`] parses it, finds its app in the one table that this request will ever see, and writes
//!    the head that goes upstream; or it says why not.
//! 3. [`exchange`] picks an endpoint that has room ([`admission`]), takes or opens a connection, and tries another
//!    one where that is safe: [`retry`] knows which and whether, [`hedge`] does not wait for the first one to fail.
//! 4. [`attempt`] sends the request and waits for the response's head, [`patience`] says how long; bodies flow
//!    both ways through [`relay`], each only as fast as its receiver reads.
//! 5. [`feedback`] counts what an attempt says of its endpoint; [`record`] counts and logs, once per
//!    request, whatever became of it.
//!
//! Where an app has filters, [`screen`] asks them in 2; one that has to wait is waited for at the start of 3,
//! and [`ask`] is how it asks another app.
//!
//! They work on two things: the [`client`] and the request's [`facts`]. [`refuse`] ends a request that
//! goes nowhere, [`answer`] is what the gateway says itself. TCP listeners have their own short path in [`tcp`], UDP listeners theirs
//! in [`udp`]; [`pump`] carries their bytes and [`tunnel`] what is no longer HTTP.

mod admission;
pub mod admit;
mod answer;
mod ask;
mod attempt;
mod client;
mod date;
mod exchange;
mod facts;
mod feedback;
mod fill;
mod frames;
pub mod hashing;
mod hedge;
pub mod hops;
pub mod http1;
pub mod http2;
pub mod matching;
mod mirror;
mod outgoing;
mod pace;
pub mod patience;
mod prepare;
pub mod pump;
mod record;
mod refuse;
mod relay;
mod retry;
mod screen;
mod secure;
mod spans;
mod splice;
pub mod sticky;
pub mod tcp;
mod tee;
pub mod timeouts;
mod tunnel;
pub mod udp;
mod upstream;
mod wire;

pub use client::{Client, Origin};
pub use facts::{BodyLimits, Facts, LogFacts};
pub use http1::Http1;
pub use prepare::{grpc_deadline, is_grpc};
