//! What is known of a service's requests of some stretch of time.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::FixedState;

use super::clients::Clients;
use super::latency::Latencies;
use super::top::Top;

/// 1xx to 5xx.
pub const CLASSES: usize = 5;

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub status: u16,
    /// By the gateway's account, whatever its status.
    pub has_failed: bool,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    /// `None`: it was no request and a response.
    pub took: Option<Duration>,
    pub client: IpAddr,
    /// With or without a query, which does not count.
    pub target: &'a [u8],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub failures: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub classes: [u64; CLASSES],
}

impl Counts {
    fn count(&mut self, seen: &Seen<'_>) {
        self.requests += 1;
        self.failures += u64::from(seen.has_failed);
        self.received_bytes += seen.received_bytes;
        self.sent_bytes += seen.sent_bytes;
        self.classes[usize::from(seen.status / 100).clamp(1, CLASSES) - 1] += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.classes.iter_mut().zip(&other.classes).for_each(|(own, other)| *own += other);
    }
}

/// Counts, and sketches of what cannot be counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub counts: Counts,
    pub clients: Clients,
    pub latencies: Latencies,
    pub top_paths: Top,
    pub top_clients: Top,
}

impl Tally {
    /// `hashes` is the same everywhere in the process, and nobody outside can know it: else clients could
    /// choose themselves names that collide.
    pub fn count(&mut self, seen: &Seen<'_>, hashes: &FixedState) {
        self.counts.count(seen);
        seen.took.into_iter().for_each(|took| self.latencies.add(took));
        let address = octets(seen.client);
        let client = hashes.hash_one(address);
        self.clients.add((client >> 32) as u32);
        self.top_clients.add(client, &address);
        let path = path_of(seen.target);
        self.top_paths.add(hashes.hash_one(path), path);
    }

    pub fn merge(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.clients.merge(&other.clients);
        self.latencies.merge(&other.latencies);
        self.top_paths.merge(&other.top_paths);
        self.top_clients.merge(&other.top_clients);
    }

    /// About what it takes.
    pub fn bytes(&self) -> usize {
        let parts =
            [self.clients.bytes(), self.latencies.bytes(), self.top_paths.bytes(), self.top_clients.bytes()];
        size_of::<Self>() + parts.into_iter().sum::<usize>()
    }
}

/// As [`address_of`] reads it: IPv4 addresses as IPv6 has them.
fn octets(client: IpAddr) -> [u8; 16] {
    match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The client that a name among [`Tally::top_clients`] is.
pub fn address_of(name: &[u8]) -> Option<IpAddr> {
    <[u8; 16]>::try_from(name).ok().map(|octets| IpAddr::from(octets).to_canonical())
}

/// Of an absolute target too, which names its host first.
fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let target = &target[..end];
    match memchr::memmem::find(target, b"://") {
        Some(scheme) if !target.starts_with(b"/") => {
            let rest = &target[scheme + 3..];
            memchr::memchr(b'/', rest).map_or(b"/", |slash| &rest[slash..])
        }
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_was_asked_for_without_its_query() {
        for (target, path) in [
            (&b"/a/b?c=d"[..], &b"/a/b"[..]),
            (b"/", b"/"),
            (b"*", b"*"),
            (b"http://a.test/x?y", b"/x"),
            (b"http://a.test?y", b"/"),
            (b"/go?to=http://b/x", b"/go"),
            (b"/http://b/x", b"/http://b/x"),
        ] {
            assert_eq!(path_of(target), path);
        }
    }

    #[test]
    fn an_address_is_one_client_in_whatever_form() {
        let (plain, mapped): (IpAddr, IpAddr) =
            ("192.0.2.7".parse().unwrap(), "::ffff:192.0.2.7".parse().unwrap());
        assert_eq!(octets(plain), octets(mapped));
        assert_eq!(address_of(&octets(plain)), Some(plain));
        assert_eq!(address_of(b"short"), None);
    }
}
