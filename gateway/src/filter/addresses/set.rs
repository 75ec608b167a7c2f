//! A set of addresses that is asked in the same few steps whatever its size.

use std::net::IpAddr;

use ipnet::IpNet;

/// Ranges that do not touch, in order. The first 16 bits of an IPv4 address say where in the list its
/// range would be, so that among 100,000 networks no more than a few are compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Vec<(u32, u32)>,
    /// Per first 16 bits: the first range that ends at or after their first address. One more at the end.
    /// Empty for short lists, where searching is as quick.
    index: Box<[u32]>,
    v6: Vec<(u128, u128)>,
    networks: usize,
}

/// As many steps of a search as one look into the index costs.
const MIN_INDEXED: usize = 64;

impl AddressSet {
    pub fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }
        let v4 = merge(v4, |end| end.checked_add(1));
        let index = if v4.len() < MIN_INDEXED { Box::default() } else { index(&v4) };
        Self { v4, index, v6: merge(v6, |end| end.checked_add(1)), networks: networks.len() }
    }

    /// IPv4 in IPv6's clothes is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.contains_v4(v4.into()),
            IpAddr::V6(v6) => is_within(&self.v6, v6.into()),
        }
    }

    fn contains_v4(&self, address: u32) -> bool {
        let high = (address >> 16) as usize;
        match self.index.get(high..high + 2) {
            // The range that the next 16 bits' first address would be in may begin here.
            Some(&[from, to]) => {
                is_within(&self.v4[from as usize..(to as usize + 1).min(self.v4.len())], address)
            }
            _ => is_within(&self.v4, address),
        }
    }

    /// As many as were named.
    pub fn networks(&self) -> usize {
        self.networks
    }
}

fn is_within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= address);
    after > 0 && address <= ranges[after - 1].1
}

/// In order, without overlaps and without two that are neighbours.
fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some((_, last)) if next(*last).is_none_or(|next| start <= next) => *last = end.max(*last),
            _ => merged.push((start, end)),
        }
    }
    merged.shrink_to_fit();
    merged
}

fn index(ranges: &[(u32, u32)]) -> Box<[u32]> {
    let first_at_or_after = |high: u32| match high.checked_shl(16).filter(|_| high <= 0xffff) {
        Some(address) => ranges.partition_point(|(_, end)| *end < address) as u32,
        None => ranges.len() as u32,
    };
    (0..=0x1_0000).map(first_at_or_after).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_has_its_first_and_its_last_address() {
        let networks = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128"];
        let set = AddressSet::new(&networks.map(|network| network.parse().unwrap()));
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8:ffff::", "::1", "::ffff:10.1.2.3"]
        {
            assert!(set.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::2"] {
            assert!(!set.contains(outside.parse().unwrap()), "{outside}");
        }
        assert_eq!((set.networks(), set.v4.len()), (4, 2));
    }

    #[test]
    fn the_whole_world_is_one_range() {
        let set = AddressSet::new(&["0.0.0.0/1".parse().unwrap(), "128.0.0.0/1".parse().unwrap()]);
        assert_eq!(set.v4, [(0, u32::MAX)]);
        assert!(set.contains("255.255.255.255".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn it_agrees_with_asking_every_network(
            networks in prop::collection::vec((0..1u32 << 20, 8..=32u8), 0..300),
            asked in prop::collection::vec(0..1u32 << 20, 1..100),
        ) {
            // Few high bits and few low ones, so that networks meet and their edges are asked.
            let spread = |bits: u32| std::net::Ipv4Addr::from((bits >> 10) << 15 | bits & 0x3ff);
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(bits, length)| ipnet::Ipv4Net::new(spread(bits), length).unwrap().trunc().into())
                .collect();
            let set = AddressSet::new(&networks);
            for bits in asked {
                let address = IpAddr::V4(spread(bits));
                let wanted = networks.iter().any(|network| network.contains(&address));
                prop_assert_eq!(set.contains(address), wanted, "{}", address);
            }
        }
    }
}
