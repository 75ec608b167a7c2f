//! What of the registry's word is not believed at once.
//!
//! A registry can be wrong without being away: the session of a registrar that held a whole app's addresses
//! expires, a wiped ensemble comes back empty, a restored one comes back with last week's keys. Whoever
//! obeyed would drop traffic that healthy endpoints could have served. So:
//!
//! - **Mass loss.** When more than half of an app's addresses that live by a session, or all that take requests, vanish
//!   within [`WINDOW`] and nothing came in their place, those that still serve stay for a grace period. A key that
//!   was deleted and not lost with a session is a decision, and obeyed; so is the end of the app's spec. What has been
//!   registered at the same address since is there instead.
//! - **A registry that went back**: its revision, or the version of a key, is lower than one that was seen before; or a key
//!   was last changed when this was not how it was; or most apps have lost every address in one step; or nothing is left of what was known, and some of it was made anew.
//!   The last good entries stay, and what changes from then on is believed again, key by key. The doubt ends when nothing
//!   is held back any more: the keys have come back, their endpoints have failed their probes, or an operator has
//!   accepted the registry as it is.
//!
//! What a former run served counts as what the registry said last: a start is a long outage.
//!
//! Pure: the state, the time and what probes say come as arguments.

mod known;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use topology::{AppId, InstanceKey};

use crate::layout::{Place, addresses_of, parse_address_value, parse_word_value, word_key};
use crate::registry::{Entry, Key, State};
use crate::saved::is_needed;
use known::Known;

/// What vanishes within it vanishes "at once". A session's keys go in one transaction, but are seen one by
/// one; rolling changes take longer from instance to instance.
pub const WINDOW: Duration = Duration::from_secs(2);
/// Fewer apps that lose every address, or keys that go, are a morning's work of somebody.
const EMPTIED: usize = 3;

/// Knows which endpoints serve.
pub trait Witness: Send + Sync + 'static {
    /// Whether nothing speaks against the endpoint. Of one that nobody probes nothing does.
    fn serves(&self, app: &AppId, instance: &InstanceKey) -> bool;

    /// Whether requests go there: it serves, and neither an operator nor its weight keeps them from it. `None` for an endpoint
    /// that is not known.
    fn takes_requests(&self, app: &AppId, instance: &InstanceKey) -> Option<bool>;
}

/// Why the registry as a whole is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Its revision, or the version of a key, is lower than one that was seen before, or a key says of itself that it was
    /// otherwise then: what the registry has is not what came of what it had.
    WentBack,
    /// Most apps lost every address in one step, or nothing is left of what was known.
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
    /// Where the endpoint is: whoever is registered there later has taken its place.
    Until(Instant, Option<SocketAddr>),
    /// Until somebody accepts the registry as it is.
    Doubted,
}

/// What an app has lost lately.
#[derive(Debug)]
struct Loss {
    since: Instant,
    /// How many addresses the app had then.
    before: usize,
    lost: Vec<Lost>,
}

#[derive(Debug)]
struct Lost {
    key: Key,
    entry: Entry,
    address: Option<SocketAddr>,
}

impl Skeptic {
    /// `last_good`: what a former run served, and the revision of that.
    pub fn new(grace: Duration, last_good: Option<(u64, OrdMap<Key, Entry>)>) -> Self {
        let (believed, served) = last_good.unwrap_or_default();
        let mut skeptic = Self {
            grace,
            heard: served.clone(),
            served,
            heard_revision: 0,
            believed,
            doubt: None,
            was_doubted: false,
            held: BTreeMap::new(),
            addresses: HashMap::new(),
            losses: HashMap::new(),
        };
        skeptic.count(&OrdMap::new());
        skeptic
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
        let former_revision = std::mem::replace(&mut self.heard_revision, state.revision);
        let known = Known {
            revision: if is_first { self.believed } else { former_revision },
            entries: &former,
            is_whole: !is_first,
        };
        let before = self.count(&former);
        if let Some(doubt) = self.suspect(&known, &before) {
            return self.begin_to_doubt(doubt);
        }
        self.follow(&former, &before, now);
        self.forget_replaced(&former);
        self.hold_mass_losses(&before, now, witness);
    }

    /// Whether there is a reason to doubt what was heard after what was `known`: also once more.
    fn suspect(&self, known: &Known<'_>, before: &HashMap<AppId, usize>) -> Option<Doubt> {
        if self.heard_revision < known.revision || known.is_contradicted_by(&self.heard) {
            return Some(Doubt::WentBack);
        }
        // How long ago a former run ended nobody knows, and meanwhile most apps may have gone by intent. An ensemble that
        // was emptied has none of its keys any more.
        let is_emptied = (known.is_whole && self.is_emptied(before)) || known.is_made_anew_in(&self.heard);
        is_emptied.then_some(Doubt::Emptied)
    }

