//! Packet sockets: packet(7). They see and send what lies below the fence.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, SockAddr, Socket, Type};

use super::super::error::{Capability, Error, Result};
use super::super::interface::Interface;
use super::{ETHERTYPE_ARP, ETHERTYPE_IPV6, filter};

/// A claim and its options; what is longer is cut off.
const FRAME: usize = 256;
const OPENING: &str = "opening a packet socket on the interface";

/// Whole frames on one interface, of one protocol. Reads do not wait.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// To send on `interface` only.
    ///
    /// # Errors
    /// The system's; CAP_NET_RAW is named where it is missing.
    pub fn sender(interface: &Interface) -> Result<Self> {
        Self::open().and_then(|socket| socket.bound(interface, 0)).map_err(explain)
    }

    /// Every frame of the protocol `ethertype` that arrives on `interface`.
    ///
    /// # Errors
    /// As [`Self::sender`].
    pub fn receiver(interface: &Interface, ethertype: u16) -> Result<Self> {
        Self::open().and_then(|socket| socket.bound(interface, ethertype)).map_err(explain)
    }

    /// The ARP packets that arrive on `interface` and may claim one of `vips`, but for our own.
    pub(in super::super) fn arp_claims(interface: &Interface, vips: &[IpAddr]) -> Result<Self> {
        Self::filtered(interface, ETHERTYPE_ARP, &filter::arp(vips, interface.mac))
    }

    /// As [`Self::arp_claims`], for neighbour discovery.
    pub(in super::super) fn neighbour_claims(interface: &Interface, vips: &[IpAddr]) -> Result<Self> {
        Self::filtered(interface, ETHERTYPE_IPV6, &filter::neighbour(vips, interface.mac))
    }

    /// The filter first: nothing else ever gets in.
    fn filtered(interface: &Interface, ethertype: u16, program: &[socket2::SockFilter]) -> Result<Self> {
        let open = || {
            let socket = Self::open()?;
            socket.socket.attach_filter(program)?;
            socket.bound(interface, ethertype)
        };
        open().map_err(explain)
    }

    /// # Errors
    /// The system's, for instance that the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(|_| ())
    }

    /// The next frame, cut off at the end of `buffer`. `None`: there is none now.
    ///
    /// # Errors
    /// The system's, for instance that the interface has gone down, once.
    pub fn receive<'a>(&self, buffer: &'a mut [u8; FRAME]) -> io::Result<Option<&'a [u8]>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Receives nothing yet: it has no protocol.
    fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    fn bound(self, interface: &Interface, ethertype: u16) -> io::Result<Self> {
        self.socket.bind(&link_address(interface, ethertype)?)?;
        Ok(self)
    }
}

/// The interface and protocol as an address.
fn link_address(interface: &Interface, ethertype: u16) -> io::Result<SockAddr> {
    let index = i32::try_from(interface.index).map_err(|_| io::ErrorKind::InvalidInput)?;
    #[expect(unsafe_code, reason = "no crate makes an address of this family")]
    // SAFETY: the storage is zeroed, aligned for and larger than any address, and what is written is one of
    // the family that it names, with its length.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as u16;
            (*link).sll_protocol = ethertype.to_be();
            (*link).sll_ifindex = index;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

/// The size of what [`PacketSocket::receive`] fills.
pub type Frame = [u8; FRAME];

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn explain(error: io::Error) -> Error {
    Error::of(OPENING, Capability::NetRaw, error)
}
