//! What `[vip]` says, checked once: past [`Settings::build`] no combination is unsafe.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::identity::GatewayId;
use crate::machine::Timing;

/// Long enough for six heartbeats with a scheduler's pauses between them, short enough that a client's
/// first retransmission (1 s after a lost SYN) finds the next holder.
pub const DEFAULT_LEASE: Duration = Duration::from_millis(300);
/// A registry's write takes milliseconds when all is well, and seconds never: four renewals fit.
pub const DEFAULT_REGISTRY_LEASE: Duration = Duration::from_secs(1);
/// Outlasts a registry's election or restart, and is what a cluster waits at most after everybody in a
/// holder's list died with it.
pub const DEFAULT_HOLD_MAX: Duration = Duration::from_secs(60);
/// Neighbours forget or are told wrong; a router's cache may hold an entry for hours.
pub const DEFAULT_ANNOUNCE_REFRESH: Duration = Duration::from_secs(60);
/// Between voluntary moves for balance, and how long a gateway must have been eligible for one.
pub const DEFAULT_REBALANCE_EVERY: Duration = Duration::from_secs(60);
/// How far a clock's rate may be off: crystals err by 0.01 %, NTP slews by 0.05 %.
pub const CLOCK_ERROR_PERCENT: u32 = 1;
/// By how much a set element of nftables may outlive what it was given, with what lies between reading the
/// clock and the kernel's reading of it.
pub const NFT_LATENESS: Duration = Duration::from_millis(20);
/// By how much an address may outlive its lease without another fence: `valid_lft` counts whole seconds and is rounded
/// up, and the kernel looks for what is over within two more (measured: up to 1.25 s).
pub const LIFETIME_LATENESS: Duration = Duration::from_secs(3);

/// Graces that nobody sets are rounded up to this.
const GRACE_STEP: Duration = Duration::from_millis(10);
const LEASES: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(30));
/// `valid_lft` counts whole seconds.
const MIN_LIFETIME_LEASE: Duration = Duration::from_secs(3);
const REGISTRY_LEASES: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(60));
const HOLD_MAXES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));
const REFRESHES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));
/// Each costs every gateway a heartbeat per lease / 6 and peer.
const MAX_ADDRESSES: usize = 256;
const MAX_WEIGHT: u32 = 1000;
/// IFNAMSIZ without its end.
const MAX_INTERFACE_BYTES: usize = 15;
/// What HMAC-SHA256 makes full use of begins at its own length.
pub const MIN_KEY_BYTES: usize = 32;

/// Who has to agree that a gateway holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The other gateways, as long as there are some: nothing is written while nothing changes.
    #[default]
    Peer,
    /// Only the registry, which is written every quarter of `registry_lease`.
    Registry,
}

/// What stops a gateway whose process does not run any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fence {
    /// A set element of nftables that expires with the lease, and `valid_lft` behind it.
    #[default]
    Nft,
    /// The address's `valid_lft` alone: whole seconds.
    Lifetime,
    /// Nothing: a frozen holder answers for as long as it is frozen.
    None,
}

/// `[vip]` as written, with defaults where nothing is. Durations are what the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub interface: String,
    pub lease: Duration,
    /// None: the shortest one that is safe, to the next 10 ms (330 ms for 300 ms).
    pub grace: Option<Duration>,
    pub registry_lease: Duration,
    pub hold_max: Duration,
    pub mode: Mode,
    pub fence: Fence,
    /// Permits `fence = "none"`.
    pub force: bool,
    /// Where heartbeats are received; none is needed in registry mode.
    pub peer_listen: Option<SocketAddr>,
    /// The bytes of `peer_key_file`.
    pub peer_key: Vec<u8>,
    pub preempt: bool,
    pub rebalance_every: Duration,
    pub announce_refresh: Duration,
    pub addresses: Vec<AddressSettings>,
}

/// One `[[vip.address]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSettings {
    pub ip: IpAddr,
    /// Names of those that may hold it; none: all.
    pub gateways: Vec<String>,
    /// How often this gateway is preferred for it, compared with the others' weights; all gateways learn it by the registry.
    pub weight: u32,
}

/// Checked.
#[derive(Clone)]
pub struct VipConfig {
    pub interface: String,
    pub mode: Mode,
    pub fence: Fence,
    pub timing: Timing,
    pub peer_listen: Option<SocketAddr>,
    pub peer_key: Vec<u8>,
    pub preempt: bool,
    pub rebalance_every: Duration,
    pub announce_refresh: Duration,
    pub addresses: Vec<VipAddress>,
}

