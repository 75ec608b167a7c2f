//! What of the registry's word is not believed at once.
//!
//! A registry can be wrong without being away: the session of a registrar that held a whole app's addresses
//! expires, a wiped ensemble comes back empty, a restored one comes back with last week's keys. Whoever
//! obeyed would drop traffic that healthy endpoints could have served. So:
//!
//! - **Mass loss.** When more than half of an app's addresses that live by a session vanish within
//!   [`WINDOW`] and nothing came in their place, those that still serve stay for a grace period. A key that
//!   was deleted and not lost with a session is a decision, and obeyed; so is the end of the app's spec.
//! - **A registry that went back**: its revision, or the version of a key, is lower than one that was seen before; or
//!   most apps have lost every address in one step. The last good entries stay, and what changes from then on is believed
//!   again, key by key. The doubt ends when nothing is held back any more: the keys have come back, their
//!   endpoints have failed their probes, or an operator has accepted the registry as it is.
//!
//! Pure: the state, the time and what probes say come as arguments.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use topology::{AppId, InstanceKey};

use crate::layout::Place;
use crate::registry::{Entry, Key, State};
use crate::saved::is_needed;

/// What vanishes within it vanishes "at once". A session's keys go in one transaction, but are seen one by
/// one; rolling changes take longer from instance to instance.
pub const WINDOW: Duration = Duration::from_secs(2);
/// Fewer apps that lose every address are a morning's work of somebody.
const EMPTIED_APPS: usize = 3;

/// Knows which endpoints serve.
pub trait Witness: Send + Sync + 'static {
    /// Whether nothing speaks against the endpoint. Of one that nobody probes nothing does.
    fn serves(&self, app: &AppId, instance: &InstanceKey) -> bool;
}

/// Why the registry as a whole is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Its revision, or the version of a key, is lower than one that was seen before. (ZooKeeper shows its own revision only
    /// with changes, so there it is the keys that tell.)
    WentBack,
    /// Most apps lost every address in one step.
    Emptied,
}

impl Doubt {
    pub const ALL: [Self; 2] = [Self::WentBack, Self::Emptied];

    /// As metrics and the admin listener show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WentBack => "went_back",
            Self::Emptied => "emptied",
        }
    }
}

/// What is served otherwise than the registry says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub doubt: Option<Doubt>,
    /// Keys that are served although the registry has them no more, or has them otherwise; ordered.
    pub held: Vec<Key>,
}

#[derive(Debug)]
pub struct Skeptic {
    /// How long what vanished in a mass loss stays; zero: not at all.
    grace: Duration,
    /// What is to be served.
    served: OrdMap<Key, Entry>,
    /// What the registry said last.
    heard: OrdMap<Key, Entry>,
    /// The revision of that.
    heard_revision: u64,
    /// The highest one that was believed.
    believed: u64,
    doubt: Option<Doubt>,
    /// Whether it was doubted at any moment of the last [`Self::hear`].
    was_doubted: bool,
    held: BTreeMap<Key, Hold>,
    /// How many addresses the registry has of each app.
    addresses: HashMap<AppId, usize>,
    losses: HashMap<AppId, Loss>,
}

#[derive(Debug, Clone, Copy)]
enum Hold {
    Until(Instant),
    /// Until somebody accepts the registry as it is.
    Doubted,
}

/// What an app has lost lately.
#[derive(Debug)]
struct Loss {
    since: Instant,
    /// How many addresses the app had then.
    before: usize,
    lost: Vec<(Key, Entry)>,
}

impl Skeptic {
    /// `last_good`: what a former run served, and the revision of that.
    pub fn new(grace: Duration, last_good: Option<(u64, OrdMap<Key, Entry>)>) -> Self {
        let (believed, served) = last_good.unwrap_or_default();
        Self {
            grace,
            served,
            heard: OrdMap::new(),
            heard_revision: 0,
            believed,
            doubt: None,
            was_doubted: false,
            held: BTreeMap::new(),
            addresses: HashMap::new(),
            losses: HashMap::new(),
        }
    }

