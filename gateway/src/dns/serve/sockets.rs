//! Opening what queries come in by: one port, for datagrams and connections.

use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::{TcpListener, UdpSocket};

use crate::listener::{Presence, Transport, bind, join, listen, local_address};

/// Port 0 means one that both transports have free.
const ATTEMPTS: usize = 16;

/// Bound, and not read yet.
pub struct Bound {
    pub configured: SocketAddr,
    pub address: SocketAddr,
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

/// Of one address, on the runtime that serves it.
pub struct Doors {
    pub address: SocketAddr,
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

impl Bound {
    /// `beside`: where a process or a configuration before this one answers, which goes on until this one does.
    ///
    /// # Errors
    /// That the address is taken, is not here, or needs a privilege.
    pub fn open(
        configured: SocketAddr,
        presence: Presence,
        beside: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let told = || format!("dns.listen: cannot answer at {configured}");
        if let Some(address) = beside {
            let both = join_both(address);
            return both.map(|(udp, tcp)| Self { configured, address, udp, tcp }).with_context(told);
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::open_new(configured, presence) {
                Ok(bound) => return Ok(bound),
                Err(error) => last = Some(error),
            }
            if configured.port() != 0 {
                break;
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into())).with_context(told)
    }

    fn open_new(configured: SocketAddr, presence: Presence) -> io::Result<Self> {
        let one = |address, transport| {
            bind(address, 1, transport, presence)?.pop().ok_or(io::Error::from(io::ErrorKind::AddrInUse))
        };
        let udp: socket2::Socket = one(configured, Transport::Datagram)?;
        let address = local_address(&udp)?;
        let tcp: socket2::Socket = one(address, Transport::Stream)?;
        listen(&tcp, Transport::Stream)?;
        Ok(Self { configured, address, udp: udp.into(), tcp: tcp.into() })
    }

    /// # Errors
    /// When the runtime does not take them.
    pub fn into_doors(self) -> io::Result<Doors> {
        Ok(Doors {
            address: self.address,
            udp: UdpSocket::from_std(self.udp)?,
            tcp: TcpListener::from_std(self.tcp)?,
        })
    }
}

fn join_both(address: SocketAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let (udp, tcp) = (join(address, Transport::Datagram)?, join(address, Transport::Stream)?);
    listen(&tcp, Transport::Stream)?;
    Ok((udp.into(), tcp.into()))
}
