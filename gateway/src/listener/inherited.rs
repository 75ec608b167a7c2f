//! Listening sockets that this process did not open: the service manager passed them at the start, or the
//! process that it takes over from.
//!
//! None may be left open without being read: the kernel would go on giving it its share of the clients.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use socket2::Socket;

use super::{Transport, local_address};
use crate::config::ListenerConfig;

/// The sockets of one listener.
#[derive(Debug)]
pub struct Inherited {
    pub name: Arc<str>,
    /// What the configuration said that it was opened by; port 0 where it said so.
    pub configured: SocketAddr,
    pub address: SocketAddr,
    pub transport: Transport,
    pub sockets: Vec<Socket>,
}

/// The sockets of a listener, each with the worker that reads it.
#[derive(Debug)]
pub struct Spread {
    pub sockets: Vec<(usize, Socket)>,
    /// The first worker that has none of its own.
    pub wanting: usize,
}

impl Inherited {
    fn is_at(&self, config: &ListenerConfig) -> bool {
        self.transport == config.protocol.transport()
            && (self.configured == config.address || self.address == config.address)
    }
}

/// What a descriptor that was passed to us is: its address and its kind. Sets it up as our own are.
///
/// # Errors
/// When it is no socket that a listener can have.
pub fn examine(descriptor: OwnedFd) -> io::Result<(Socket, SocketAddr, Transport)> {
    let unusable = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let transport = match socket_type(&descriptor)? {
        SocketType::STREAM if socket_acceptconn(&descriptor)? => Transport::Stream,
        SocketType::STREAM => return Err(unusable("a stream socket that does not listen")),
        SocketType::DGRAM => Transport::Datagram,
        _ => return Err(unusable("neither a stream nor a datagram socket")),
    };
    let socket = Socket::from(descriptor);
    let address = local_address(&socket).map_err(|_| unusable("no socket of an IP address"))?;
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    if transport == Transport::Stream {
        socket.set_tcp_nodelay(true)?;
    }
    Ok((socket, address, transport))
}

/// For each wanted listener what was passed for it, and what nobody wants. A name that stays at its address
/// comes before a name that takes over another's.
pub fn assign(
    wanted: &[ListenerConfig],
    mut passed: Vec<Inherited>,
) -> (Vec<Option<Inherited>>, Vec<Inherited>) {
    let mut take =
        |fits: &dyn Fn(&Inherited) -> bool| passed.iter().position(fits).map(|at| passed.remove(at));
    let mut found: Vec<_> =
        wanted.iter().map(|config| take(&|one| *one.name == *config.name && one.is_at(config))).collect();
    for (config, found) in wanted.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
        *found = take(&|one| config.address.port() != 0 && one.is_at(config));
    }
    (found, passed)
}

/// Gives every socket to one of so many workers. Workers that are left over read a connection's socket
/// together with another one; a datagram socket has one reader, or a client's datagrams would go two ways.
///
/// # Errors
/// When the process has no descriptor left.
pub fn spread(sockets: Vec<Socket>, workers: usize, transport: Transport) -> io::Result<Spread> {
    let wanting = sockets.len().min(workers);
    let mut shared = Vec::new();
    if transport == Transport::Stream && !sockets.is_empty() {
        for worker in wanting..workers {
            shared.push((worker, sockets[worker % sockets.len()].try_clone()?));
        }
    }
    let own = sockets.into_iter().enumerate().map(|(at, socket)| (at % workers, socket));
    Ok(Spread { sockets: own.chain(shared).collect(), wanting })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::config::{HttpsConfig, ListenerProtocol};
    use crate::listener::Presence;
    use crate::listener::{bind, listen};

    fn config(name: &str, address: &str) -> ListenerConfig {
        let protocol = ListenerProtocol::Http { tls: None, http2: true, https: HttpsConfig::default() };
        let proxy_protocol = Default::default();
        ListenerConfig {
            name: name.into(),
            address: address.parse().unwrap(),
            proxy_protocol,
            presence: Presence::Required,
            limits: Arc::default(),
            protocol,
        }
    }

    fn passed(name: &str, configured: &str, address: &str) -> Inherited {
        let (configured, address) = (configured.parse().unwrap(), address.parse().unwrap());
        Inherited {
            name: name.into(),
            configured,
            address,
            transport: Transport::Stream,
            sockets: Vec::new(),
        }
    }

    #[test]
    fn sockets_are_found_by_name_and_address_or_else_by_address() {
        const A: &str = "127.0.0.1:1001";
        const B: &str = "127.0.0.1:1002";
        const ANY: &str = "127.0.0.1:0";
        for (wanted, expected, left) in [
            (&[("a", A), ("b", B), ("any", ANY)][..], &["a", "b", "any"][..], 0),
            (&[("a", B), ("b", A)], &["b", "a"], 1),
            (&[("new", A), ("any", "127.0.0.1:1003")], &["a", "any"], 1),
            (&[("new", ANY), ("a", "127.0.0.1:1009")], &["", ""], 3),
            (&[("new", A), ("a", A)], &["", "a"], 2),
        ] {
            let all = vec![passed("a", A, A), passed("b", B, B), passed("any", ANY, "127.0.0.1:1003")];
            let wanted: Vec<_> = wanted.iter().map(|(name, address)| config(name, address)).collect();
            let (found, unwanted) = assign(&wanted, all);
            let names: Vec<_> = found.iter().map(|one| one.as_ref().map_or("", |one| &*one.name)).collect();
            assert_eq!((&names[..], unwanted.len()), (expected, left), "{wanted:?}");
        }
    }

    #[test]
    fn no_socket_is_without_a_worker() {
        let address = "127.0.0.1:0".parse().unwrap();
        for sockets in 1..5 {
            for workers in 1..5 {
                for transport in [Transport::Stream, Transport::Datagram] {
                    let all = bind(address, sockets, transport, Presence::Required).unwrap();
                    let spread = spread(all, workers, transport).unwrap();
                    let readers: Vec<_> = spread.sockets.iter().map(|(worker, _)| *worker).collect();
                    assert!(readers.iter().all(|worker| *worker < workers));
                    assert_eq!(spread.wanting, sockets.min(workers));
                    let expected = match transport {
                        Transport::Stream => sockets.max(workers),
                        Transport::Datagram => sockets,
                    };
                    assert_eq!(readers.len(), expected, "{sockets} on {workers}");
                    if transport == Transport::Stream {
                        assert!((0..workers).all(|worker| readers.contains(&worker)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_descriptor_is_looked_at_before_it_is_used() {
        let stream = bind("127.0.0.1:0".parse().unwrap(), 1, Transport::Stream, Presence::Required)
            .unwrap()
            .pop()
            .unwrap();
        listen(&stream, Transport::Stream).unwrap();
        let at = local_address(&stream).unwrap();
        let (_, address, transport) = examine(stream.into()).unwrap();
        assert_eq!((address, transport), (at, Transport::Stream));
        let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = datagram.local_addr().unwrap();
        let (_, address, transport) = examine(datagram.into()).unwrap();
        assert_eq!((address, transport), (at, Transport::Datagram));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(examine(connected.into()).is_err());
        assert!(examine(std::os::unix::net::UnixDatagram::unbound().unwrap().into()).is_err());
        assert!(examine(tempfile::tempfile().unwrap().into()).is_err());
    }
}
