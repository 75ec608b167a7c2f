//! Makes it so: reads the registry's state, decides app by app, writes each decision as one conditional transaction, and does
//! to instances what their records say.
//!
//! Nothing that matters is in memory. Every step is decided from what stands in the registry and from what runtimes and gateways
//! say, so an engine that dies is followed by another one, or by itself, with the next step. Several may run: decisions about
//! an app exclude each other by the version of its rollout, placements on a host by that of its ledger. A claim keeps two
//! from doing the same work; where it fails, work is done twice and nothing else.

mod conclude;
mod configure;
mod cpu;
mod decide;
mod fault;
mod gates;
mod look;
mod meter;
mod operations;
mod operator;
mod ports;
mod repair;
mod resize;
mod sights;
#[cfg(test)]
mod simulation;
mod spec;
mod split;
mod survey;
#[cfg(test)]
mod tests;
mod work;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use discovery::registry::{Expect, Lifetime, Registry, RegistryError, State};
use discovery::secrets::Keys;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinSet;
use topology::{AppId, InstanceId};

use crate::autoscale::Load;
use crate::model::{Millis, keys};
use crate::reconcile::Relocations;
use crate::rollout::SplitInForce;

use decide::{Decision, Matter, decide};
use fault::Faults;
use gates::{edges, start_blocked, stop_blocked, to_tell};
use resize::Resized;
use sights::Sightings;
use work::{Job, next_task};
use world::{AppView, World};

pub use configure::ConfigChange;
pub use fault::POINTS;
pub use meter::{AppCounts, Cause, Counts, HostCounts, Meter, Spread};
pub use operations::{Accepted, Asked, OperationState};
pub use operator::{AppStatus, Operator, OperatorError};
pub use ports::{Clock, Gateways, Hosts, Prober, system_clock};
pub use survey::{HostStatus, Standing};

/// Events that a slow listener may be behind; it is told how many it has missed.
const EVENTS_KEPT: usize = 1024;
/// A state that shows a transaction in parts is whole a moment later. One that is not was changed by somebody else.
const TORN_FOR: Millis = 10_000;
/// Between two looks for what nobody has a record of.
const SWEEP_EVERY: Millis = 5_000;

/// How patient it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A host that has not answered for so long is lost, and its instances move.
    pub lost_after: Duration,
    /// Of all instances, how many may be on the move at once, in percent; one may always.
    pub moved_percent: u32,
    /// How often a host is asked what runs.
    pub list_every: Duration,
    /// How long it may take to say so.
    pub call_timeout: Duration,
    /// When it looks again where nothing changes.
    pub tick: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // A Docker daemon that is upgraded is away for some twenty seconds.
            lost_after: Duration::from_secs(60),
            moved_percent: 20,
            list_every: Duration::from_secs(2),
            call_timeout: Duration::from_secs(10),
            tick: Duration::from_millis(500),
        }
    }
}

/// Something that happened, when it had been written.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Millis,
    pub app: AppId,
    pub instance: Option<InstanceId>,
    pub text: Arc<str>,
}

/// What it works with.
pub struct Tools {
    pub registry: Arc<dyn Registry>,
    pub hosts: Arc<dyn Hosts>,
    pub gateways: Arc<dyn Gateways>,
    pub prober: Arc<dyn Prober>,
    /// Opens configurations and sealed specs.
    pub keys: Option<Arc<Keys>>,
    pub clock: Clock,
    /// Told what it does.
    pub meter: Arc<Meter>,
}

struct Parts {
    registry: Arc<dyn Registry>,
    hosts: Arc<dyn Hosts>,
    gateways: Arc<dyn Gateways>,
    prober: Arc<dyn Prober>,
    keys: Option<Arc<Keys>>,
    clock: Clock,
    meter: Arc<Meter>,
    settings: Settings,
    /// In claims. Another one in every life, so that a claim of a former life is not taken for ours.
    name: String,
    sightings: Mutex<Sightings>,
    /// Apps of which an instance finds no place, and why.
    unplaceable: Mutex<BTreeMap<AppId, String>>,
    changed: Notify,
    events: broadcast::Sender<Event>,
    faults: Faults,
}

impl Parts {
    fn announce(&self, app: &AppId, instance: Option<InstanceId>, text: String, at: Millis) {
        tracing::info!(target: "sluice::deploy", %app, instance = instance.as_ref().map(InstanceId::as_str), "{text}");
        // Nobody may be listening.
        let _ = self.events.send(Event { at, app: app.clone(), instance, text: text.into() });
    }

