//! The HTTP/1.1 message path, seen from both ends.

mod bodies;
mod connections;
mod forwarding;
mod hedges;
mod interim;
mod once;
mod pressure;
mod retries;
mod slow;
mod timeouts;

use tests::{Config, Endpoint, Gateway, RawEndpoint, Reply, Request};

/// A gateway in front of an endpoint that answers with its id.
fn plain() -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    (Gateway::start(&Config::in_front_of(endpoint.address())), endpoint)
}

/// A gateway in front of an endpoint that does as `behaviour` says.
fn behaving(behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::behaving("c1", behaviour);
    (Gateway::start(&Config::in_front_of(endpoint.address())), endpoint)
}

/// A gateway in front of an endpoint that sends `bytes` for every request head.
fn answering(bytes: impl Into<Vec<u8>>) -> (Gateway, RawEndpoint) {
    let endpoint = RawEndpoint::answering(bytes);
    (Gateway::start(&Config::in_front_of(endpoint.address())), endpoint)
}

/// Bytes that show where they were cut, doubled or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}
