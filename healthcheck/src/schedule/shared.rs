//! Probing that a fleet of gateways shares: which targets are probed here, and whose word is heeded for the others.
//!
//! A target is always probed here at first: what a new endpoint's first probe says holds at once, on every gateway. Its
//! task ends when somebody who has to probe it has said something of it, and begins again when nobody does. So there is
//! no moment in which nobody looks, whatever the registry, the network and the colleagues do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;
use topology::{AppId, HealthSettings, InstanceKey};

use super::{Checker, ProbeTarget, Probing, Work, pace};
use crate::State;
use crate::cell::{Inherit, Recorded};
use crate::sharing::desk::{Desk, Duty, Word};
use crate::sharing::verdicts::{BUCKETS, Down, Fingerprint, MAX_DOWN, Verdicts, part, short};
use crate::sharing::{Colleague, EndpointHash};

/// How long what was heard last is left as it is while nobody says anything: longer than gateways need to learn of a
/// change and to say so, since otherwise every change would have whole buckets probed by everybody.
const GRACE: Duration = Duration::from_secs(3);

/// By what a target is known to other gateways, if it is.
pub(super) type Shared = Option<(EndpointHash, Fingerprint)>;

/// What a checker that shares knows.
pub(super) struct Sharing {
    desk: Desk,
    /// By bucket: the targets that may be shared.
    members: Vec<HashMap<EndpointHash, (AppId, InstanceKey)>>,
    /// A bit for every bucket with a target that waits for something that only time brings.
    waiting: u64,
    saved: Vec<Saved>,
    looked_at: Instant,
    mine: Arc<Verdicts>,
}

/// In a bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Saved {
    heeded: usize,
    /// Probes a second that are not sent.
    rate: f64,
}

impl Sharing {
    fn add(&mut self, endpoint: EndpointHash, app: &AppId, key: &InstanceKey) {
        let bucket = endpoint.bucket();
        self.members[bucket].insert(endpoint, (app.clone(), key.clone()));
        self.desk.mark(1 << bucket);
    }

    fn remove(&mut self, endpoint: EndpointHash) {
        let bucket = endpoint.bucket();
        self.members[bucket].remove(&endpoint);
        self.desk.mark(1 << bucket);
    }
}

/// Fingerprints of one app's targets, which nearly always have the same settings.
#[derive(Default)]
pub(super) struct Printer {
    settings: Option<(Arc<HealthSettings>, u64)>,
}

impl Printer {
    fn print(&mut self, target: &ProbeTarget) -> Fingerprint {
        let known = self.settings.take().filter(|(settings, _)| Arc::ptr_eq(settings, &target.settings));
        let (settings, hash) =
            known.unwrap_or_else(|| (target.settings.clone(), Fingerprint::of_settings(&target.settings)));
        self.settings = Some((settings, hash));
        Fingerprint::of(target, hash)
    }
}

impl Checker {
    /// From now on each target that [may be](super::ProbeTarget::may_be_shared) is probed by as many gateways as `probers`
    /// says (at least one), this one being `me`. To be called before the first target.
    pub fn share(&mut self, me: &str, probers: usize) {
        self.sharing = Some(Box::new(Sharing {
            desk: Desk::new(me, probers),
            members: vec![HashMap::new(); BUCKETS],
            waiting: 0,
            saved: vec![Saved::default(); BUCKETS],
            looked_at: Instant::now(),
            mine: Arc::default(),
        }));
    }

    /// Makes `colleagues` all that share with this one. `None`: nobody can be heard.
    pub fn hear(&mut self, colleagues: Option<Vec<Colleague>>) {
        if let Some(sharing) = &mut self.sharing {
            sharing.desk.hear(colleagues, Instant::now());
        }
    }

    /// To be called about once a second: notices who has fallen silent.
    pub fn look(&mut self) {
        let Some(sharing) = &mut self.sharing else { return };
        let now = Instant::now();
        sharing.desk.look(now);
        sharing.desk.mark(std::mem::take(&mut sharing.waiting));
        let rate: f64 = sharing.saved.iter().map(|saved| saved.rate).sum();
        let time = now - std::mem::replace(&mut sharing.looked_at, now);
        let heeded = sharing.saved.iter().map(|saved| saved.heeded).sum();
        let stats = &self.surroundings.stats.sharing;
        stats.save(rate * time.as_secs_f64());
        stats.note(heeded, sharing.desk.colleagues(), sharing.desk.stale());
    }

