//! A client that sends exactly the bytes it is given.

use std::io;
use std::net::SocketAddr;

use crate::DEADLINE;
use crate::message::{Response, ResponseHead};
use crate::wire::Wire;

pub struct RawClient {
    pub wire: Wire,
}

impl RawClient {
    /// # Panics
    /// When nobody listens.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        match Wire::connect(address, DEADLINE) {
            Ok(wire) => Self { wire },
            Err(error) => panic!("cannot connect to {address}: {error}"),
        }
    }

    /// # Panics
    /// When the connection is gone.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.wire.send(bytes.as_ref()) {
            panic!("cannot send: {error}");
        }
    }

    /// The response to the oldest GET (or anything else but HEAD) that is unanswered.
    ///
    /// # Panics
    /// When there is no well-formed and complete one.
    #[track_caller]
    pub fn receive(&mut self) -> Response {
        self.receive_for("GET")
    }

    /// # Panics
    /// When there is no well-formed and complete response.
    #[track_caller]
    pub fn receive_for(&mut self, method: &str) -> Response {
        match self.try_receive(method) {
            Ok(response) => response,
            Err(error) => panic!("no complete response: {error}"),
        }
    }

    /// # Errors
    /// When there is no well-formed and complete response.
    pub fn try_receive(&mut self, method: &str) -> io::Result<Response> {
        Response::read(&mut self.wire, method)
    }

    /// One response head, interim or final, and not what follows it.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn receive_head(&mut self) -> ResponseHead {
        match ResponseHead::read(&mut self.wire) {
            Ok(head) => head,
            Err(error) => panic!("no response head: {error}"),
        }
    }

    /// # Panics
    /// When there is no well-formed and complete response.
    #[track_caller]
    pub fn get(&mut self, host: &str, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.receive()
    }

    /// Whether the peer ends the connection without sending another byte. Waits for it.
    pub fn is_ended(&mut self) -> bool {
        match self.wire.some() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}
