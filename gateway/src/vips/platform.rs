//! Addresses, the fence and announcements of one interface, as the driver asks for them.
//!
//! The order is that of [`vip::net`]: fenced, address on, fence open, announced; and back in the opposite order. What somebody
//! else has changed is put right: addresses and the interface when the kernel tells that something about them
//! has changed, the fence at each refresh and every [`RECONCILE_EVERY`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vip::config::{Fence as FenceMode, VipConfig};
use vip::driver::{Platform, PlatformError};
use vip::net::{Addresses, Announcer, Error, Fence, Interface, Result, Schedule, missing_capabilities};

/// The fence's tables.
pub const TABLE: &str = "sluice_vip";
/// Made and removed at a start, to learn whether this kernel has what the fence needs.
const TRIAL_TABLE: &str = "sluice_vip_trial";
/// How far behind the lease the kernel removes an address. The fence has closed long before; a renewal per second and
/// address is little work.
const BROOM: Duration = Duration::from_secs(3);
/// An address is renewed when less than this of [`BROOM`] would be left.
const BROOM_LEFT: Duration = Duration::from_secs(2);
/// Nobody changes the fence but by mistake, and each look reads all of it.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);
/// With lifetimes alone: how long a look at the clock may be ago when the kernel acts on it. The rest of
/// [`vip::config::LIFETIME_LATENESS`] is the kernel's.
const LOOK: Duration = Duration::from_millis(500);

/// One interface's virtual IPs.
pub struct KernelPlatform {
    name: String,
    mode: FenceMode,
    interface: Interface,
    addresses: Addresses,
    announcer: Announcer,
    /// `None`: without nftables.
    fence: Option<Fence>,
    vips: BTreeMap<IpAddr, Vip>,
    /// Set by whoever watches links and addresses.
    changed: Arc<AtomicBool>,
    next_look: Instant,
}

struct Vip {
    schedule: Schedule,
    held: Option<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    until: Instant,
    /// When the kernel removes the address.
    swept: Instant,
}

impl KernelPlatform {
    /// Opens what it needs and changes nothing yet. `changed` is to be set when a link or an address has changed.
    ///
    /// # Errors
    /// What is missing: the interface, a capability, nf_tables.
    pub fn open(config: &VipConfig, changed: Arc<AtomicBool>) -> Result<Self> {
        let interface = Interface::find(&config.interface)?;
        let addresses = Addresses::open()?;
        let announcer = Announcer::open(&interface)?;
        let fence = match config.fence {
            FenceMode::Nft => {
                Fence::install(TRIAL_TABLE, &[])?.remove()?;
                Some(Fence::attach(TABLE)?)
            }
            FenceMode::Lifetime | FenceMode::None => None,
        };
        let vip = || Vip { schedule: Schedule::new(config.announce_refresh), held: None };
        Ok(Self {
            name: config.interface.clone(),
            mode: config.fence,
            interface,
            addresses,
            announcer,
            fence,
            vips: config.addresses.iter().map(|address| (address.ip, vip())).collect(),
            changed,
            next_look: Instant::now(),
        })
    }

    fn clear(&mut self, ips: &[IpAddr]) -> Result<usize> {
        match &mut self.fence {
            Some(fence) => fence.protect(ips, &[])?,
            // One that an earlier configuration put up would keep everything out. Without nf_tables there is none.
            None => {
                if let Err(error) = Fence::attach(TABLE).and_then(|mut fence| fence.remove()) {
                    tracing::debug!(%error, "no fence of an earlier configuration is removed");
                }
            }
        }
        let stale = self.addresses.remove_stale(&self.interface, ips)?;
        for found in &stale.elsewhere {
            tracing::error!(
                ip = %found.ip, interface = found.index,
                "a virtual IP is on another interface of this host, which answers for it whoever holds it: take it off"
            );
        }
        for ip in &stale.removed {
            tracing::warn!(%ip, "a virtual IP that an earlier process left is taken off");
        }
        Ok(stale.removed.len())
    }

    fn put(&mut self, ip: IpAddr, until: Instant) -> Result<()> {
        let now = Instant::now();
        let known = self.vips.get(&ip).and_then(|vip| vip.held);
        let lifetime = match self.mode {
            // The fence itself: as short as the lease.
            FenceMode::Lifetime => {
                // Refused rather than rounded up to a second.
                let left = until.checked_duration_since(now).filter(|left| !left.is_zero());
                left.ok_or(Error::Stalled { doing: "renewing a virtual IP" })?
            }
            FenceMode::Nft | FenceMode::None => until.saturating_duration_since(now) + BROOM,
        };
        // Shortened leases too, where the lifetime is the fence.
        let is_fresh = |held: &Held| self.mode != FenceMode::Lifetime && held.swept >= until + BROOM_LEFT;
        if known.as_ref().is_some_and(is_fresh) {
            return Ok(());
        }
        self.addresses.put(&self.interface, ip, lifetime)?;
        if self.mode == FenceMode::Lifetime && now.elapsed() > LOOK {
            // Stopped in between: the kernel counts from now on what was left then.
            self.addresses.remove(&self.interface, ip)?;
            return Err(Error::Stalled { doing: "renewing a virtual IP" });
        }
        if let Some(vip) = self.vips.get_mut(&ip) {
            vip.held = Some(Held { until, swept: now + lifetime });
        }
        Ok(())
    }