    fn note_unfit(&self, app: &AppId, unfit: &[(InstanceId, Resized)]) {
        let mut sightings = self.sightings();
        for (id, said) in unfit {
            if let Some(sighting) = sightings.instances.get_mut(&(app.clone(), id.clone())) {
                sighting.resized = Some(said.clone());
                self.changed.notify_one();
            }
        }
    }

    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unplaceable(&self) -> MutexGuard<'_, BTreeMap<AppId, String>> {
        self.unplaceable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropping it ends what it does at once, wherever it is: the next one goes on from there.
pub struct Engine {
    parts: Arc<Parts>,
    state: watch::Receiver<State>,
    tasks: JoinSet<()>,
    torn_since: BTreeMap<AppId, Millis>,
    swept: Millis,
    lot: fastrand::Rng,
    heeds_claims: bool,
}

impl Engine {
    pub fn new(tools: Tools, settings: Settings) -> Self {
        Self::with(tools, settings, Faults::from_environment(), fastrand::Rng::new())
    }

    fn with(tools: Tools, settings: Settings, faults: Faults, mut lot: fastrand::Rng) -> Self {
        let Tools { registry, hosts, gateways, prober, keys, clock, meter } = tools;
        let state = registry.watch();
        let parts = Parts {
            registry,
            hosts,
            gateways,
            prober,
            keys,
            clock,
            meter,
            settings,
            name: format!("{:016x}", lot.u64(..)),
            sightings: Mutex::default(),
            unplaceable: Mutex::default(),
            changed: Notify::new(),
            events: broadcast::channel(EVENTS_KEPT).0,
            faults,
        };
        Self {
            parts: Arc::new(parts),
            state,
            tasks: JoinSet::new(),
            torn_since: BTreeMap::new(),
            swept: 0,
            lot,
            heeds_claims: true,
        }
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.parts.events.subscribe()
    }

    /// For those who say what is wanted, and ask how it is.
    pub fn operator(&self) -> Operator {
        Operator::new(Arc::clone(&self.parts))
    }

    /// Until it is dropped.
    pub async fn run(mut self) {
        loop {
            let wake = self.pass().await;
            let now = (self.parts.clock)();
            let until = wake.map_or(self.parts.settings.tick, |at| {
                Duration::from_millis(at.saturating_sub(now).max(1)).min(self.parts.settings.tick)
            });
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { return },
                () = self.parts.changed.notified() => {}
                () = tokio::time::sleep(until) => {}
            }
        }
    }

    /// Looks once at everything, decides and begins what is to be done. Returns when something is due.
    async fn pass(&mut self) -> Option<Millis> {
        while self.tasks.try_join_next().is_some() {}
        let began = Instant::now();
        let state = self.state.borrow_and_update().clone();
        if !state.link.is_connected() {
            return None;
        }
        let now = (self.parts.clock)();
        let mut world = World::read(state);
        for (key, why) in &world.unreadable {
            tracing::error!(%key, %why, "cannot be read, and nothing is done by it");
        }
        self.parts.sightings().follow(&world, now);
        self.list_hosts(&world, now);
        let relocations = self.relocations(&world, now);
        let apps: Vec<AppId> = world.apps.keys().cloned().collect();
        let mut wake: Option<Millis> = None;
        for app in apps {
            if !self.claim(&world, &app).await {
                continue;
            }
            let due = self.decide_app(&mut world, &app, &relocations, now).await;
            wake = [wake, due].into_iter().flatten().min();
            self.work(&world, &app, now);
        }
        if now.saturating_sub(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.sweep(&world).await;
            self.forget_operations(&world, now).await;
        }
        self.settle_operations(&world, now).await;
        self.measure(&world, began.elapsed(), now);
        wake
    }

