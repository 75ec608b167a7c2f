//! From which addresses apps may have something fetched for them.
//!
//! The gateway asks from where tenants cannot: its own machine answers it on the loopback, and the machine's
//! provider on link-local addresses, with credentials. Addresses are looked at once they are known, and connected
//! to as they were looked at: a name that points elsewhere a moment later changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

/// Where providers answer questions about a machine beside 169.254.0.0/16: Azure's and Alibaba's.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
/// The same of AWS, for IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// What the operator lets apps have beside what everybody may.
    allowed: Arc<[IpNet]>,
}

impl Reach {
    pub fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into() }
    }

    /// # Errors
    /// What to do about it.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        let address = address.to_canonical();
        if !is_refused(address) || self.allowed.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        Err(format!(
            "{address} is of this machine or its surroundings, from which apps have nothing fetched; write another \
             address, or have its network added to gateway.jwks_networks in sluice.toml"
        ))
    }

    /// # Errors
    /// As [`Self::check`], of a URL with an address in place of a name.
    pub fn check_url(&self, url: &str) -> Result<(), String> {
        let uri: Option<hyper::Uri> = url.parse().ok();
        let address = uri.as_ref().and_then(|uri| bare_host(uri)?.parse().ok());
        address.map_or(Ok(()), |address| self.check(address))
    }
}

/// Without the brackets of an IPv6 address.
pub fn bare_host(uri: &hyper::Uri) -> Option<&str> {
    uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']'))
}

fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_refused_v4(v4),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6 == METADATA_V6
                || embedded(v6).is_some_and(is_refused_v4)
        }
    }
}

fn is_refused_v4(v4: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 is "this host on this network" (RFC 6890).
    v4.octets()[0] == 0
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || METADATA_V4.contains(&v4)
}

/// The IPv4 address that a translator would make of it: NAT64 (RFC 6052), 6to4 (RFC 3056), and the old
/// IPv4-compatible form (RFC 4291 section 2.5.5.1).
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |segments: [u16; 8]| Ipv4Addr::from(u32::from(segments[6]) << 16 | u32::from(segments[7]));
    match v6.segments() {
        segments @ ([0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, ..]) => Some(last(segments)),
        [0x2002, high, low, ..] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_can_reach_is_refused() {
        let reach = Reach::default();
        for refused in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::127.0.0.1",
        ] {
            let why = reach.check(refused.parse().unwrap()).unwrap_err();
            assert!(why.contains("gateway.jwks_networks"), "{why}");
        }
        for fine in [
            "192.0.2.1",
            "10.0.0.1",
            "100.64.0.1",
            "2001:db8::1",
            "fd00::1",
            "64:ff9b::a00:1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(reach.check(fine.parse().unwrap()), Ok(()), "{fine}");
        }
        let reach = Reach::new(&["127.0.0.0/8".parse().unwrap()]);
        assert!(reach.check("::ffff:127.0.0.1".parse().unwrap()).is_ok());
        assert!(reach.check("::1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_url_with_an_address_is_looked_at_before_anything_is_asked() {
        let reach = Reach::default();
        for refused in ["http://127.0.0.1:1/", "https://[::1]/keys", "http://169.254.169.254/latest"] {
            assert!(reach.check_url(refused).is_err(), "{refused}");
        }
        for fine in ["https://id.test/keys", "http://192.0.2.1/", "no URL"] {
            assert_eq!(reach.check_url(fine), Ok(()), "{fine}");
        }
    }
}
