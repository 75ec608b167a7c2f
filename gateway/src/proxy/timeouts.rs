//! How long the data plane waits, and why no longer. What listeners can set is in
//! [`crate::listener::Limits`]; what is an app's to say, [`super::patience`] takes from it.

use std::time::Duration;

/// For a TCP connection to an endpoint in the same data centre: one lost SYN is sent again after 1 s.
pub const CONNECT: Duration = Duration::from_secs(3);
/// From the last byte sent upstream to the end of the response's head. nginx's default.
pub const RESPONSE: Duration = Duration::from_secs(60);
/// Between two pieces of a body in either direction, and for a client to take what it is sent.
pub const BODY: Duration = Duration::from_secs(60);
/// Without a byte from a client that was told that we close (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_secs(2);
/// For it to stop sending altogether. nginx's default.
pub const LINGER_TOTAL: Duration = Duration::from_secs(30);
/// For the first request of a connection that was accepted before a drain began: it was on its way.
pub const LAST_CALL: Duration = Duration::from_secs(1);
/// Of a TCP listener's connections, without a byte in either direction. HAProxy's advice for databases.
pub const TUNNEL: Duration = Duration::from_secs(3600);
/// For a TLS handshake, which takes two round trips at the most.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// For which a connection to an endpoint is kept without a request. Below nginx's 60 s and Apache's, Go's
/// and HAProxy's longer ones. Node closes after 5 s: that close is seen as an event and the connection is
/// not lent.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(50);
/// What a gRPC call gets beyond its own deadline, so that its client ends it and not we.
pub const GRPC_GRACE: Duration = Duration::from_secs(1);
/// For a fast endpoint to have its next long piece ready. An endpoint that pauses is noticed at the next
/// sweep: what it has brought is late by that once, and never again in that body.
pub const GATHERING: Duration = Duration::from_millis(1);
/// For another request's connection to an HTTP/2 endpoint to become usable, instead of opening one more.
pub const SHARED_CONNECT: Duration = CONNECT;
/// Of a tunnel that one side has ended, without a byte from the other. As long as for a body.
pub const HALF_TUNNEL: Duration = BODY;
/// For which an HTTP/2 stream that we reset is remembered, so that frames already on their way to it are
/// no error: a few round trips.
pub const RESET_MEMORY: Duration = Duration::from_secs(2);
/// For a password to be verified, others before it included: a hash takes 50 ms, sixty of them may wait.
pub const VERIFICATION: Duration = Duration::from_secs(5);
