//! Addresses on the interface: put one on, renew it, take it off, list them.
//!
//! A virtual IP is put on as a host address (/32, /128), so it brings no route and is no neighbour's gateway,
//! and with a lifetime: an address that nobody renews is removed by the kernel, within two seconds after its
//! `valid_lft`. That is the broom behind the fence, not the fence: lifetimes are whole seconds.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::error::{Capability, Error, Result};
use super::interface::Interface;
use super::netlink::{Message, Requests, Socket};

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: the lease says who has it, and a tentative address answers nobody for a second.
const IFA_F_NODAD: u32 = 0x02;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
const IFADDR: usize = 8;
const ADDING: &str = "putting a virtual IP on the interface";
const REMOVING: &str = "taking a virtual IP off the interface";
const LISTING: &str = "listing addresses";

/// The addresses of one network namespace.
#[derive(Debug)]
pub struct Addresses {
    socket: Socket,
}

/// An address, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    pub ip: IpAddr,
    pub prefix: u8,
    /// The interface's.
    pub index: u32,
    /// How long until the kernel removes it. `None`: never.
    pub valid: Option<Duration>,
}

/// What was found at a start: [`Addresses::remove_stale`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Were on the interface and are gone.
    pub removed: Vec<IpAddr>,
    /// Are on other interfaces, which are not ours to change: somebody must take them off, since this host
    /// answers for them whoever holds them.
    pub elsewhere: Vec<Assigned>,
}

impl Addresses {
    /// # Errors
    /// The system's.
    pub fn open() -> Result<Self> {
        let socket = Socket::open(None, 0);
        Ok(Self { socket: socket.map_err(|error| Error::of(LISTING, Capability::NetAdmin, error))? })
    }

    /// Puts `ip` on the interface or renews it: it stays for `lifetime`, rounded up to whole seconds. It can be
    /// used at once, and is deprecated from the beginning (`preferred_lft 0`), so that the host chooses it as the
    /// source of no connection of its own.
    ///
    /// # Errors
    /// The system's; CAP_NET_ADMIN is named where it is missing.
    pub fn put(&mut self, on: &Interface, ip: IpAddr, lifetime: Duration) -> Result<()> {
        let valid = lifetime.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX - 1)) as u32;
        let mut request = self.socket.requests();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE | libc::NLM_F_ACK;
        begin(&mut request, libc::RTM_NEWADDR, flags, on, ip, full_length(ip));
        // struct ifa_cacheinfo: preferred, valid, created, updated.
        let mut lifetimes = [0; 16];
        lifetimes[4..8].copy_from_slice(&valid.to_ne_bytes());
        request.put(IFA_CACHEINFO, &lifetimes);
        request.put(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        request.end();
        self.socket
            .acknowledge(&request)
            .map_err(|error| Error::of(ADDING, Capability::NetAdmin, explain(error, ip)))
    }

    /// Takes `ip` off: whether it was there.
    ///
    /// # Errors
    /// The system's; CAP_NET_ADMIN is named where it is missing.
    pub fn remove(&mut self, from: &Interface, ip: IpAddr) -> Result<bool> {
        self.remove_as(from, ip, full_length(ip))
    }

    /// Of this network namespace, of both families.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&mut self) -> Result<Vec<Assigned>> {
        let make = |request: &mut Requests| {
            request.begin(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; IFADDR]);
            request.end();
        };
        self.socket.dump(make, read).map_err(|error| Error::of(LISTING, Capability::NetAdmin, error))
    }

    /// What a crash or somebody's hand left: takes those of `vips` that are on the interface off it, whatever
    /// their prefix. Others are not touched.
    ///
    /// # Errors
    /// The system's; CAP_NET_ADMIN is named where it is missing.
    pub fn remove_stale(&mut self, from: &Interface, vips: &[IpAddr]) -> Result<Stale> {
        let mut stale = Stale::default();
        for found in self.list()?.into_iter().filter(|found| vips.contains(&found.ip)) {
            if found.index != from.index {
                stale.elsewhere.push(found);
            } else if self.remove_as(from, found.ip, found.prefix)? {
                stale.removed.push(found.ip);
            }
        }
        Ok(stale)
    }

    fn remove_as(&mut self, from: &Interface, ip: IpAddr, prefix: u8) -> Result<bool> {
        let mut request = self.socket.requests();
        begin(&mut request, libc::RTM_DELADDR, libc::NLM_F_ACK, from, ip, prefix);
        request.end();
        match self.socket.acknowledge(&request) {
            Ok(()) => Ok(true),
            // The address, or its interface, is gone.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
                Ok(false)
            }
            Err(error) => Err(Error::of(REMOVING, Capability::NetAdmin, error)),
        }
    }
}

fn begin(request: &mut Requests, kind: u16, flags: i32, on: &Interface, ip: IpAddr, prefix: u8) {
    let index = on.index.to_ne_bytes();
    let fixed = [family(ip), prefix, 0, 0, index[0], index[1], index[2], index[3]];
    request.begin(kind, flags, &fixed);
    match ip {
        IpAddr::V4(ip) => request.put(IFA_LOCAL, &ip.octets()).put(IFA_ADDRESS, &ip.octets()),
        IpAddr::V6(ip) => request.put(IFA_LOCAL, &ip.octets()).put(IFA_ADDRESS, &ip.octets()),
    };
}

fn read(message: &Message<'_>) -> Option<Assigned> {
    let (fixed, _) = message.payload.split_first_chunk::<IFADDR>()?;
    let attributes = message.attributes(IFADDR);
    let bytes = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    let ip = match i32::from(fixed[0]) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    let valid = attributes.find(IFA_CACHEINFO).and_then(|info| info.get(4..8)).and_then(super::netlink::ne32);
    let valid = valid.filter(|valid| *valid != u32::MAX).map(|valid| Duration::from_secs(valid.into()));
    let index = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    Some(Assigned { ip, prefix: fixed[1], index, valid })
}

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // Both are small.
    family as u8
}

fn full_length(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// What the kernel says in one word and nobody would guess.
fn explain(error: io::Error, ip: IpAddr) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EACCES) if ip.is_ipv6() => {
            io::Error::other("IPv6 is off on this interface: set net.ipv6.conf.*.disable_ipv6 to 0")
        }
        _ => error,
    }
}
