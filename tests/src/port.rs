//! Ports for servers that cannot say which one they took.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// The port of discard, where nobody listens. A datagram socket that talks to it gets nothing from others.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// Numbers that are free for one transport are nearly always free for the other one.
const ATTEMPTS: usize = 100;

/// A port on the loopback that nobody else is given as long as this value lives. Who sets `SO_REUSEADDR`,
/// as nearly all servers do, can bind it beside us.
pub struct HeldPort {
    /// Bound and never listening.
    tcp: Socket,
    /// Connected to nobody, so that no datagram of others comes to it.
    _udp: Option<Socket>,
}

impl HeldPort {
    /// # Panics
    /// When no port is free.
    pub fn tcp() -> Self {
        Self { tcp: bound(Type::STREAM, 0).expect("a port is free"), _udp: None }
    }

    /// The same number for both transports, as DNS has it.
    ///
    /// # Panics
    /// When no such port is free.
    pub fn tcp_and_udp() -> Self {
        let pair = || {
            let tcp = bound(Type::STREAM, 0)?;
            let udp = bound(Type::DGRAM, port_of(&tcp))?;
            udp.connect(&NOBODY.into())?;
            Ok::<_, std::io::Error>(Self { tcp, _udp: Some(udp) })
        };
        (0..ATTEMPTS).find_map(|_| pair().ok()).expect("a port is free")
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    pub fn port(&self) -> u16 {
        port_of(&self.tcp)
    }
}

fn bound(kind: Type, port: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

fn port_of(socket: &Socket) -> u16 {
    let address = socket.local_addr().expect("a bound socket has an address");
    address.as_socket().expect("it was bound to an IPv4 address").port()
}
