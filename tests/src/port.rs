//! Ports for servers that cannot say which one they took.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// The port of discard, where nobody listens. A datagram socket that talks to it gets nothing from others.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// Numbers that are free for one transport are nearly always free for the other one.
const ATTEMPTS: usize = 100;

/// Ports of a range.
const PORTS: u16 = 40;
/// Below the kernel's range of ephemeral ports.
const FIRST_PORT: u16 = 20_000;
const RANGES: u16 = 300;

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

/// First and last of a range that nobody else has as long as this process lives: neither a test of it nor another process.
///
/// # Panics
/// When all are taken.
pub fn ports() -> [u16; 2] {
    static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("sluice-test-ports");
    fs::create_dir_all(&folder).expect("a temporary folder can be made");
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for range in 0..RANGES {
        let path = folder.join(range.to_string());
        let file = OpenOptions::new().create(true).append(true).open(path).expect("the folder is ours");
        if file.try_lock().is_ok() {
            taken.push(file);
            let first = FIRST_PORT + range * PORTS;
            return [first, first + PORTS - 1];
        }
    }
    panic!("no range of ports is left of {RANGES}")
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
