//! Probing that a fleet of gateways shares: which targets are probed here, and whose word is heeded for the others.
//!
//! A word tells when to look, never what to see. Each state in force is one that a probe of this gateway's own has found:
//! what others say takes the place of the next probes for as long as it is the same, and has one probe sent at once when it is
//! not. So a gateway that lies, or that cannot reach what others can, takes nothing out anywhere but at home. When nobody says anything of
//! a target, it is probed here, whatever the registry, the network and the colleagues do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use topology::{AppId, HealthSettings, InstanceKey};

use super::{Checker, ProbeTarget, Probing, Surroundings, Work, pace};
use crate::cell::Inherit;
use crate::sharing::desk::{Desk, Duty};
use crate::sharing::verdicts::{BUCKETS, Down, Fingerprint, MAX_DOWN, MAX_DOWN_BYTES, Verdicts, part, short};
use crate::sharing::{Colleague, EndpointHash};
use crate::verdict::Thresholds;
use crate::{SharingStats, State};

/// How long what was heard last is left as it is while nobody says anything: longer than gateways need to learn of a
/// change and to say so, since otherwise every change would have whole buckets probed by everybody.
const GRACE: Duration = Duration::from_secs(3);

/// How long a target is probed here at least, once that has begun: somebody whose word turns all the time causes no more probes than
/// one in this time.
const HOLD: Duration = Duration::from_secs(3);

/// A gateway that is so late with its probes says nothing of them: it is as if it were gone.
const STUCK: Duration = Duration::from_secs(3);

/// By what a target is known to other gateways, if it is.
pub(super) type Shared = Option<(EndpointHash, Fingerprint)>;

/// What a checker that shares knows.
pub(super) struct Sharing {
    desk: Desk,
    /// By bucket: the targets that may be shared.
    members: Vec<HashMap<EndpointHash, (AppId, InstanceKey)>>,
    /// A bit for every bucket with a target that waits for something that only time brings.
    waiting: u64,
    /// A bit for every bucket of which this gateway may have something else to say.
    unsaid: u64,
    sums: Vec<Sum>,
    looked_at: Instant,
    mine: Arc<Verdicts>,
}

/// Of a bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    heeded: usize,
    disputed: usize,
    /// Probes a second that are not sent.
    rate: f64,
}

/// What one target is to be remembered for.
#[derive(Debug, Clone, Copy, Default)]
struct Decided {
    /// It is to be decided over again when some time has passed.
    waits: bool,
    /// Others have to probe it, and this gateway does not find what they say.
    is_disputed: bool,
}

impl Decided {
    const WAITS: Self = Self { waits: true, is_disputed: false };
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
            unsaid: 0,
            sums: vec![Sum::default(); BUCKETS],
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

    /// To be called a few times a second: notices who has fallen silent, and what probes have found. Whether this gateway may
    /// vouch for what it probes: one whose probes come late, or not at all, is to fall silent.
    pub fn look(&mut self) -> bool {
        let Some(mut sharing) = self.sharing.take() else { return false };
        let now = Instant::now();
        sharing.desk.look(now);
        self.notice(&mut sharing);
        sharing.desk.mark(std::mem::take(&mut sharing.waiting));
        let rate: f64 = sharing.sums.iter().map(|sum| sum.rate).sum();
        let time = now - std::mem::replace(&mut sharing.looked_at, now);
        let heeded = sharing.sums.iter().map(|sum| sum.heeded).sum();
        let disputed = sharing.sums.iter().map(|sum| sum.disputed).sum();
        let stats = &self.surroundings.stats.sharing;
        stats.save(rate * time.as_secs_f64());
        stats.note(heeded, disputed);
        stats.note_colleagues(sharing.desk.colleagues(), sharing.desk.stale());
        self.sharing = Some(sharing);
        self.surroundings.lag() < STUCK
    }

    /// Of our own probes.
    fn notice(&self, sharing: &mut Sharing) {
        let changed = self.surroundings.changed.swap(0, Ordering::Acquire);
        sharing.desk.mark(changed);
        sharing.unsaid |= changed;
    }

