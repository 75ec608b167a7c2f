//! One address: its machine, and its actions done.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::timeout;

use super::clock;
use super::handle::{CommandError, Status};
use super::peers::Peers;
use super::run::Driver;
use crate::config::{VipAddress, VipConfig};
use crate::identity::{BootId, GatewayId};
use crate::lease::LeaseError;
use crate::machine::{Action, DropReason, Event, Machine, Surroundings, Wish, WriteOutcome};
use crate::metrics::AddressMetrics;
use crate::moment::Moment;
use crate::peer::Body;
use crate::placement::{Candidate, order, rank};
use crate::register::Register;

/// One address of this gateway.
pub(super) struct Address {
    ip: IpAddr,
    settings: VipAddress,
    me: GatewayId,
    machine: Machine,
    pub metrics: Arc<AddressMetrics>,
    pub wake: Option<Moment>,
    /// Gateways that could hold it, the best first.
    pub order: Vec<GatewayId>,
    candidates: BTreeSet<Candidate>,
    told: Option<(Wish, Surroundings)>,
    held: bool,
}

impl Address {
    pub fn new(
        settings: VipAddress,
        me: &GatewayId,
        boot: BootId,
        config: &VipConfig,
        metrics: Arc<AddressMetrics>,
        now: Moment,
    ) -> Self {
        let machine = Machine::new(me.clone(), boot, config.mode, config.timing, now);
        let wake = machine.next_wake();
        Self {
            ip: settings.ip,
            settings,
            me: me.clone(),
            machine,
            metrics,
            wake,
            order: Vec::new(),
            candidates: BTreeSet::new(),
            told: None,
            held: false,
        }
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    pub fn is_registered(&self) -> bool {
        let view = self.machine.view();
        view.registered || view.uncertain
    }

    fn admits(&self, gateway: &GatewayId) -> bool {
        self.settings.gateways.is_empty() || self.settings.gateways.contains(gateway)
    }

    /// What the machine must be told, where it differs from what it was told.
    pub fn look_around(
        &mut self,
        wish: Wish,
        serving: &BTreeSet<GatewayId>,
        names: &Arc<BTreeSet<GatewayId>>,
        peers: &Peers,
    ) -> Vec<Event> {
        let others = serving.iter().filter(|gateway| self.admits(gateway)).cloned();
        let others = others.map(|gateway| Candidate { weight: peers.weight(&gateway, self.ip), gateway });
        let mut candidates = others.collect::<BTreeSet<_>>();
        let successor = !candidates.is_empty();
        let admitted = self.admits(&self.me);
        if admitted {
            candidates.insert(Candidate { gateway: self.me.clone(), weight: self.settings.weight });
        }
        if candidates != self.candidates || self.order.is_empty() {
            self.order = order(self.ip, &candidates);
            self.candidates = candidates;
        }
        let view = self.machine.view();
        let gone =
            view.register.as_ref().map(|register| &register.holder).filter(|holder| **holder != self.me);
        let rank = rank(&self.order, &self.me, gone);
        let wish = if admitted || wish == Wish::Leave { wish } else { Wish::Yield };
        let surroundings = Surroundings { peers: Arc::clone(names), successor, rank };
        let told = Some((wish, surroundings.clone()));
        if self.told == told {
            return Vec::new();
        }
        self.told = told;
        vec![Event::Surroundings(surroundings), Event::Wish(wish)]
    }

    pub fn may_move(&self, to: &GatewayId, serves: bool) -> Result<(), CommandError> {
        let ip = self.ip;
        if !self.held {
            let holder = self.machine.view().register.map(|register| register.holder);
            return Err(CommandError::NotHolder { ip, holder });
        }
        let eligible = serves && self.admits(to);
        eligible.then_some(()).ok_or_else(|| CommandError::NotEligible { ip, gateway: to.clone() })
    }

    pub fn status(&self, now: Moment) -> Status {
        let view = self.machine.view();
        let register = view.register;
        Status {
            ip: self.ip,
            epoch: register.as_ref().map_or(0, |register| register.epoch),
            released: register.as_ref().is_some_and(|register| register.released),
            grantors: register.as_ref().map(|register| register.grantors.clone()).unwrap_or_default(),
            holder: register.map(|register| register.holder),
            holding: view.holding.map(|until| until.since(now)),
            order: self.order.clone(),
        }
    }

    /// One event, its actions, and the events that failures of those are.
    pub fn tell(&mut self, event: Event, driver: &mut Driver) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            // Read after the event has arrived, and before anything is done about it.
            let actions = self.machine.handle(clock::now(), event);
            let mut actions = actions.into_iter();
            while let Some(action) = actions.next() {
                if let Some(failure) = self.perform(action, driver) {
                    events.push_back(failure);
                    events.extend(actions.by_ref().filter_map(|action| undone(&action)));
                }
            }
        }
        self.wake = self.machine.next_wake();
        self.show();
    }

    fn show(&self) {
        let view = self.machine.view();
        let remaining = view.holding.map(|until| until.since(clock::now())).unwrap_or_default();
        self.metrics.set_lease_remaining(remaining);
        self.metrics.grants_missing.store(view.missing as u64, Ordering::Relaxed);
        let epoch = view.register.map_or(0, |register| register.epoch);
        self.metrics.epoch.store(epoch, Ordering::Relaxed);
    }

    /// The failure, if it is one after which the rest of the turn must not be done.
    fn perform(&mut self, action: Action, driver: &mut Driver) -> Option<Event> {
        let ip = self.ip;
        match action {
            Action::Hold { until } => return self.hold(until, driver),
            Action::Drop { reason } => return self.release(reason, driver),
            Action::Announce => driver.platform.announce_again(ip),
            Action::Read { request } => self.read(request, driver),
            Action::Write { request, register, expected } => self.write(request, register, expected, driver),
            Action::Heartbeat { to, epoch, seq } => {
                let serves = driver.serves();
                driver.peers.ask(&to, Body::Heartbeat { ip, epoch, beat: seq }, serves);
            }
            Action::Grant { to, boot, epoch, seq } => {
                // Two processes of one name would give one promise and keep two.
                if !driver.peers.has_namesake(clock::now()) {
                    let serves = driver.serves();
                    driver.peers.reply(&to, boot, Body::Grant { ip, epoch, beat: seq }, serves);
                }
            }
            Action::Refuse { to, boot, epoch, seq } => {
                let serves = driver.serves();
                driver.peers.reply(&to, boot, Body::Refuse { ip, epoch, beat: seq }, serves);
            }
        }
        None
    }

    fn hold(&mut self, until: Moment, driver: &mut Driver) -> Option<Event> {
        if let Err(error) = driver.platform.hold(self.ip, clock::instant(until)) {
            self.metrics.fence_refresh_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(ip = %self.ip, error = &error as &dyn std::error::Error, "cannot hold virtual IP");
            return Some(Event::HoldFailed);
        }
        if !self.held {
            self.held = true;
            let view = self.machine.view();
            let took = clock::now().since(view.vacant);
            let epoch = view.register.map_or(0, |register| register.epoch);
            tracing::info!(ip = %self.ip, epoch, "holds virtual IP");
            self.metrics.count_acquired(took);
        }
        None
    }

    fn release(&mut self, reason: DropReason, driver: &mut Driver) -> Option<Event> {
        let released = driver.platform.release(self.ip);
        // The machine knows only that this gateway would rather not hold.
        let is_drain = reason == DropReason::Ineligible && driver.draining;
        let reason = if is_drain { DropReason::Drained } else { reason };
        if std::mem::take(&mut self.held) {
            tracing::warn!(ip = %self.ip, reason = reason.as_str(), "does not hold virtual IP any more");
            self.metrics.count_dropped(reason);
        }
        let error = released.err()?;
        tracing::error!(ip = %self.ip, error = &error as &dyn std::error::Error, "cannot let go of virtual IP");
        Some(Event::DropFailed)
    }

    fn read(&self, request: u64, driver: &Driver) {
        let (lease, answers, ip) = (Arc::clone(&driver.lease), driver.answers.clone(), self.ip);
        let patience = driver.config.timing.registry_lease / 2;
        tokio::spawn(async move {
            let found = timeout(patience, lease.read(ip)).await.ok().and_then(Result::ok);
            // The driver may have ended.
            let _ = answers.send((ip, Event::Read { request, found }));
        });
    }

    fn write(&self, request: u64, register: Register, expected: Option<u64>, driver: &Driver) {
        let (lease, answers, ip) = (Arc::clone(&driver.lease), driver.answers.clone(), self.ip);
        let patience = driver.config.timing.registry_lease / 2;
        tokio::spawn(async move {
            let written = timeout(patience, lease.write(ip, &register, expected)).await;
            let outcome = match written {
                Ok(Ok(version)) => WriteOutcome::Done(version),
                Ok(Err(LeaseError::Conflict(_))) => WriteOutcome::Conflict,
                Ok(Err(LeaseError::Failed { may_have_happened: false, .. })) => WriteOutcome::NotDone,
                Ok(Err(LeaseError::Failed { may_have_happened: true, .. })) | Err(_) => WriteOutcome::Unknown,
            };
            let _ = answers.send((ip, Event::Written { request, outcome }));
        });
    }
}

/// What a machine must be told of a request that is not made.
fn undone(action: &Action) -> Option<Event> {
    match *action {
        Action::Write { request, .. } => Some(Event::Written { request, outcome: WriteOutcome::NotDone }),
        Action::Read { request } => Some(Event::read_failed(request)),
        _ => None,
    }
}
