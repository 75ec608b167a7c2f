//! Whoever sent a request: where it came from, how it speaks, and its one deadline.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::listener::HttpListener;
use crate::worker::{Deadline, Worker};

/// What is known of a connection, for all of its requests.
#[derive(Debug)]
pub struct Origin {
    pub listener: Rc<HttpListener>,
    pub peer: SocketAddr,
    /// Whether the peer is one of `trusted_proxies`.
    pub is_trusted: bool,
}

impl Origin {
    /// Whether the listener takes no new requests.
    pub fn is_draining(&self) -> bool {
        false
    }
}

/// The client of a request: a whole connection in HTTP/1.1, one of its streams in HTTP/2.
#[derive(Debug)]
pub struct Client<W> {
    pub worker: Rc<Worker>,
    pub origin: Rc<Origin>,
    pub deadline: Deadline,
    pub wire: W,
}

impl<W> Client<W> {
    /// Whether this is the last request that it may send: the worker stops.
    pub fn is_draining(&self) -> bool {
        self.worker.is_draining() || self.origin.is_draining()
    }
}