    /// Whether it is ours to work on.
    async fn claim(&self, world: &World, app: &AppId) -> bool {
        let holder = world.apps.get(app).and_then(|view| view.claim.as_ref());
        if !self.heeds_claims || holder == Some(&self.parts.name) {
            return true;
        }
        if holder.is_some() {
            return false;
        }
        let name = Bytes::from(self.parts.name.clone());
        let claimed =
            self.parts.registry.write(&keys::claim(app), name, Expect::Absent, Lifetime::Session).await;
        self.parts.faults.point("after-claim").await;
        match claimed {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%app, %error, "another engine works on it");
                false
            }
        }
    }

    async fn decide_app(
        &mut self,
        world: &mut World,
        app: &AppId,
        relocations: &Relocations,
        now: Millis,
    ) -> Option<Millis> {
        let view = world.apps.get(app)?;
        if view.is_unreadable {
            return None;
        }
        if view.is_torn() {
            let since = *self.torn_since.entry(app.clone()).or_insert(now);
            if now.saturating_sub(since) >= TORN_FOR {
                self.torn_since.remove(app);
                self.parts.repair(world, app).await;
            }
            return Some(now + TORN_FOR);
        }
        self.torn_since.remove(app);
        let decision = self.consider(world, app, view, relocations, now);
        match &decision.unplaceable {
            Some(why) => drop(self.parts.unplaceable().insert(app.clone(), why.clone())),
            None => drop(self.parts.unplaceable().remove(app)),
        }
        let wake = decision.wake;
        self.parts.meter.count(app, decision.refusals.as_slice());
        self.parts.note_unfit(app, &decision.unfit);
        self.carry_out(world, app, decision, now).await;
        wake
    }

    fn consider(
        &mut self,
        world: &World,
        app: &AppId,
        view: &AppView,
        relocations: &Relocations,
        now: Millis,
    ) -> Decision {
        let parts = Arc::clone(&self.parts);
        let (sights, told, resized) = self.sights(world, app, view, relocations, now);
        let dependencies = edges(world);
        let rollout = view.rollout.as_ref().map(|rollout| &rollout.value);
        let receiving =
            rollout.and_then(|rollout| Some((rollout.release(rollout.target.as_ref()?)?, rollout.holding?)));
        let shunned_by: Vec<AppId> = world
            .apps
            .iter()
            .filter(|(_, other)| other.deployment.as_ref().is_some_and(|it| it.placement.apart.contains(app)))
            .map(|(other, _)| other.clone())
            .filter(|other| other != app)
            .collect();
        let matter = Matter {
            app,
            view,
            world,
            sights: &sights,
            told: &told,
            resized: &resized,
            to_tell: &to_tell(world, view),
            moving: &relocations.moving,
            split: self.split(world, app),
            traffic: receiving
                .and_then(|(release, since)| parts.gateways.traffic(app, &release.version, since)),
            load: Load { cpu: self.parts.cpu_load(world, app, view), ..parts.gateways.load(app) },
            start_blocked: start_blocked(world, app, &dependencies),
            stop_blocked: stop_blocked(world, app, &dependencies),
            unplaceable: parts.unplaceable().get(app).cloned(),
            shunned_by: &shunned_by,
            keys: parts.keys.as_deref(),
            now,
        };
        decide(&matter, || parts.seats(world), &mut self.lot)
    }

    fn split(&self, world: &World, app: &AppId) -> Result<SplitInForce, String> {
        let (spec, version) = world.spec(app);
        let key = discovery::layout::app_key(app);
        let shares = split::read(&key, spec, self.parts.keys.as_deref())?;
        let applied = version.is_none_or(|version| self.parts.gateways.has_applied(version));
        Ok(SplitInForce { shares, applied })
    }

    async fn carry_out(&self, world: &mut World, app: &AppId, decision: Decision, now: Millis) {
        if decision.steps.is_empty() {
            return;
        }
        self.parts.faults.point("before-decision").await;
        let written = self.parts.registry.transact(&decision.steps).await;
        self.parts.faults.point("after-decision").await;
        match written {
            Ok(version) => {
                world.take_ledgers(decision.ledgers, version);
                self.parts.meter.count(app, &decision.counts);
                for (instance, text) in decision.events {
                    self.parts.announce(app, instance, text, now);
                }
            }
            Err(RegistryError::Conflict { key, .. }) => {
                tracing::debug!(%app, %key, "was changed meanwhile; it is decided again");
            }
            Err(error) => tracing::warn!(%app, %error, "a decision cannot be written"),
        }
    }

    fn list_hosts(&mut self, world: &World, now: Millis) {
        let mut due = Vec::new();
        for (id, sighting) in &mut self.parts.sightings().hosts {
            if !sighting.is_busy && sighting.due <= now {
                sighting.is_busy = true;
                due.push(id.clone());
            }
        }
        for id in due {
            let Some(host) = world.hosts.get(&id) else { continue };
            let runtime = self.parts.hosts.runtime(&id, host);
            self.tasks.spawn(Arc::clone(&self.parts).list_host(id, runtime));
        }
    }

    /// Begins what is due for an app's instances.
    fn work(&mut self, world: &World, app: &AppId, now: Millis) {
        let Some(view) = world.apps.get(app) else { return };
        let Some(rollout) = &view.rollout else { return };
        let to_tell = to_tell(world, view);
        for (id, record) in &view.records {
            let Some(release) = rollout.value.release(&record.value.release) else { continue };
            let record = record.value.clone();
            let runtime = match world.hosts.get(&record.host) {
                Some(host) => self.parts.hosts.runtime(&record.host, host),
                None => Err("its host was removed".to_owned()),
            };
            let resize = record.resizing.clone().and_then(|to| {
                let limits = rollout.value.release(&to)?.spec.resources;
                Some((to, limits))
            });
            let job =
                Job { app: app.clone(), id: id.clone(), record, release: release.clone(), runtime, resize };
            let task = {
                let mut sightings = self.parts.sightings();
                let Some(sighting) = sightings.instances.get_mut(&(app.clone(), id.clone())) else {
                    continue;
                };
                let task = next_task(&job, sighting, &to_tell, now);
                sighting.is_busy |= task.is_some();
                task
            };
            if let Some(task) = task {
                self.tasks.spawn(Arc::clone(&self.parts).perform(job, task));
            }
        }
    }

    async fn sweep(&self, world: &World) {
        for leftover in world.leftovers() {
            self.parts.remove_leftover(world, &leftover).await;
        }
    }
}