    /// Whether [`Self::catch_up`] has something to do.
    pub fn is_behind(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.desk.is_dirty())
    }

    /// Decides anew over a sixty-fourth of the targets: a fraction of a millisecond with a hundred thousand.
    pub fn catch_up(&mut self) {
        let Some(mut sharing) = self.sharing.take() else { return };
        if let Some(bucket) = sharing.desk.take() {
            self.decide(&mut sharing, bucket);
        }
        self.sharing = Some(sharing);
    }

    /// What this gateway says of those that it has to probe. The same object as before where it says the same.
    pub fn verdicts(&mut self) -> Arc<Verdicts> {
        let Some(mut sharing) = self.sharing.take() else { return Arc::default() };
        let mut changed = self.surroundings.changed.swap(0, Relaxed);
        if changed != 0 {
            let mut mine = (*sharing.mine).clone();
            while changed != 0 {
                let bucket = changed.trailing_zeros() as usize;
                changed &= changed - 1;
                self.say(&sharing, bucket, &mut mine);
            }
            if mine != *sharing.mine {
                sharing.mine = Arc::new(mine);
            }
        }
        let mine = sharing.mine.clone();
        self.sharing = Some(sharing);
        mine
    }

    fn say(&self, sharing: &Sharing, bucket: usize, mine: &mut Verdicts) {
        mine.down.retain(|endpoint, _| endpoint.bucket() != bucket);
        mine.sums[bucket] = 0;
        for (endpoint, (app, key)) in &sharing.members[bucket] {
            let Some(probing) = self.probing(app, key).filter(|probing| probing.is_mine) else { continue };
            let Some((_, print)) = probing.shared else { continue };
            let cell = &probing.target.cell;
            match cell.state() {
                State::Unknown => continue,
                State::Down if mine.down.len() >= MAX_DOWN => continue,
                State::Down => {
                    let why = cell.report().last_error.map(|error| short(&error.text)).unwrap_or_default();
                    mine.down.insert(*endpoint, Down { app: app.clone(), key: key.clone(), print, why });
                }
                State::Up => {}
            }
            mine.sums[bucket] = mine.sums[bucket].wrapping_add(part(print));
        }
    }

    fn decide(&mut self, sharing: &mut Sharing, bucket: usize) {
        let members: Vec<_> = sharing.members[bucket].values().cloned().collect();
        let shared: Vec<_> = members
            .iter()
            .map(|(app, key)| self.probing(app, key).and_then(|probing| probing.shared).unwrap_or_default())
            .collect();
        let mut saved = Saved::default();
        for ((app, key), duty) in members.iter().zip(sharing.desk.judge(bucket, &shared)) {
            if self.obey(app, key, duty) {
                sharing.waiting |= 1 << bucket;
            }
            let Some(probing) = self.probing(app, key) else { continue };
            if let Work::Heeded { .. } = probing.work {
                let target = &probing.target;
                saved.heeded += 1;
                saved.rate += pace::interval(&target.settings, target.cell.is_up()).as_secs_f64().recip();
            }
        }
        sharing.saved[bucket] = saved;
        self.surroundings.changed.fetch_or(1 << bucket, Relaxed);
    }

    /// Returns whether that is to be decided again when some time has passed.
    fn obey(&mut self, app: &AppId, key: &InstanceKey, duty: Duty) -> bool {
        let Some(probing) = self.apps.get_mut(app).and_then(|app| app.get_mut(key)) else { return false };
        probing.is_mine = duty == Duty::Probe;
        match (duty, &mut probing.work) {
            (Duty::Probe | Duty::Unheard, Work::Own { .. }) => false,
            (Duty::Heed(_), Work::Own { .. }) if !probing.target.cell.is_probed() => true,
            (Duty::Heed(word), Work::Own { cancel, .. }) => {
                cancel.cancel();
                let writer = probing.target.cell.attach(Inherit::State);
                probing.work = Work::Heeded { writer, unheard: None };
                self.heed(app, key, &word);
                false
            }
            (Duty::Heed(word), Work::Heeded { unheard, .. }) => {
                *unheard = None;
                self.heed(app, key, &word);
                false
            }
            (Duty::Unheard, Work::Heeded { unheard, .. }) => {
                let since = *unheard.get_or_insert_with(Instant::now);
                if since.elapsed() < GRACE {
                    return true;
                }
                self.surroundings.stats.sharing.count_stale();
                self.probe_again(app, key);
                false
            }
            (Duty::Probe, Work::Heeded { .. }) => {
                self.probe_again(app, key);
                false
            }
        }
    }

    fn heed(&self, app: &AppId, key: &InstanceKey, word: &Word) {
        let Some(probing) = self.probing(app, key) else { return };
        let Work::Heeded { writer, .. } = probing.work else { return };
        let recorded = probing.target.cell.heed(writer, word);
        let stats = &self.surroundings.stats;
        match recorded {
            Recorded::Stale | Recorded::Unchanged => {}
            Recorded::Heard => stats.sharing.count_received(word.is_up),
            Recorded::Changed(transition) => {
                stats.sharing.count_received(word.is_up);
                stats.count_transition(transition.to);
                (self.surroundings.on_transition)(&probing.target, transition);
            }
        }
    }

    fn probe_again(&mut self, app: &AppId, key: &InstanceKey) {
        let Some(probing) = self.probing(app, key) else { return };
        let (target, shared, is_mine) = (probing.target.clone(), probing.shared, probing.is_mine);
        let probing = Probing { is_mine, ..self.start(target, shared, Inherit::State) };
        if let Some(app) = self.apps.get_mut(app) {
            app.insert(key.clone(), probing);
        }
    }

    /// `target` takes the place of `former`.
    pub(super) fn enlist(
        &mut self,
        former: Option<&Probing>,
        target: &ProbeTarget,
        printer: &mut Printer,
    ) -> Shared {
        if let Some(former) = former {
            self.dismiss(former);
        }
        let sharing = self.sharing.as_mut().filter(|_| target.may_be_shared)?;
        let endpoint = EndpointHash::of(&target.app, &target.key);
        sharing.add(endpoint, &target.app, &target.key);
        Some((endpoint, printer.print(target)))
    }

    pub(super) fn dismiss(&mut self, probing: &Probing) {
        if let (Some(sharing), Some((endpoint, _))) = (&mut self.sharing, probing.shared) {
            sharing.remove(endpoint);
        }
    }

    fn probing(&self, app: &AppId, key: &InstanceKey) -> Option<&Probing> {
        self.apps.get(app)?.get(key)
    }
}

#[cfg(test)]
mod tests;