/// The key is nobody's to read.
impl fmt::Debug for VipConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses.iter().map(|address| address.ip).collect::<Vec<_>>();
        formatter
            .debug_struct("VipConfig")
            .field("interface", &self.interface)
            .field("mode", &self.mode)
            .field("fence", &self.fence)
            .field("timing", &self.timing)
            .field("addresses", &addresses)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipAddress {
    pub ip: IpAddr,
    /// Empty: all gateways.
    pub gateways: BTreeSet<GatewayId>,
    pub weight: u32,
}

/// One key that cannot be as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Below `[vip]`: `grace`, `address[2].ip`.
    pub key: String,
    /// What is wrong, and what to write.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "vip.{}: {}", self.key, self.problem)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interface: String::new(),
            lease: DEFAULT_LEASE,
            grace: None,
            registry_lease: DEFAULT_REGISTRY_LEASE,
            hold_max: DEFAULT_HOLD_MAX,
            mode: Mode::Peer,
            fence: Fence::Nft,
            force: false,
            peer_listen: None,
            peer_key: Vec::new(),
            preempt: false,
            rebalance_every: DEFAULT_REBALANCE_EVERY,
            announce_refresh: DEFAULT_ANNOUNCE_REFRESH,
            addresses: Vec::new(),
        }
    }
}

impl Default for AddressSettings {
    fn default() -> Self {
        Self { ip: IpAddr::from([0, 0, 0, 0]), gateways: Vec::new(), weight: 1 }
    }
}

impl Fence {
    /// How long after the end of a lease a gateway may still answer whose process is frozen.
    pub fn lateness(self) -> Duration {
        match self {
            Self::Nft | Self::None => NFT_LATENESS,
            Self::Lifetime => LIFETIME_LATENESS,
        }
    }
}