    fn open_fence(&mut self, ip: IpAddr, until: Instant) -> Result<()> {
        if let Some(fence) = &mut self.fence {
            fence.refresh(&[(ip, until)])?;
        }
        if let Some(held) = self.vips.get_mut(&ip).and_then(|vip| vip.held.as_mut()) {
            held.until = until;
        }
        Ok(())
    }

    fn take_off(&mut self, ip: IpAddr) -> Result<()> {
        let closed = self.fence.as_mut().map_or(Ok(()), |fence| fence.close(&[ip]));
        if let Some(vip) = self.vips.get_mut(&ip) {
            vip.schedule.end();
            vip.held = None;
        }
        let removed = self.addresses.remove(&self.interface, ip);
        // Behind a closed fence an address that stays answers nobody, and the kernel sweeps it.
        match (&self.fence, closed, removed) {
            (_, Err(error), _) => Err(error),
            (None, Ok(()), Err(error)) => Err(error),
            (Some(_), Ok(()), Err(error)) => {
                tracing::warn!(%ip, %error, "a virtual IP stays on the interface, fenced, until its lifetime ends");
                Ok(())
            }
            (_, Ok(()), Ok(_)) => Ok(()),
        }
    }

    /// After a change of a link or an address, ours included: the same interface, with the addresses on.
    fn look_at_interface(&mut self) -> Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let found = Interface::find(&self.name)?;
        if (found.index, found.mac) != (self.interface.index, self.interface.mac) {
            self.announcer = Announcer::open(&found)?;
            self.interface = found;
            let now = Instant::now();
            self.vips.values_mut().for_each(|vip| vip.schedule.link_up(now));
        }
        let there = self.addresses.list()?;
        let index = self.interface.index;
        for (ip, vip) in &mut self.vips {
            let is_there = there.iter().any(|found| found.index == index && found.ip == *ip);
            if let Some(held) = vip.held.as_mut().filter(|_| !is_there) {
                tracing::warn!(%ip, "somebody has taken a virtual IP off; it is put on again");
                held.swept = held.until;
            }
        }
        Ok(())
    }

    fn look_at_fence(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + RECONCILE_EVERY;
        let Some(fence) = &mut self.fence else { return };
        let held = self.vips.iter().filter_map(|(ip, vip)| Some((*ip, vip.held?.until)));
        let holds: Vec<_> = held.filter(|(_, until)| *until > now).collect();
        match fence.reconcile(&holds) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                table = TABLE,
                "somebody has changed the fence of the virtual IPs; it is put up again"
            ),
            Err(error) => tracing::error!(%error, "the fence of the virtual IPs cannot be looked at"),
        }
    }
}

/// # Errors
/// What the process may not do, all at once.
pub fn check_capabilities() -> anyhow::Result<()> {
    let missing: Vec<_> = missing_capabilities()?.iter().map(ToString::to_string).collect();
    let names = missing.join(" ");
    anyhow::ensure!(
        missing.is_empty(),
        "[vip] needs {}: give it to the service (AmbientCapabilities={names} and CapabilityBoundingSet={names} in its systemd unit) \
         or to the binary (setcap {}+ep), or start it as root",
        missing.join(" and "),
        missing.join(",").to_lowercase(),
    );
    Ok(())
}

fn failed(doing: &'static str, ip: IpAddr) -> impl FnOnce(Error) -> PlatformError {
    move |error| PlatformError { doing, ip, source: Box::new(error) }
}

impl Platform for KernelPlatform {
    fn sweep(&mut self, ips: &[IpAddr]) -> std::result::Result<usize, PlatformError> {
        let first = ips.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        self.clear(ips)
            .map_err(failed("fence and take off what an earlier process left, beginning with", first))
    }

    fn hold(&mut self, ip: IpAddr, until: Instant) -> std::result::Result<(), PlatformError> {
        if let Err(error) = self.look_at_interface() {
            // It may be on its way back; what the kernel says of the address decides.
            tracing::warn!(%error, interface = self.name, "cannot look at the interface of the virtual IPs");
            self.changed.store(true, Ordering::Relaxed);
        }
        let held = self.put(ip, until).and_then(|()| self.open_fence(ip, until));
        held.map_err(failed("hold", ip))?;
        // Only what is held is announced, so what is not announced is held anew.
        if let Some(vip) = self.vips.get_mut(&ip).filter(|vip| vip.schedule.next().is_none()) {
            vip.schedule.begin(Instant::now());
        }
        Ok(())
    }

    fn release(&mut self, ip: IpAddr) -> std::result::Result<(), PlatformError> {
        self.take_off(ip).map_err(failed("let go of", ip))
    }

    fn announce_again(&mut self, ip: IpAddr) {
        if let Some(vip) = self.vips.get_mut(&ip).filter(|vip| vip.held.is_some()) {
            vip.schedule.begin(Instant::now());
        }
    }

    fn next_announcement(&self) -> Option<Instant> {
        let announcements = self.vips.values().filter_map(|vip| vip.schedule.next());
        announcements.chain(self.fence.as_ref().map(|_| self.next_look)).min()
    }

    fn announce_due(&mut self, now: Instant) -> Vec<IpAddr> {
        self.look_at_fence(now);
        let mut announced = Vec::new();
        for (ip, vip) in &mut self.vips {
            if !vip.schedule.take_due(now) {
                continue;
            }
            match self.announcer.announce(*ip) {
                Ok(_) => announced.push(*ip),
                Err(error) => tracing::warn!(%ip, %error, "cannot announce a virtual IP"),
            }
        }
        announced
    }
}