    /// What is to be served, after the registry has said `state` or time has passed. Its revision is the one
    /// up to which the registry was believed.
    pub fn hear(&mut self, state: &State, now: Instant, witness: &dyn Witness) -> State {
        self.was_doubted = self.doubt.is_some();
        if state.link.is_connected() {
            self.take_in(state, now, witness);
        }
        self.was_doubted |= self.doubt.is_some();
        self.release(now, witness);
        if self.doubt.is_some() && self.held.is_empty() {
            self.doubt = None;
            tracing::info!(revision = self.heard_revision, "the registry is believed again");
        }
        if self.doubt.is_none() && self.heard_revision > 0 {
            self.believed = self.heard_revision;
        }
        let (link, entries) = (state.link.clone(), self.served.clone());
        State { link, revision: self.believed, ahead: state.ahead, entries }
    }

    /// An operator says that the registry is right as it is.
    pub fn accept(&mut self) {
        self.let_go(|_, _| true);
        self.losses.clear();
    }

    pub fn report(&self) -> Report {
        Report { doubt: self.doubt, held: self.held.keys().cloned().collect() }
    }

    /// Whether what was heard last comes from a registry that is doubted, or was until then: that a key was made anew is
    /// nobody's decision there, but follows from what the registry has lost.
    pub fn was_doubted(&self) -> bool {
        self.was_doubted
    }

