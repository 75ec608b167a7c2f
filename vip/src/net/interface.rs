//! The interface that carries virtual IPs: which one it is, whether it has a carrier, and that something about
//! it may have changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::error::{Capability, Error, Result};
use super::netlink::{Message, Requests, Socket, text};

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
/// `struct ifinfomsg`: family, type, index, flags, change.
const IFINFO: usize = 16;
const ARPHRD_ETHER: u16 = 1;
const LOOKING: &str = "looking up the interface";

/// A hardware address.
pub type Mac = [u8; 6];

/// An Ethernet interface as it was when it was looked up. One that is removed and made again under the same
/// name has another index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub mac: Mac,
    /// Up, and with somebody at the other end of the cable.
    pub carrier: bool,
}

/// What a link says of itself.
struct Link {
    name: String,
    index: u32,
    ethernet: bool,
    mac: Option<Mac>,
    carrier: bool,
}

impl Interface {
    /// Looks `name` up. Needs no capability.
    ///
    /// # Errors
    /// That there is no such interface, or that it is no Ethernet interface.
    pub fn find(name: &str) -> Result<Self> {
        let failed = |error: io::Error| Error::of(LOOKING, Capability::NetAdmin, error);
        let mut socket = Socket::open(None, 0).map_err(failed)?;
        let mut request = socket.requests();
        request.begin(libc::RTM_GETLINK, 0, &[0; IFINFO]);
        request.put_text(IFLA_IFNAME, name).end();
        let link = match socket.ask(&request, read_link) {
            Ok(Some(link)) => link,
            Ok(None) => return Err(failed(io::ErrorKind::InvalidData.into())),
            // ERANGE, EINVAL: longer than a name can be, or empty.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ERANGE | libc::EINVAL)) =>
            {
                return Err(Error::NoInterface { name: name.to_owned(), known: known(&mut socket)? });
            }
            Err(error) => return Err(failed(error)),
        };
        match link.mac {
            Some(mac) if link.ethernet => {
                Ok(Self { name: link.name, index: link.index, mac, carrier: link.carrier })
            }
            _ => Err(Error::NotEthernet { name: name.to_owned() }),
        }
    }
}

fn known(socket: &mut Socket) -> Result<Vec<String>> {
    let make = |request: &mut Requests| {
        request.begin(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; IFINFO]);
        request.end();
    };
    let links = socket.dump(make, read_link);
    let links = links.map_err(|error| Error::of(LOOKING, Capability::NetAdmin, error))?;
    Ok(links.into_iter().map(|link| link.name).collect())
}

fn read_link(message: &Message<'_>) -> Option<Link> {
    let (fixed, _) = message.payload.split_first_chunk::<IFINFO>()?;
    let flags = u32::from_ne_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
    let up = (libc::IFF_UP | libc::IFF_RUNNING).cast_unsigned();
    let attributes = message.attributes(IFINFO);
    Some(Link {
        name: attributes.find(IFLA_IFNAME).map(text)?.to_owned(),
        index: u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        ethernet: u16::from_ne_bytes([fixed[2], fixed[3]]) == ARPHRD_ETHER,
        mac: attributes.find(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()),
        carrier: flags & up == up,
    })
}

/// Tells that a link or an address has changed, somewhere: look again. What it was is not said, since
/// messages may be lost. Its descriptor is readable when there is something.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
}

impl Changes {
    /// # Errors
    /// The system's.
    pub fn watch() -> Result<Self> {
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let socket = Socket::open(None, groups.cast_unsigned());
        Ok(Self { socket: socket.map_err(|error| Error::of(WATCHING, Capability::NetAdmin, error))? })
    }

    /// Whether there was a change since the last call. Does not wait.
    ///
    /// # Errors
    /// The system's.
    pub fn take(&mut self) -> Result<bool> {
        self.socket.drain().map_err(|error| Error::of(WATCHING, Capability::NetAdmin, error))
    }
}

const WATCHING: &str = "watching links and addresses";

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