    /// Requests have found a target bad: it is probed here at once, whatever others say.
    pub fn doubt(&mut self, app: &AppId, key: &InstanceKey) {
        let Some(probing) = self.probing(app, key) else { return };
        if let (Work::Heeded { .. }, Some((endpoint, _))) = (&probing.work, probing.shared) {
            let doubt = probing.target.doubt();
            self.probe_again(app, key, doubt);
            if let Some(sharing) = &mut self.sharing {
                sharing.waiting |= 1 << endpoint.bucket();
            }
        }
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
        self.notice(&mut sharing);
        let mut unsaid = std::mem::take(&mut sharing.unsaid);
        if unsaid != 0 {
            let mut mine = (*sharing.mine).clone();
            while unsaid != 0 {
                let bucket = unsaid.trailing_zeros() as usize;
                unsaid &= unsaid - 1;
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
        let mut bytes: usize = mine.down.values().map(Down::bytes).sum();
        for (endpoint, (app, key)) in &sharing.members[bucket] {
            let Some(probing) = self.probing(app, key).filter(|probing| probing.is_mine) else { continue };
            let Some((_, print)) = probing.shared else { continue };
            let cell = &probing.target.cell;
            match cell.state() {
                State::Unknown => continue,
                State::Down if mine.down.len() >= MAX_DOWN => continue,
                State::Down => {
                    let why = cell.report().last_error.map(|error| short(&error.text)).unwrap_or_default();
                    let down = Down { app: app.clone(), key: key.clone(), print, why };
                    bytes += down.bytes();
                    if bytes > MAX_DOWN_BYTES {
                        continue;
                    }
                    mine.down.insert(*endpoint, down);
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
        let mut sum = Sum::default();
        for ((app, key), duty) in members.iter().zip(sharing.desk.judge(bucket, &shared)) {
            let Decided { waits, is_disputed } = self.obey(app, key, duty);
            sharing.waiting |= u64::from(waits) << bucket;
            sum.disputed += usize::from(is_disputed);
            let Some(probing) = self.probing(app, key) else { continue };
            if let Work::Heeded { .. } = probing.work {
                let target = &probing.target;
                sum.heeded += 1;
                sum.rate += pace::interval(&target.settings, target.cell.is_up()).as_secs_f64().recip();
            }
        }
        sharing.sums[bucket] = sum;
        sharing.unsaid |= 1 << bucket;
    }

    fn obey(&mut self, app: &AppId, key: &InstanceKey, duty: Duty) -> Decided {
        let surroundings = self.surroundings.clone();
        let Some(probing) = self.probing_mut(app, key) else { return Decided::default() };
        probing.is_mine = duty == Duty::Probe;
        let decided = match &probing.work {
            Work::Own { .. } => Ok(probing.relieve(duty, &surroundings)),
            Work::Heeded { .. } => probing.heed(duty, &surroundings.stats.sharing),
        };
        decided.unwrap_or_else(|inherit| {
            self.probe_again(app, key, inherit);
            Decided::WAITS
        })
    }

    fn probe_again(&mut self, app: &AppId, key: &InstanceKey, inherit: Inherit) {
        let Some(probing) = self.probing(app, key) else { return };
        let (target, shared, is_mine) = (probing.target.clone(), probing.shared, probing.is_mine);
        let again = Probing { is_mine, ..self.start(target, shared, inherit) };
        if let Some(probing) = self.probing_mut(app, key) {
            *probing = again;
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
        let app = self.apps.get(app)?;
        app.get(position(app, key)?)
    }

    fn probing_mut(&mut self, app: &AppId, key: &InstanceKey) -> Option<&mut Probing> {
        let app = self.apps.get_mut(app)?;
        let at = position(app, key)?;
        app.get_mut(at)
    }
}

fn position(app: &[Probing], key: &InstanceKey) -> Option<usize> {
    app.binary_search_by(|probing| probing.target.key.cmp(key)).ok()
}

impl ProbeTarget {
    fn doubt(&self) -> Inherit {
        Inherit::Doubt(Thresholds::new(self.settings.rise, self.settings.fall))
    }
}

impl Probing {
    /// Of one that is probed here: ends that where others say what our own probes have found.
    fn relieve(&mut self, duty: Duty, surroundings: &Surroundings) -> Decided {
        let Work::Own { line, since, is_disputed } = &mut self.work else { return Decided::default() };
        let cell = &self.target.cell;
        let word = match duty {
            Duty::Probe | Duty::Unheard => {
                *is_disputed = false;
                return Decided::default();
            }
            // Its first probe has the bucket looked at again.
            _ if cell.state() == State::Unknown => return Decided::default(),
            _ if since.elapsed() < HOLD => return Decided::WAITS,
            Duty::Divided => None,
            Duty::Heed(word) => Some(word),
        };
        let Some(word) = word.filter(|word| word.is_up == cell.is_up()) else {
            if !std::mem::replace(is_disputed, true) {
                let ProbeTarget { app, key, .. } = &*self.target;
                let (state, why) = (cell.state().as_str(), cell.report().last_error.map(|error| error.text));
                let why = why.as_deref().filter(|_| !cell.is_up()).unwrap_or("");
                tracing::info!(target: "sluice::health", %app, version = %key.version, instance = %key.instance, state, why,
                    "other gateways that probe this endpoint see it otherwise: it is probed here too");
            }
            return Decided { waits: false, is_disputed: true };
        };
        surroundings.remove(*line);
        let writer = cell.attach(Inherit::State);
        if cell.heed(writer, &word) {
            surroundings.stats.sharing.count_received(word.is_up);
        }
        self.work = Work::Heeded { writer, unheard: None };
        Decided::default()
    }

    /// Of one that others probe.
    ///
    /// # Errors
    /// It is to be probed here, with this of what is known.
    fn heed(&mut self, duty: Duty, stats: &SharingStats) -> Result<Decided, Inherit> {
        let Work::Heeded { writer, unheard } = &mut self.work else { return Ok(Decided::default()) };
        let cell = &self.target.cell;
        match duty {
            Duty::Heed(word) if word.is_up == cell.is_up() => {
                *unheard = None;
                cell.heed(*writer, &word);
                Ok(Decided::default())
            }
            Duty::Heed(word) => {
                stats.count_received(word.is_up);
                Err(self.target.doubt())
            }
            Duty::Divided => Err(self.target.doubt()),
            Duty::Probe => Err(Inherit::State),
            Duty::Unheard if unheard.get_or_insert_with(Instant::now).elapsed() < GRACE => Ok(Decided::WAITS),
            Duty::Unheard => {
                stats.count_stale();
                Err(Inherit::State)
            }
        }
    }
}

#[cfg(test)]
mod tests;
