//! One address as one gateway sees it: events and the time in, actions out. No I/O, no clock, no chance.
//!
//! ```text
//!                     version not mine                     wait over, wish to hold
//!   reads ───────────────────────────────► stands by ─────────────────────────────► claims
//!                                            ▲    ▲                                    │
//!               another epoch, released      │    └──────── conflict ──────────────────┤
//!         ┌──────────────────────────────────┘                                         │ mine
//!         │                                                                            ▼
//!       registered: lease = min over all registers that may be in force of
//!                     grantors: min(answered heartbeat sent + L, write sent + hold_max)
//!                     none:     write sent + L_r                 (registry mode)
//!         lease runs: holds ◄─────► lease over: does not hold, goes on asking
//! ```
//!
//! **Why there is no second holder.** A lease of L by a grantor's grant ends, by the holder's clock, L after the
//! heartbeat was sent; the grantor promised after that moment not to take over for L′, by its own. With
//! L′(1−ρ) ≥ L(1+ρ) + lateness the holder's fence has closed before the grantor's claim is sent. The claim expects the
//! version under which the grantor was one, so it fails where the holder has removed it; and the holder counts without it only when
//! that removal is known to have happened. What holds for grants holds for writes and those who wait for the
//! next one. Each of these *because*s is a field of [`Conditions`].
//!
//! `holding.rs` is what a registered holder does, `claiming.rs` what the others do, `register.rs` how either learns
//! what the register is.

mod claiming;
mod conditions;
mod event;
mod holding;
mod register;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::{BTreeMap, VecDeque};

pub use conditions::Conditions;
pub use event::{Action, DropReason, Event, Surroundings, Wish, WriteOutcome};
pub use timing::Timing;

use crate::config::Mode;
use crate::identity::{BootId, GatewayId};
use crate::moment::Moment;
use crate::register::Register;
use holding::Stuck;
use register::{Attempt, Known, Request};

/// The kernel refused: it will not think better of it at once, and a peer may have more luck.
const PLATFORM_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// The protocol for one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    me: GatewayId,
    boot: BootId,
    mode: Mode,
    timing: Timing,
    conditions: Conditions,
    wish: Wish,
    surroundings: Surroundings,
    now: Moment,
    known: Known,
    /// Writes that expect the known version and may have happened, or may yet.
    attempts: Vec<Attempt>,
    request: Option<Request>,
    requests: u64,
    /// The register may be another one than is known.
    reread: bool,
    retry_at: Moment,
    seq: u64,
    next_beat: Moment,
    /// Heartbeats of late, with when they were sent.
    beats: VecDeque<(u64, Moment)>,
    /// By peer, when the newest heartbeat was sent that it answered.
    answered: BTreeMap<GatewayId, Moment>,
    /// When a grantor was removed: it does not come back at once.
    removed: BTreeMap<GatewayId, Moment>,
    /// When the last grant was given.
    promised: Option<Moment>,
    /// The newest heartbeat that was granted: its run and number.
    heard: Option<(BootId, u64)>,
    /// Runs that are over, the latest last.
    ended: VecDeque<(GatewayId, BootId)>,
    /// Until when the platform was told to answer.
    told: Option<Moment>,
    /// The latest that it was ever told.
    fence: Moment,
    /// It could not be told to stop.
    stuck: Option<Stuck>,
    paused_until: Moment,
    handing_over: Option<(Option<GatewayId>, DropReason)>,
    contested: bool,
    /// When this gateway took over, the last few times.
    moves: VecDeque<Moment>,
    /// Since when the address that it claimed may have been nobody's.
    vacant: Moment,
}

/// What a machine would say of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub register: Option<Register>,
    pub version: Option<u64>,
    /// This run is the registered holder.
    pub registered: bool,
    /// Until when it answers for the address, if it does.
    pub holding: Option<Moment>,
    /// Grantors whose last grant is older than half a lease.
    pub missing: usize,
    /// Since when nobody may have held when this gateway took over.
    pub vacant: Moment,
    /// A write's outcome is unknown.
    pub uncertain: bool,
}

impl Machine {
    /// Knows nothing yet; its first turn reads the register. `now` is the machine's clock, which may not go back.
    pub fn new(me: GatewayId, boot: BootId, mode: Mode, timing: Timing, now: Moment) -> Self {
        Self {
            me,
            boot,
            mode,
            timing,
            conditions: Conditions::ALL,
            wish: Wish::Yield,
            surroundings: Surroundings::default(),
            now,
            known: Known::nothing(now),
            attempts: Vec::new(),
            request: None,
            requests: 0,
            reread: true,
            retry_at: now,
            seq: 0,
            next_beat: now,
            beats: VecDeque::new(),
            answered: BTreeMap::new(),
            removed: BTreeMap::new(),
            promised: None,
            heard: None,
            ended: VecDeque::new(),
            told: None,
            fence: Moment::START,
            stuck: None,
            paused_until: now,
            handing_over: None,
            contested: false,
            moves: VecDeque::new(),
            vacant: now,
        }
    }

    #[cfg(test)]
    pub(crate) fn heeding(mut self, conditions: Conditions) -> Self {
        self.conditions = conditions;
        self
    }

    /// One turn. `now` must have been read after the event was received and before the first action is done.
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut actions = Vec::new();
        if self.conditions.deadline_comes_first {
            self.expire(&mut actions);
        }
        self.take(event, &mut actions);
        self.settle(&mut actions);
        if self.registered().is_some() {
            self.keep(&mut actions);
        } else {
            self.stand_by(&mut actions);
        }
        actions
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Turn => {}
            Event::Watched(found) => self.watched(found),
            Event::Read { request, found } => self.read(request, found, actions),
            Event::Written { request, outcome } => self.written(request, outcome),
            Event::Heartbeat { from, boot, epoch, seq } => self.asked(from, boot, epoch, seq, actions),
            Event::Granted { from, boot, epoch, seq } => self.granted(from, boot, epoch, seq),
            Event::Refused { epoch } => self.refused(epoch),
            Event::Ended { from, boot } => self.bury(from, boot),
            Event::Wish(wish) => self.wish = wish,
            Event::Surroundings(surroundings) => self.surroundings = surroundings,
            Event::HandOver { successor, why } => {
                if self.registered().is_some() && successor.as_ref() != Some(&self.me) {
                    self.handing_over = Some((successor, why));
                }
            }
            Event::Contested => {
                self.contested = true;
                self.reread = true;
            }
            Event::HoldFailed => self.hold_failed(actions),
            Event::DropFailed => self.drop_failed(),
        }
    }

    /// When the next turn is due if nothing happens before.
    pub fn next_wake(&self) -> Option<Moment> {
        let work = if self.registered().is_some() { self.next_work() } else { self.next_claim() };
        let stuck = self.stuck.map(|stuck| stuck.retry_at);
        let deadline = self.told.filter(|_| self.conditions.deadline_comes_first);
        [deadline, stuck, work].into_iter().flatten().min()
    }

    pub fn view(&self) -> View {
        let registered = self.registered();
        let missing = registered
            .map_or(0, |register| register.grantors.iter().filter(|grantor| self.is_silent(grantor)).count());
        View {
            register: self.known.register().cloned(),
            version: self.known.version(),
            registered: registered.is_some(),
            holding: self.told,
            missing,
            vacant: self.vacant,
            uncertain: !self.attempts.is_empty(),
        }
    }

    pub fn boot(&self) -> BootId {
        self.boot
    }
}
