//! The watch for other hosts that claim our addresses.
//!
//! It sees what the link shows this host: ARP packets and advertisements to everybody or to it. That it sees
//! nothing proves nothing; who holds an address is decided by the lease.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use super::error::Result;
use super::interface::{Interface, Mac};
use super::packet::{Claim, Frame, PacketSocket, claim};

/// Frames that are read at one go: whoever floods the link with claims keeps nobody from his other work.
const FRAMES_AT_ONCE: usize = 256;

/// Claims of our addresses by hardware addresses that are not ours.
#[derive(Debug)]
pub struct ConflictWatch {
    arp: PacketSocket,
    neighbour: PacketSocket,
    own: Mac,
    vips: HashSet<IpAddr>,
}

impl ConflictWatch {
    /// # Errors
    /// The system's; CAP_NET_RAW is named where it is missing.
    pub fn open(interface: &Interface, vips: &[IpAddr]) -> Result<Self> {
        Ok(Self {
            arp: PacketSocket::arp_claims(interface, vips)?,
            neighbour: PacketSocket::neighbour_claims(interface, vips)?,
            own: interface.mac,
            vips: vips.iter().copied().collect(),
        })
    }

    /// The claims that have arrived since the last call, each once. Does not wait. Where there is more than can be read at
    /// one go, the descriptors stay readable.
    pub fn take(&mut self) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut frame: Frame = [0; size_of::<Frame>()];
        for socket in [&self.arp, &self.neighbour] {
            for _ in 0..FRAMES_AT_ONCE {
                match socket.receive(&mut frame) {
                    Ok(Some(frame)) => claims.extend(claim(frame).filter(|claim| self.concerns(claim))),
                    Ok(None) => break,
                    // The interface went down, which is told once.
                    Err(_) => {}
                }
            }
        }
        claims.sort_unstable_by_key(|claim| (claim.ip, claim.mac));
        claims.dedup();
        claims
    }

    /// Readable when [`Self::take`] may find something: of ARP, and of neighbour discovery.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.arp.as_fd(), self.neighbour.as_fd()]
    }

    fn concerns(&self, claim: &Claim) -> bool {
        claim.mac != self.own && self.vips.contains(&claim.ip)
    }
}
