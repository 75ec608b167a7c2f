//! How often clients may ask.
//!
//! What is counted is counted for the whole gateway, over all workers, in bounded memory; gateways of a
//! fleet count each for itself. Clients are told with the fields of draft-ietf-httpapi-ratelimit-headers.

pub mod buckets;
pub mod gcra;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use topology::filters::{RateKey, RateLimit as Settings};

use self::buckets::Buckets;
use self::gcra::{Gcra, Left, Verdict};
use super::{Asked, Changes, Decision};
use crate::message::encode::push_decimal;
use crate::metrics::Counter;
use crate::reason::Reason;

const SECOND: u64 = 1_000_000_000;

/// Limits that all hold at once.
#[derive(Debug)]
pub struct RateLimits(Box<[Arc<RateLimit>]>);

#[derive(Debug)]
pub struct RateLimit {
    settings: Settings,
    gcra: Gcra,
    buckets: Buckets,
    /// Makes keys that clients cannot foresee.
    hash: RandomState,
    origin: Instant,
    /// `"name";q=…;w=…`.
    policy: Box<str>,
    /// One per worker.
    refused: Box<[Counter]>,
}

impl RateLimits {
    /// Limits that did not change go on counting.
    pub fn compile(settings: &[Settings], former: Option<&Self>, workers: usize) -> Self {
        let limit = |settings: &Settings| {
            let same = former.and_then(|former| former.0.iter().find(|limit| limit.settings == *settings));
            same.cloned().unwrap_or_else(|| Arc::new(RateLimit::new(settings, workers)))
        };
        Self(settings.iter().map(limit).collect())
    }

    /// Counts a request; the first limit that it is above refuses it.
    pub fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        for limit in &self.0 {
            let verdict = limit.take(asked);
            limit.say(verdict, &mut changes.always);
            if verdict.is_err() {
                limit.refused[asked.worker].increment();
                return Decision::Refuse(Reason::RateLimited);
            }
        }
        Decision::Pass
    }

    pub fn describe(&self) -> String {
        self.0.iter().map(|limit| limit.describe()).collect::<Vec<_>>().join("; ")
    }

    /// Each limit's name and how many requests it refused.
    pub fn refused(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|limit| (&*limit.settings.name, limit.refused.iter().map(Counter::value).sum()))
    }
}

impl RateLimit {
    fn new(settings: &Settings, workers: usize) -> Self {
        let period = u64::try_from(settings.per.as_nanos()).unwrap_or(u64::MAX);
        let gcra = Gcra::new(settings.requests.get(), period, settings.burst.get());
        let window = gcra.window().div_ceil(SECOND);
        Self {
            gcra,
            buckets: Buckets::new(if settings.key == RateKey::All { 1 } else { settings.keys }),
            hash: RandomState::new(),
            origin: Instant::now(),
            policy: format!("\"{}\";q={};w={window}", settings.name, gcra.burst()).into(),
            refused: (0..workers).map(|_| Counter::default()).collect(),
            settings: settings.clone(),
        }
    }

    fn take(&self, asked: &Asked<'_>) -> Verdict {
        let key = match &self.settings.key {
            RateKey::Client => self.hash.hash_one(subscriber(asked.client())),
            RateKey::Header(name) => self.hash.hash_one(asked.heeded(name).next().unwrap_or_default()),
            RateKey::All => 1,
        };
        // Limits begin with all of their burst; a request that began before its limit was made counts as of then.
        let now = asked.now.saturating_duration_since(self.origin).as_nanos() as u64;
        self.buckets.take(key, now, &self.gcra)
    }

    /// The policy, what is left of it, and how long to wait.
    fn say(&self, verdict: Verdict, lines: &mut Vec<u8>) {
        lines.extend_from_slice(b"RateLimit-Policy: ");
        lines.extend_from_slice(self.policy.as_bytes());
        lines.extend_from_slice(b"\r\nRateLimit: \"");
        lines.extend_from_slice(self.settings.name.as_bytes());
        let (Left { requests, full_in }, wait) = match verdict {
            Ok(left) => (left, None),
            Err(wait) => (Left { requests: 0, full_in: wait }, Some(wait)),
        };
        lines.extend_from_slice(b"\";r=");
        push_decimal(requests, lines);
        lines.extend_from_slice(b";t=");
        push_decimal(full_in.div_ceil(SECOND), lines);
        lines.extend_from_slice(b"\r\n");
        if let Some(wait) = wait {
            lines.extend_from_slice(b"Retry-After: ");
            push_decimal(wait.div_ceil(SECOND).max(1), lines);
            lines.extend_from_slice(b"\r\n");
        }
    }

    fn describe(&self) -> String {
        let Settings { name, key, requests, per, burst, .. } = &self.settings;
        let by = match key {
            RateKey::Client => "each client".to_owned(),
            RateKey::Header(header) => format!("each {header}"),
            RateKey::All => "all".to_owned(),
        };
        format!(
            "{name}: {requests} per {} and {burst} at once, for {by}",
            discovery::document::show_duration(*per)
        )
    }
}

/// Who counts as one client: an address, of IPv6 the network that one customer has (RFC 6177).
fn subscriber(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        // No IPv4 address looks like it: a global prefix begins with other bits than zeros.
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn limit(requests: u32, burst: u32) -> RateLimit {
        let settings = Settings {
            name: "x".into(),
            key: RateKey::All,
            requests: NonZeroU32::new(requests).unwrap(),
            per: Duration::from_secs(60),
            burst: NonZeroU32::new(burst).unwrap(),
            keys: 64,
        };
        RateLimit::new(&settings, 1)
    }

    #[test]
    fn clients_are_told_in_the_fields_of_the_draft() {
        let limit = limit(60, 10);
        let mut lines = Vec::new();
        limit.say(limit.buckets.take(1, 0, &limit.gcra), &mut lines);
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            "RateLimit-Policy: \"x\";q=10;w=10\r\nRateLimit: \"x\";r=9;t=1\r\n"
        );
        let mut lines = Vec::new();
        limit.say(Err(2 * SECOND + 1), &mut lines);
        assert!(String::from_utf8(lines).unwrap().ends_with("\"x\";r=0;t=3\r\nRetry-After: 3\r\n"));
    }

    #[test]
    fn a_customer_of_ipv6_is_one_client() {
        let of = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn limits_that_did_not_change_go_on_counting() {
        let one = limit(60, 10).settings;
        let other = Settings { name: "y".into(), ..one.clone() };
        let first = RateLimits::compile(std::slice::from_ref(&one), None, 1);
        let second = RateLimits::compile(&[other, one], Some(&first), 1);
        assert!(Arc::ptr_eq(&first.0[0], &second.0[1]) && !Arc::ptr_eq(&first.0[0], &second.0[0]));
    }
}