/// The shortest wait W for which W (1 − ρ) ≥ `lease` (1 + ρ) + `lateness`, to the nanosecond above.
pub fn shortest_grace(lease: Duration, lateness: Duration) -> Duration {
    let percent = u128::from(CLOCK_ERROR_PERCENT);
    let needed = lease.as_nanos() * (100 + percent) + lateness.as_nanos() * 100;
    nanos(needed.div_ceil(100 - percent))
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn rounded_up(wait: Duration) -> Duration {
    nanos(wait.as_nanos().div_ceil(GRACE_STEP.as_nanos()) * GRACE_STEP.as_nanos())
}

impl Settings {
    /// # Errors
    /// Every mistake that there is, with its key and what to write instead.
    pub fn build(self) -> Result<VipConfig, Vec<Mistake>> {
        let mut mistakes = Mistakes::default();
        self.check_fence(&mut mistakes);
        self.check_peers(&mut mistakes);
        let timing = self.timing(&mut mistakes);
        mistakes.within("announce_refresh", self.announce_refresh, REFRESHES);
        mistakes.within("rebalance_every", self.rebalance_every, REFRESHES);
        let addresses = self.addresses(&mut mistakes);
        if !mistakes.0.is_empty() {
            return Err(mistakes.0);
        }
        Ok(VipConfig {
            interface: self.interface,
            mode: self.mode,
            fence: self.fence,
            timing,
            peer_listen: self.peer_listen,
            peer_key: self.peer_key,
            preempt: self.preempt,
            rebalance_every: self.rebalance_every,
            announce_refresh: self.announce_refresh,
            addresses,
        })
    }

    fn check_fence(&self, mistakes: &mut Mistakes) {
        let name = &self.interface;
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        if name.is_empty() || name.len() > MAX_INTERFACE_BYTES || name.contains(odd) {
            mistakes.add("interface", "names no network interface; write one such as \"eth0\"".to_owned());
        }
        if self.fence == Fence::None && !self.force {
            let problem = "with \"none\" a frozen gateway keeps the address beside its successor; \
                           write \"nft\", or add `force = true` if something else fences it";
            mistakes.add("fence", problem.to_owned());
        }
    }

    fn check_peers(&self, mistakes: &mut Mistakes) {
        if self.mode == Mode::Registry {
            return;
        }
        match self.peer_listen {
            None => mistakes.add(
                "peer_listen",
                "is missing; write the address that peers reach, or `mode = \"registry\"`".to_owned(),
            ),
            Some(address) if address.ip().is_unspecified() || address.ip().is_multicast() => mistakes.add(
                "peer_listen",
                format!("{address} is no address that peers can send to; write this machine's own"),
            ),
            Some(_) => {}
        }
        if self.peer_key.len() < MIN_KEY_BYTES {
            let given = self.peer_key.len();
            let problem = format!(
                "holds {given} bytes; write at least {MIN_KEY_BYTES} random ones, the same on every gateway"
            );
            mistakes.add("peer_key_file", problem);
        }
    }

    fn timing(&self, mistakes: &mut Mistakes) -> Timing {
        let lateness = self.fence.lateness();
        mistakes.within("lease", self.lease, LEASES);
        if self.fence == Fence::Lifetime && self.lease < MIN_LIFETIME_LEASE {
            let problem = "is too short for `fence = \"lifetime\"`, which counts whole seconds; \
                           write \"3s\" or more, or `fence = \"nft\"`";
            mistakes.add("lease", problem.to_owned());
        }
        mistakes.within("registry_lease", self.registry_lease, REGISTRY_LEASES);
        if self.registry_lease < self.lease {
            mistakes.add("registry_lease", format!("is below `lease`; write {:?} or more", self.lease));
        }
        mistakes.within("hold_max", self.hold_max, HOLD_MAXES);
        if self.hold_max < self.registry_lease * 4 {
            let needed = self.registry_lease * 4;
            mistakes
                .add("hold_max", format!("is below four times `registry_lease`; write {needed:?} or more"));
        }
        let needed = shortest_grace(self.lease, lateness);
        let grace = self.grace.unwrap_or_else(|| rounded_up(needed));
        if grace < needed {
            let least = rounded_up(needed);
            let problem = format!(
                "{grace:?} is too short for `lease` {:?}: clocks may differ by {CLOCK_ERROR_PERCENT} % and the fence be \
                 {lateness:?} late; write {least:?} or more, or leave it out",
                self.lease
            );
            mistakes.add("grace", problem);
        } else if grace > self.lease * 10 && grace > rounded_up(needed) {
            mistakes.add("grace", format!("is above ten times `lease`; write {:?} or less", self.lease * 10));
        }
        Timing::new(self.lease, grace, self.registry_lease, self.hold_max, lateness)
    }

    fn addresses(&self, mistakes: &mut Mistakes) -> Vec<VipAddress> {
        if self.addresses.len() > MAX_ADDRESSES {
            let given = self.addresses.len();
            mistakes.add("address", format!("{given} are more than {MAX_ADDRESSES}; remove some"));
            return Vec::new();
        }
        let mut seen = BTreeSet::new();
        let mut addresses = Vec::new();
        for (index, settings) in self.addresses.iter().enumerate() {
            let key = |name: &str| format!("address[{index}].{name}");
            let ip = settings.ip;
            if let Some(what) = unfit(ip) {
                mistakes.add(
                    &key("ip"),
                    format!("{ip} is {what}; write an address of the network of `interface`"),
                );
            } else if self.peer_listen.is_some_and(|listen| listen.ip() == ip) {
                mistakes.add(
                    &key("ip"),
                    format!("{ip} is `peer_listen`, which must not move; write another one"),
                );
            } else if !seen.insert(ip) {
                mistakes.add(&key("ip"), format!("{ip} is there twice; remove one"));
            }
            if !(1..=MAX_WEIGHT).contains(&settings.weight) {
                mistakes.add(&key("weight"), format!("write 1 to {MAX_WEIGHT}"));
            }
            let mut gateways = BTreeSet::new();
            for name in &settings.gateways {
                match GatewayId::parse(name) {
                    Ok(gateway) => {
                        if !gateways.insert(gateway) {
                            mistakes.add(&key("gateways"), format!("{name:?} is there twice; remove one"));
                        }
                    }
                    Err(wrong) => mistakes.add(&key("gateways"), wrong.to_string()),
                }
            }
            addresses.push(VipAddress { ip, gateways, weight: settings.weight });
        }
        addresses
    }
}

/// Why an address cannot be anybody's virtual one.
fn unfit(ip: IpAddr) -> Option<&'static str> {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if ip.is_unspecified() {
        Some("unspecified")
    } else if ip.is_loopback() {
        Some("the loopback's")
    } else if ip.is_multicast() || broadcast {
        Some("for many at once")
    } else if mapped {
        Some("an IPv4 address in IPv6")
    } else {
        None
    }
}

#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, key: &str, problem: String) {
        self.0.push(Mistake { key: key.to_owned(), problem });
    }

    fn within(&mut self, key: &str, given: Duration, (least, most): (Duration, Duration)) {
        if !(least..=most).contains(&given) {
            self.add(key, format!("{given:?} is outside of what is allowed; write {least:?} to {most:?}"));
        }
    }
}

#[cfg(test)]
mod tests;
