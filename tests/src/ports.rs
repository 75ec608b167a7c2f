//! Port numbers for processes that cannot be asked which one they took.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// A port that the system gives to nobody else while this value lives, although a process of the same
/// user that sets `SO_REUSEPORT` can bind and listen on it: the socket is bound and never listens.
pub struct Reservation {
    socket: Socket,
}

impl Reservation {
    /// # Panics
    /// When the system has no port left.
    pub fn take() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.set_reuse_port(true).expect("SO_REUSEPORT exists");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a port is free");
        Self { socket }
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("it was bound to an IPv4 address")
    }
}

/// A port that was free a moment ago. Another process may take it first: whoever uses it must be ready
/// to be told so and to try again.
///
/// # Panics
/// When the system has no port left.
pub fn unused_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("a bound socket has an address")
}