    /// Whether time alone can change what is served.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    fn take_in(&mut self, state: &State, now: Instant, witness: &dyn Witness) {
        let is_first = self.heard_revision == 0;
        let former = std::mem::replace(&mut self.heard, state.entries.clone());
        self.heard_revision = state.revision;
        let before = self.count(&former);
        let known = if is_first { &self.served } else { &former };
        let went_back = state.revision < self.believed || has_older(known, &self.heard);
        if self.doubt.is_none() && went_back {
            return self.begin_to_doubt(Doubt::WentBack);
        }
        if is_first {
            // A former run's entries have done their service.
            self.served = self.heard.clone();
            return;
        }
        if self.doubt.is_none() && self.is_emptied(&before) {
            return self.begin_to_doubt(Doubt::Emptied);
        }
        let mut ended = HashSet::new();
        let heard = self.heard.clone();
        for change in former.diff(&heard) {
            match change {
                DiffItem::Add(key, entry) | DiffItem::Update { new: (key, entry), .. } => {
                    self.held.remove(key);
                    self.served.insert(key.clone(), entry.clone());
                }
                // Specs come before addresses in the order of keys.
                DiffItem::Remove(key, entry) => self.lose(key, entry, now, &before, &mut ended),
            }
        }
        self.hold_mass_losses(&before, now, witness);
    }

    /// Counts what differs from `former`; returns how many addresses the apps had that it touches.
    fn count(&mut self, former: &OrdMap<Key, Entry>) -> HashMap<AppId, usize> {
        let mut before = HashMap::new();
        for change in former.diff(&self.heard) {
            let (key, is_new) = match change {
                DiffItem::Add(key, _) => (key, true),
                DiffItem::Remove(key, _) => (key, false),
                DiffItem::Update { .. } => continue,
            };
            let Ok(Place::Address { app, .. }) = Place::of(key) else { continue };
            let now = self.addresses.get(&app).copied().unwrap_or_default();
            before.entry(app.clone()).or_insert(now);
            match if is_new { now + 1 } else { now.saturating_sub(1) } {
                0 => self.addresses.remove(&app),
                now => self.addresses.insert(app, now),
            };
        }
        before
    }

    /// Whether most apps have lost every address in this step.
    fn is_emptied(&self, before: &HashMap<AppId, usize>) -> bool {
        let has_lost_all =
            |(app, before): &(&AppId, &usize)| **before > 0 && !self.addresses.contains_key(*app);
        let lost = before.iter().filter(has_lost_all).count();
        let new =
            before.iter().filter(|(app, before)| **before == 0 && self.addresses.contains_key(*app)).count();
        let all = self.addresses.len() - new + lost;
        lost >= EMPTIED_APPS && lost * 2 > all
    }

    /// What is missing or has become otherwise stays as it was; what is new is served.
    fn begin_to_doubt(&mut self, doubt: Doubt) {
        let served = std::mem::take(&mut self.served);
        for change in served.diff(&self.heard) {
            let (DiffItem::Remove(key, _) | DiffItem::Update { old: (key, _), .. }) = change else {
                continue;
            };
            if is_needed(key) {
                self.held.insert(key.clone(), Hold::Doubted);
            }
        }
        self.served = self.heard.clone();
        for key in self.held.keys() {
            if let Some(entry) = served.get(key) {
                self.served.insert(key.clone(), entry.clone());
            }
        }
        self.doubt = Some(doubt);
        tracing::error!(
            why = doubt.as_str(),
            revision = self.heard_revision,
            believed = self.believed,
            held = self.held.len(),
            "the registry is doubted: the last good table is served until it is accepted as it is"
        );
    }

    fn lose(
        &mut self,
        key: &Key,
        entry: &Entry,
        now: Instant,
        before: &HashMap<AppId, usize>,
        ended: &mut HashSet<AppId>,
    ) {
        self.held.remove(key);
        self.served.remove(key);
        match Place::of(key) {
            Ok(Place::Spec(app)) => {
                self.forget(&app);
                ended.insert(app);
            }
            Ok(Place::Address { app, .. })
                if entry.ephemeral && !self.grace.is_zero() && !ended.contains(&app) =>
            {
                let had = before.get(&app).copied().unwrap_or_default();
                let fresh = || Loss { since: now, before: had, lost: Vec::new() };
                let loss = self.losses.entry(app).or_insert_with(fresh);
                if now.saturating_duration_since(loss.since) > WINDOW {
                    *loss = fresh();
                }
                loss.lost.push((key.clone(), entry.clone()));
            }
            _ => {}
        }
    }

    /// The app has ended: what it lost was not lost by mistake.
    fn forget(&mut self, app: &AppId) {
        self.losses.remove(app);
        self.let_go(|key, _| matches!(Place::of(key), Ok(Place::Address { app: of, .. }) if of == *app));
    }

    fn hold_mass_losses(&mut self, touched: &HashMap<AppId, usize>, now: Instant, witness: &dyn Witness) {
        for app in touched.keys() {
            let Some(loss) = self.losses.get_mut(app) else { continue };
            let left = self.addresses.get(app).copied().unwrap_or_default();
            if left * 2 >= loss.before {
                continue;
            }
            let mut held = 0;
            for (key, entry) in loss.lost.drain(..).filter(|(key, _)| !self.heard.contains_key(key)) {
                if serves(&key, witness) {
                    self.served.insert(key.clone(), entry);
                    self.held.insert(key, Hold::Until(now + self.grace));
                    held += 1;
                }
            }
            if held > 0 {
                tracing::warn!(
                    %app, held, left, had = loss.before, grace = ?self.grace,
                    "most endpoints vanished at once: those that serve stay for now"
                );
            }
        }
    }

    /// Lets go of what has had its time, or does not serve.
    fn release(&mut self, now: Instant, witness: &dyn Witness) {
        self.losses.retain(|_, loss| now.saturating_duration_since(loss.since) <= WINDOW);
        self.let_go(|key, hold| matches!(hold, Hold::Until(until) if now >= *until) || !serves(key, witness));
    }

    /// Serves what the registry says of the keys that are held and `over`.
    fn let_go(&mut self, over: impl Fn(&Key, &Hold) -> bool) {
        let Self { held, heard, served, .. } = self;
        held.retain(|key, hold| {
            let is_over = over(key, hold);
            if is_over {
                match heard.get(key) {
                    Some(entry) => served.insert(key.clone(), entry.clone()),
                    None => served.remove(key),
                };
            }
            !is_over
        });
    }
}

/// Whether a key has become what it was before.
fn has_older(former: &OrdMap<Key, Entry>, now: &OrdMap<Key, Entry>) -> bool {
    former.diff(now).any(|change| match change {
        DiffItem::Update { old: (_, old), new: (_, new) } => {
            old.created == new.created && new.version < old.version
        }
        DiffItem::Add(..) | DiffItem::Remove(..) => false,
    })
}

/// Nothing speaks against what is no endpoint.
fn serves(key: &Key, witness: &dyn Witness) -> bool {
    match Place::of(key) {
        Ok(Place::Address { app, key }) => witness.serves(&app, &key),
        _ => true,
    }
}
