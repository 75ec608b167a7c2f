//! Gateways of one registry while everything at once goes wrong that design.md promises to survive.
//!
//! Rounds: a fault strikes the registry, the way to it, or a gateway; meanwhile apps change, well and badly, endpoints
//! die and clients ask. When the fault is over everybody who registers registers again, and from then on every gateway has
//! [`CONVERGENCE`] to show the table that follows from the registry. What happens in which order follows from a seed.

mod check;
mod client;
mod deaths;
mod fault;
mod fleet;
mod journal;
mod registry;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tests::DEADLINE;

pub use check::CONVERGENCE;
pub use fault::Fault;
pub use journal::{Journal, Lost, Round};
pub use registry::Kind;

use client::Clients;
use deaths::Deaths;
use fleet::Fleet;
use registry::Registry;
use world::World;

/// Of one registry: one may go, and the others decide.
const MEMBERS: usize = 3;
/// Between two changes while a fault lasts.
const CHANGE_PAUSE: Duration = Duration::from_millis(80);
/// Changes in peace, before the next fault.
const PEACE: Duration = Duration::from_secs(1);
/// How often a round has one gateway killed besides, and how long that one stays dead at the most.
const KILL_SHARE: f64 = 0.35;
const DEAD: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub registry: Kind,
    pub gateways: usize,
    /// Of each gateway.
    pub clients: usize,
    pub time: Duration,
    /// The longest that a fault lasts.
    pub longest_fault: Duration,
    pub seed: u64,
}

/// Runs it. What was seen is judged by [`Journal::wrong`].
///
/// # Panics
/// When a registry, a gateway or a client of theirs cannot be started or does not come back.
pub fn run(plan: Plan) -> Journal {
    let mut rng = Rng::with_seed(plan.seed);
    let journal = Arc::new(Journal::begin());
    let mut registry = Registry::start(plan.registry, MEMBERS);
    let mut world = World::new(rng.fork());
    let mut fleet = Fleet::start(plan.gateways, &registry, &journal);
    registry.reconcile(&world);
    fleet.await_saved(DEADLINE * 2, &world.steady_apps());
    let deaths = Deaths::start(world.mortals(), rng.fork(), &journal);
    let clients = Clients::start(&fleet, plan.clients, world.hosts(), &mut rng, &journal);
    let mut stage = Stage {
        rng,
        registry: &mut registry,
        world: &mut world,
        fleet: &mut fleet,
        journal: &journal,
        took_data: false,
    };
    let mut number = 0;
    while journal.elapsed() < plan.time {
        number += 1;
        stage.round(number, plan.longest_fault);
    }
    clients.stop();
    deaths.stop();
    drop(fleet);
    Arc::into_inner(journal).unwrap_or_else(|| unreachable!("nobody writes any more"))
}

struct Stage<'a> {
    rng: Rng,
    registry: &'a mut Registry,
    world: &'a mut World,
    fleet: &'a mut Fleet,
    journal: &'a Journal,
    /// The last round's fault took what the registry had.
    took_data: bool,
}

impl Stage<'_> {
    fn round(&mut self, number: usize, longest: Duration) {
        let peace = PEACE.mul_f64(self.rng.f64());
        self.change_for(peace, None);
        let fault = Fault::choose(&mut self.rng, self.registry, self.fleet.len());
        let lasts = fault.lasts(&mut self.rng, longest);
        let victim = (self.rng.f64() < KILL_SHARE).then(|| self.rng.usize(..self.fleet.len()));
        let began = self.journal.elapsed();
        fault.strike(self.registry, self.fleet);
        if fault == Fault::Storm {
            self.registry.storm(&self.world.storm());
        }
        self.change_for(lasts, victim);
        fault.heal(self.registry, self.fleet);
        let healed = Instant::now();
        self.fleet.revive();
        self.registry.reconcile(self.world);
        let mut reconciled = Instant::now();
        // A gateway that dies in the moment of the operator's word doubts again.
        let accepts = fault.takes_data() || (self.took_data && victim.is_some());
        self.took_data = fault.takes_data();
        let expected = self.world.expected();
        let mut slowest = self.fleet.converge(&expected, reconciled, accepts);
        // A write that a frozen member was asked for may be done long after its writer has given up. Then it is the registry
        // that has changed since, and gateways were right to follow.
        while slowest.is_err() && self.registry.reconcile(self.world) {
            self.journal.late_write();
            reconciled = Instant::now();
            slowest = self.fleet.converge(&expected, reconciled, accepts);
        }
        self.journal.round(Round {
            number,
            fault: fault.name(),
            began,
            lasted: lasts,
            reconciled_after: reconciled - healed,
            gateway_killed: victim.is_some(),
            converged_after: slowest.clone().ok(),
            difference: slowest.err(),
        });
    }

    /// Changes apps for about `time`, and kills `victim` at some moment of it.
    fn change_for(&mut self, time: Duration, victim: Option<usize>) {
        let until = Instant::now() + time;
        let mut kill = victim.map(|at| (at, Instant::now() + time.mul_f64(self.rng.f64())));
        let mut rise = None;
        while Instant::now() < until || kill.is_some() {
            if let Some((at, _)) = kill.take_if(|(_, when)| *when <= Instant::now()) {
                self.fleet.kill(at);
                rise = Some((at, Instant::now() + DEAD.mul_f64(self.rng.f64())));
            }
            if let Some((at, _)) = rise.take_if(|(_, when)| *when <= Instant::now()) {
                self.fleet.rise(at);
            }
            self.fleet.look();
            let (key, value) = self.world.change();
            let is_done = match &value {
                Some(value) => self.registry.put(&key, value),
                None => self.registry.delete(&key),
            };
            self.journal.change(is_done);
            std::thread::sleep(CHANGE_PAUSE.mul_f64(self.rng.f64()));
        }
        if let Some((at, _)) = rise {
            self.fleet.rise(at);
        }
    }
}
