//! A ring of points that other programs make in the same way: nginx's `hash … consistent` and Cache::Memcached::Fast.
//!
//! As nginx's `ngx_http_upstream_hash_module` has it: each server has 160 points for each unit of its weight. The first
//! is the CRC-32 of (host, 0, port, 0000), and each next one of (host, 0, port, the point before, its lowest byte first).
//! A key belongs to the first point that is not below its own CRC-32, and behind that come those who stand in for it.

/// nginx's and Cache::Memcached::Fast's.
const POINTS: u64 = 160;
/// 2 MiB. Where there would be more of them, everybody has less, and the ring is no longer nginx's.
const MAX_POINTS: u64 = 1 << 18;

#[derive(Debug, PartialEq, Eq)]
pub struct Ketama {
    /// By point: the positions of members.
    points: Box<[(u32, u32)]>,
}

impl Ketama {
    /// Of members as host and port, by weight; only how their weights are to each other counts.
    pub fn new<'m>(members: impl Iterator<Item = (&'m str, &'m str, u32)>) -> Self {
        let members: Vec<_> = members.collect();
        let divisor =
            members.iter().fold(0, |divisor, (.., weight)| greatest_common_divisor(divisor, *weight)).max(1);
        let weights = members.iter().map(|(.., weight)| u64::from(weight / divisor));
        let wanted: u64 = weights.clone().map(|weight| weight * POINTS).sum();
        let counts = weights.map(|weight| match wanted > MAX_POINTS {
            // Everybody with a weight has one at least.
            true => (weight * POINTS * MAX_POINTS / wanted).max(u64::from(weight > 0)),
            false => weight * POINTS,
        });
        let mut points = Vec::new();
        for ((position, (host, port, _)), count) in (0u32..).zip(&members).zip(counts) {
            let base = [host.as_bytes(), &[0], port.as_bytes()].concat();
            let base = base.iter().fold(START, |crc, byte| step(crc, *byte));
            let mut point = 0u32;
            for _ in 0..count {
                point = !point.to_le_bytes().iter().fold(base, |crc, byte| step(crc, *byte));
                points.push((point, position));
            }
        }
        // Stable, as nginx keeps the first of two.
        points.sort_by_key(|(point, _)| *point);
        points.dedup_by_key(|(point, _)| *point);
        Self { points: points.into() }
    }

    /// The members whom a key belongs to, from the first to those that stand in for it; without an end.
    pub fn owners(&self, key: u64) -> impl Iterator<Item = usize> {
        let first = self.points.partition_point(|(point, _)| u64::from(*point) < key);
        let length = self.points.len();
        (first..).map_while(move |at| Some(self.points.get(at.checked_rem(length)?)?.1 as usize))
    }
}

/// A key's point.
pub fn point(bytes: impl IntoIterator<Item = u8>) -> u64 {
    u64::from(!bytes.into_iter().fold(START, step))
}

const START: u32 = u32::MAX;

/// CRC-32 as in Ethernet and gzip, a byte at a time.
fn step(crc: u32, byte: u8) -> u32 {
    (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)]
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(ports: &[(u16, u32)]) -> Ketama {
        let ports: Vec<_> = ports.iter().map(|(port, weight)| (port.to_string(), *weight)).collect();
        Ketama::new(ports.iter().map(|(port, weight)| ("127.0.0.1", port.as_str(), *weight)))
    }

    fn owner(ring: &Ketama, key: &str) -> usize {
        ring.owners(point(key.bytes())).next().expect("somebody has a weight")
    }

    #[test]
    fn a_point_is_a_crc() {
        assert_eq!(point("123456789".bytes()), 0xcbf4_3926);
        assert_eq!(point([]), 0);
    }

    #[test]
    fn nobody_with_a_weight_is_nobody() {
        assert_eq!(ring(&[]).owners(7).next(), None);
        assert_eq!(ring(&[(1, 0)]).owners(u64::from(u32::MAX)).next(), None);
        assert!(ring(&[(1, 0), (2, 3)]).owners(u64::from(u32::MAX)).take(999).all(|owner| owner == 1));
    }

    /// What nginx 1.22.1 answered that was asked for /0, /1 and so on, with `hash $request_uri consistent` and these servers.
    #[test]
    fn keys_are_where_nginx_has_them() {
        for (servers, known) in NGINX {
            let ring = ring(servers);
            let owners: String =
                (0..64).map(|number| owner(&ring, &format!("/{number}")).to_string()).collect();
            assert_eq!(&owners, known, "{servers:?}");
        }
    }

    const NGINX: &[(&[(u16, u32)], &str)] = &[
        (
            &[(29_101, 1), (29_102, 1), (29_103, 1)],
            "0220202112011211001111011222101122020212021211210011122120121012",
        ),
        (
            &[(29_101, 3), (29_102, 1), (29_103, 2)],
            "0020200102001212002112001202101222000200021212000000022020101010",
        ),
    ];

    #[test]
    fn a_ring_is_bounded_and_has_everybody() {
        let ports: Vec<_> = (1..=4_000).map(|port| (port, if port == 1 { 65_535 } else { 1 })).collect();
        let ring = ring(&ports);
        assert!(ring.points.len() as u64 <= MAX_POINTS + 4_000);
        let mut has = vec![false; 4_000];
        ring.points.iter().for_each(|(_, position)| has[*position as usize] = true);
        // Points may coincide; nearly none do.
        assert!(has.iter().filter(|has| !**has).count() < 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// What a ring of 160 points each promises: a standard deviation of a twelfth of a share.
        #[test]
        fn shares_are_those_of_a_ring(count in 2u16..12) {
            let ring = ring(&(1..=count).map(|port| (port, 1)).collect::<Vec<_>>());
            let mut counts = vec![0u32; usize::from(count)];
            (0..20_000).for_each(|key| counts[owner(&ring, &key.to_string())] += 1);
            let mean = 20_000.0 / f64::from(count);
            prop_assert!(counts.iter().all(|own| (f64::from(*own) / mean - 1.0).abs() < 0.45), "{counts:?}");
        }

        /// Who leaves takes its own keys along and no other.
        #[test]
        fn nobody_elses_key_moves(count in 2u16..40, gone in 0usize..40) {
            let gone = gone % usize::from(count);
            let before: Vec<_> = (1..=count).map(|port| (port, 1)).collect();
            let mut after = before.clone();
            after[gone].1 = 0;
            let (old, new) = (ring(&before), ring(&after));
            for key in 0..5_000 {
                let key = key.to_string();
                let was = owner(&old, &key);
                prop_assert!(was == gone || owner(&new, &key) == was);
            }
        }
    }
}
