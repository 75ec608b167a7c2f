//! Which gateway should hold which address: weighted rendezvous hashing, so that a gateway that comes or goes moves
//! only what is its own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;

use crate::identity::GatewayId;
use crate::moment::Moment;

/// A gateway that may hold an address, and its share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub gateway: GatewayId,
    /// At least 1.
    pub weight: u32,
}

/// The candidates in the order in which they should hold `ip`, best first. All gateways come to the same order from
/// the same candidates, in whatever order they know them.
pub fn order(ip: IpAddr, candidates: &BTreeSet<Candidate>) -> Vec<GatewayId> {
    let mut scored =
        candidates.iter().map(|candidate| (score(ip, candidate), &candidate.gateway)).collect::<Vec<_>>();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().map(|(_, gateway)| gateway.clone()).collect()
}

/// −weight / ln(u), u uniform in (0, 1) by address and gateway: the highest wins in proportion to its weight.
fn score(ip: IpAddr, candidate: &Candidate) -> f64 {
    let text = format!("{ip}\n{}", candidate.gateway);
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&hash.as_ref()[..8]);
    // 53 bits, which a float holds exactly; in the middle of its step, so neither 0 nor 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let uniform = ((u64::from_be_bytes(head) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(candidate.weight.max(1)) / uniform.ln()
}

/// How many of the others come before `me`, leaving out `gone`, whose address is up for takeover.
pub fn rank(order: &[GatewayId], me: &GatewayId, gone: Option<&GatewayId>) -> u32 {
    let before = order.iter().take_while(|gateway| *gateway != me);
    let others = before.filter(|gateway| Some(*gateway) != gone).count();
    u32::try_from(others).unwrap_or(u32::MAX)
}

/// Moves addresses back to where they belong, one at a time and slowly. Only with `preempt`.
#[derive(Debug)]
pub struct Rebalancer {
    every: Duration,
    /// No earlier than this.
    next: Moment,
}

impl Rebalancer {
    /// `every` bounds the moves of this gateway, and is how long another must have been eligible first.
    pub fn new(every: Duration, now: Moment) -> Self {
        Self { every, next: now + every }
    }

    /// Whether an address that `me` holds should move to the first in `order` now.
    pub fn target(
        &mut self,
        order: &[GatewayId],
        me: &GatewayId,
        eligible_since: impl Fn(&GatewayId) -> Option<Moment>,
        now: Moment,
    ) -> Option<GatewayId> {
        let first = order.first().filter(|first| *first != me)?;
        let settled = eligible_since(first).is_some_and(|since| now.since(since) >= self.every);
        if now < self.next || !settled {
            return None;
        }
        self.next = now + self.every;
        Some(first.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(names: &[(&str, u32)]) -> BTreeSet<Candidate> {
        names
            .iter()
            .map(|(name, weight)| Candidate { gateway: GatewayId::parse(name).unwrap(), weight: *weight })
            .collect()
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + number))
    }

    #[test]
    fn addresses_spread_by_weight() {
        let all = candidates(&[("a", 1), ("b", 1), ("c", 2)]);
        let firsts = (0..4000).map(|number| order(address(number), &all)[0].clone()).collect::<Vec<_>>();
        let share = |name: &str| firsts.iter().filter(|first| first.as_str() == name).count();
        // Three standard deviations around 1000, 1000 and 2000.
        assert!((918..=1082).contains(&share("a")), "{}", share("a"));
        assert!((918..=1082).contains(&share("b")), "{}", share("b"));
        assert!((1905..=2095).contains(&share("c")), "{}", share("c"));
    }

    #[test]
    fn lost_gateway_moves_only_its_own() {
        let (all, left) = (candidates(&[("a", 1), ("b", 1), ("c", 1)]), candidates(&[("a", 1), ("c", 1)]));
        for number in 0..500 {
            let before = order(address(number), &all);
            let after = order(address(number), &left);
            let expected = before.into_iter().filter(|gateway| gateway.as_str() != "b").collect::<Vec<_>>();
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn order_is_the_same_everywhere_and_in_every_release() {
        let all = candidates(&[("gw-1", 1), ("gw-2", 1), ("gw-3", 1)]);
        let names = |ip: &str| {
            let order = order(ip.parse().unwrap(), &all);
            order.iter().map(|gateway| gateway.as_str()[3..].to_owned()).collect::<String>()
        };
        assert_eq!(
            ["10.0.0.200", "10.0.0.201", "10.0.0.202", "2001:db8::1"].map(names),
            ["312", "132", "123", "312"]
        );
    }

    #[test]
    fn rank_leaves_out_who_is_gone() {
        let order = ["a", "b", "c"].map(|name| GatewayId::parse(name).unwrap());
        assert_eq!(rank(&order, &order[0], None), 0);
        assert_eq!(rank(&order, &order[2], None), 2);
        assert_eq!(rank(&order, &order[2], Some(&order[0])), 1);
    }

    #[test]
    fn rebalancing_waits_for_settled_gateways_and_is_rare() {
        let order = ["a", "b"].map(|name| GatewayId::parse(name).unwrap());
        let at = |seconds: u64| Moment::from_nanos(seconds * 1_000_000_000);
        let mut rebalancer = Rebalancer::new(Duration::from_secs(60), at(0));
        let since = |moment: Moment| move |_: &GatewayId| Some(moment);
        assert_eq!(rebalancer.target(&order, &order[1], since(at(0)), at(59)), None);
        assert_eq!(rebalancer.target(&order, &order[1], since(at(30)), at(60)), None);
        assert_eq!(rebalancer.target(&order, &order[0], since(at(0)), at(60)), None);
        assert_eq!(rebalancer.target(&order, &order[1], since(at(0)), at(60)), Some(order[0].clone()));
        assert_eq!(rebalancer.target(&order, &order[1], since(at(0)), at(61)), None);
        assert_eq!(rebalancer.target(&order, &order[1], |_| None, at(200)), None);
    }
}
