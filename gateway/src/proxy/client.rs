//! Whoever sent a request: where it came from, how it speaks, and its one deadline.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::listener::HttpListener;
use crate::listener::proxy_protocol::Addresses;
use crate::listener::tls::ClientIdentity;
use crate::worker::{Deadline, Worker};

/// What is known of a connection, for all of its requests.
#[derive(Debug)]
pub struct Origin {
    pub listener: Rc<HttpListener>,
    pub peer: SocketAddr,
    /// Where it connected to, if that was not us.
    pub destination: Option<SocketAddr>,
    /// Whether the peer is one of `trusted_proxies`.
    pub is_trusted: bool,
    /// The name that a TLS client asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// Who a client with a verified certificate is.
    pub identity: Option<ClientIdentity>,
}

impl Origin {
    /// What endpoints are told that want to know.
    pub fn addresses(&self) -> Addresses {
        let destination = self.destination.unwrap_or(self.listener.address);
        Addresses { source: self.peer, destination }
    }

    /// Whether nothing is to be kept alive any more.
    pub fn is_draining(&self) -> bool {
        self.listener.ending.is_draining()
    }

    /// Whether a connection closes that waits for a request.
    pub fn closes_idle(&self) -> bool {
        self.listener.ending.closes_idle()
    }

    /// Whether what is under way is being cut.
    pub fn is_aborting(&self) -> bool {
        self.listener.ending.is_aborting()
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
    /// See [`Origin::is_draining`].
    pub fn is_draining(&self) -> bool {
        self.origin.is_draining()
    }

    /// See [`Origin::is_aborting`].
    pub fn is_aborting(&self) -> bool {
        self.origin.is_aborting()
    }
}