    /// Believes what changed, but counts what was lost.
    fn follow(&mut self, former: &OrdMap<Key, Entry>, before: &HashMap<AppId, usize>, now: Instant) {
        let is_plain = self.held.is_empty();
        let mut ended = HashSet::new();
        let heard = self.heard.clone();
        for change in former.diff(&heard) {
            match change {
                DiffItem::Add(key, entry) | DiffItem::Update { new: (key, entry), .. } if !is_plain => {
                    self.held.remove(key);
                    self.served.insert(key.clone(), entry.clone());
                }
                DiffItem::Add(..) | DiffItem::Update { .. } => {}
                // Specs come before addresses in the order of keys.
                DiffItem::Remove(key, entry) => self.lose(key, entry, now, before, &mut ended),
            }
        }
        if is_plain {
            // Shares all of what was heard.
            self.served = heard;
        }
    }

    /// An address that another instance has now is not that of the former one any more, whatever answers there.
    fn forget_replaced(&mut self, former: &OrdMap<Key, Entry>) {
        if self.losses.is_empty() && self.held.is_empty() {
            return;
        }
        let heard = self.heard.clone();
        let taken: HashSet<_> = former.diff(&heard).filter_map(|change| newly_at(&change)).collect();
        if taken.is_empty() {
            return;
        }
        let is_taken = |address: &Option<SocketAddr>| address.is_some_and(|address| taken.contains(&address));
        self.losses.values_mut().for_each(|loss| loss.lost.retain(|lost| !is_taken(&lost.address)));
        self.let_go(|_, hold| matches!(hold, Hold::Until(_, address) if is_taken(address)));
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
        lost >= EMPTIED && lost * 2 > all
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
                let (key, entry) = (key.clone(), entry.clone());
                loss.lost.push(Lost { address: address_of(&key, &entry), key, entry });
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
            if left * 2 >= loss.before && has_taker(&self.heard, app, witness) {
                continue;
            }
            let mut held = 0;
            for Lost { key, entry, address } in loss.lost.drain(..) {
                if !self.heard.contains_key(&key) && serves(&key, witness) {
                    self.served.insert(key.clone(), entry);
                    self.held.insert(key, Hold::Until(now + self.grace, address));
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
        self.let_go(|key, hold| {
            matches!(hold, Hold::Until(until, _) if now >= *until) || !serves(key, witness)
        });
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

/// Where an instance is registered that was not there before.
fn newly_at(change: &DiffItem<'_, '_, Key, Entry>) -> Option<SocketAddr> {
    match *change {
        DiffItem::Add(key, new) => address_of(key, new),
        DiffItem::Update { old: (_, old), new: (key, new) } => {
            address_of(key, new).filter(|address| address_of(key, old) != Some(*address))
        }
        DiffItem::Remove(..) => None,
    }
}

/// Where the endpoint is, if the key is one's and its value can be used.
fn address_of(key: &Key, entry: &Entry) -> Option<SocketAddr> {
    let Ok(Place::Address { key: instance, .. }) = Place::of(key) else { return None };
    parse_address_value(key.as_str(), instance, &entry.value).ok().map(|endpoint| endpoint.address)
}

/// Whether the registry has an endpoint of `app` that takes requests.
fn has_taker(heard: &OrdMap<Key, Entry>, app: &AppId, witness: &dyn Witness) -> bool {
    let above = addresses_of(app);
    let from = heard.range::<_, str>((Bound::Included(above.as_str()), Bound::Unbounded));
    from.take_while(|(key, _)| key.as_str().starts_with(&above)).any(|(key, entry)| {
        let Ok(Place::Address { app, key: instance }) = Place::of(key) else { return false };
        // The witness knows of a word that was good once; what was heard may be new to it.
        let word = heard.get(&word_key(&app, &instance));
        let word = word.and_then(|word| parse_word_value(key.as_str(), &word.value).ok()).unwrap_or_default();
        let is_usable = || {
            let endpoint = parse_address_value(key.as_str(), instance.clone(), &entry.value);
            endpoint.is_ok_and(|endpoint| endpoint.weight > 0)
        };
        let takes = witness.takes_requests(&app, &instance).unwrap_or_else(is_usable);
        takes && word.state.admits() && word.weight != Some(0)
    })
}

/// Nothing speaks against what is no endpoint.
fn serves(key: &Key, witness: &dyn Witness) -> bool {
    match Place::of(key) {
        Ok(Place::Address { app, key }) => witness.serves(&app, &key),
        _ => true,
    }
}
