//! Whose word counts for which endpoint.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::verdicts::{Fingerprint, Verdicts, part};
use super::{EndpointHash, Fleet, Opinion, Probers, is_fresh, settle};

/// How often a gateway says something, changed or not. Its word is heeded for three times as long.
pub const BEAT: Duration = Duration::from_secs(5);

/// Another gateway that shares the probing.
#[derive(Debug, Clone)]
pub struct Colleague {
    /// Its `gateway.id`.
    pub name: Arc<str>,
    pub verdicts: Arc<Verdicts>,
    /// When this process learned that it said so, changed or not.
    pub heard_at: Instant,
}

/// What is to be done about an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It is this gateway's to probe.
    Probe,
    /// It is others' to probe, and all of those that can be believed say the same.
    Heed(Word),
    /// It is others' to probe, and they contradict each other.
    Divided,
    /// It is others' to probe, and none of them says anything that counts.
    Unheard,
}

/// What others have found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub is_up: bool,
    /// The last error, where it is down.
    pub why: Option<Arc<str>>,
    /// The gateways that say so.
    pub by: SmallVec<[Arc<str>; 2]>,
}

/// The colleagues, and which buckets have to be looked at again because of them.
#[derive(Debug)]
pub(crate) struct Desk {
    me: Box<str>,
    probers: usize,
    fleet: Fleet,
    /// In the order of the fleet's others.
    colleagues: Vec<Colleague>,
    /// Whether each was heard lately enough, when that was looked at last.
    are_fresh: Vec<bool>,
    /// Nobody can be heard.
    is_away: bool,
    /// A bit for each bucket.
    dirty: u64,
}

impl Desk {
    /// `probers`: how many gateways probe an endpoint; at least one.
    pub fn new(me: &str, probers: usize) -> Self {
        Self {
            me: me.into(),
            probers: probers.max(1),
            fleet: Fleet::new(me, []),
            colleagues: Vec::new(),
            are_fresh: Vec::new(),
            is_away: true,
            dirty: 0,
        }
    }

    /// Makes `colleagues` all that there are. `None`: the registry is away. Everybody keeps then what it has to probe, and
    /// nobody's word counts.
    pub fn hear(&mut self, colleagues: Option<Vec<Colleague>>, now: Instant) {
        self.is_away = colleagues.is_none();
        if let Some(colleagues) = colleagues {
            self.meet(colleagues);
        }
        self.look(now);
    }

    fn meet(&mut self, mut colleagues: Vec<Colleague>) {
        colleagues.retain(|colleague| *colleague.name != *self.me);
        let fleet = Fleet::new(&self.me, colleagues.iter().map(|colleague| &*colleague.name));
        colleagues.sort_by_key(|colleague| fleet.position(&colleague.name));
        if fleet == self.fleet {
            for (old, new) in self.colleagues.iter().zip(&colleagues) {
                if !Arc::ptr_eq(&old.verdicts, &new.verdicts) {
                    self.dirty |= old.verdicts.differences(&new.verdicts);
                }
            }
        } else {
            self.are_fresh = vec![false; colleagues.len()];
            self.fleet = fleet;
            self.dirty = u64::MAX;
        }
        self.colleagues = colleagues;
    }

    /// Notices who has not been heard for too long, and who is again.
    pub fn look(&mut self, now: Instant) {
        for (colleague, was_fresh) in self.colleagues.iter().zip(&mut self.are_fresh) {
            let is_fresh = !self.is_away && is_fresh(now.saturating_duration_since(colleague.heard_at));
            if std::mem::replace(was_fresh, is_fresh) != is_fresh {
                self.dirty = u64::MAX;
            }
        }
    }

    pub fn colleagues(&self) -> usize {
        self.colleagues.len()
    }

    /// Of those, how many are not heard.
    pub fn stale(&self) -> usize {
        self.are_fresh.iter().filter(|is_fresh| !**is_fresh).count()
    }

    pub fn mark(&mut self, buckets: u64) {
        self.dirty |= buckets;
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty != 0
    }

    /// The next bucket that has to be looked at.
    pub fn take(&mut self) -> Option<usize> {
        let bucket = (self.dirty != 0).then(|| self.dirty.trailing_zeros() as usize)?;
        self.dirty &= self.dirty - 1;
        Some(bucket)
    }

    /// What is to be done about each of `endpoints`, which are all of that bucket, in their order.
    pub fn judge(&self, bucket: usize, endpoints: &[(EndpointHash, Fingerprint)]) -> Vec<Duty> {
        let probers: Vec<_> =
            endpoints.iter().map(|(endpoint, _)| self.fleet.probers(*endpoint, self.probers)).collect();
        let mut sums = vec![0u64; self.colleagues.len()];
        for ((_, print), probers) in endpoints.iter().zip(&probers) {
            for other in probers.others.iter() {
                sums[*other] = sums[*other].wrapping_add(part(*print));
            }
        }
        let agrees = |other: usize| self.colleagues[other].verdicts.sums[bucket] == sums[other];
        let agree: Vec<_> = (0..sums.len()).map(|other| self.are_fresh[other] && agrees(other)).collect();
        let duty = |((endpoint, print), probers): (&(EndpointHash, Fingerprint), &Probers)| match probers.me {
            true => Duty::Probe,
            false => self.heed(*endpoint, *print, &probers.others, &agree),
        };
        endpoints.iter().zip(&probers).map(duty).collect()
    }

    fn heed(&self, endpoint: EndpointHash, print: Fingerprint, probers: &[usize], agree: &[bool]) -> Duty {
        let down = |other: usize| {
            let down = self.colleagues[other].verdicts.down.get(&endpoint);
            down.filter(|down| down.print == print && self.are_fresh[other])
        };
        // Who is named as down is believed to be, whatever else that gateway sees otherwise.
        let heard: SmallVec<[(usize, bool); 4]> = probers
            .iter()
            .filter_map(|other| match down(*other) {
                Some(_) => Some((*other, false)),
                None => agree[*other].then_some((*other, true)),
            })
            .collect();
        let is_up = match settle(heard.iter().map(|(_, is_up)| *is_up)) {
            None => return Duty::Unheard,
            Some(Opinion::Divided) => return Duty::Divided,
            Some(opinion) => opinion == Opinion::Up,
        };
        Duty::Heed(Word {
            is_up,
            why: heard.iter().find_map(|(other, _)| down(*other)).map(|down| down.why.clone()),
            by: heard.iter().map(|(other, _)| self.colleagues[*other].name.clone()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use topology::{AppId, InstanceId, InstanceKey, VersionId};

    use super::super::verdicts::Down;
    use super::*;

    fn key(number: usize) -> InstanceKey {
        InstanceKey {
            version: VersionId::parse("v1").unwrap(),
            instance: InstanceId::parse(&format!("c{number}")).unwrap(),
        }
    }

    fn app() -> AppId {
        AppId::parse("shop").unwrap()
    }

    fn endpoint(number: usize) -> (EndpointHash, Fingerprint) {
        (EndpointHash::of(&app(), &key(number)), Fingerprint(number as u64))
    }

    /// Some endpoint that of `me` and "b" the latter has to probe.
    fn foreign(me: &str) -> usize {
        let fleet = Fleet::new(me, ["b"]);
        (0..).find(|number| !fleet.probes(endpoint(*number).0, 1)).unwrap()
    }

    fn colleague(name: &str, verdicts: Verdicts, heard_at: Instant) -> Colleague {
        Colleague { name: name.into(), verdicts: verdicts.into(), heard_at }
    }

    fn up(number: usize) -> Verdicts {
        let (hash, print) = endpoint(number);
        let mut verdicts = Verdicts::default();
        verdicts.sums[hash.bucket()] = part(print);
        verdicts
    }

    fn down(number: usize, print: Fingerprint) -> Verdicts {
        let down = Down { app: app(), key: key(number), print, why: "gone".into() };
        Verdicts { down: [(endpoint(number).0, down)].into(), ..Verdicts::default() }
    }

    fn judged(desk: &Desk, number: usize) -> Duty {
        let one = endpoint(number);
        desk.judge(one.0.bucket(), &[one]).remove(0)
    }

    fn heed(is_up: bool) -> Duty {
        let why = (!is_up).then(|| "gone".into());
        Duty::Heed(Word { is_up, why, by: std::iter::once("b".into()).collect() })
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_health_only_where_both_mean_the_same_endpoints() {
        let (number, now) = (foreign("a"), Instant::now());
        for (verdicts, wanted) in [
            (up(number), heed(true)),
            (Verdicts::default(), Duty::Unheard),
            (up(number + 1), Duty::Unheard),
            (down(number, endpoint(number).1), heed(false)),
            // As it was at another address.
            (down(number, Fingerprint(99)), Duty::Unheard),
        ] {
            let mut desk = Desk::new("a", 1);
            desk.hear(Some(vec![colleague("b", verdicts, now)]), now);
            assert_eq!(judged(&desk, number), wanted);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_contradict_each_other_say_nothing() {
        let now = Instant::now();
        let fleet = Fleet::new("a", ["b", "c"]);
        let number = (0..).find(|number| !fleet.probes(endpoint(*number).0, 2)).unwrap();
        let mut desk = Desk::new("a", 2);
        let said = |b, c| Some(vec![colleague("b", b, now), colleague("c", c, now)]);
        let dead = || down(number, endpoint(number).1);
        desk.hear(said(dead(), up(number)), now);
        assert_eq!(judged(&desk, number), Duty::Divided);
        desk.hear(said(dead(), dead()), now);
        assert!(matches!(judged(&desk, number), Duty::Heed(word) if !word.is_up && word.by.len() == 2));
        // Who says nothing that counts contradicts nobody.
        desk.hear(said(dead(), Verdicts::default()), now);
        assert!(matches!(judged(&desk, number), Duty::Heed(word) if !word.is_up && word.by.len() == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_or_cannot_be_heard_says_nothing() {
        let (number, now) = (foreign("a"), Instant::now());
        let mut desk = Desk::new("a", 1);
        desk.hear(Some(vec![colleague("b", up(number), now)]), now);
        desk.look(now + BEAT * 3);
        assert_eq!((judged(&desk, number), desk.stale()), (heed(true), 0));
        desk.look(now + BEAT * 4);
        assert_eq!((judged(&desk, number), desk.stale()), (Duty::Unheard, 1));
        let later = now + BEAT * 4;
        desk.hear(Some(vec![colleague("b", up(number), later)]), later);
        assert_eq!(judged(&desk, number), heed(true));
        desk.hear(None, later);
        assert_eq!(judged(&desk, number), Duty::Unheard);
        // Once it is gone for good, this gateway is the only one.
        desk.hear(Some(Vec::new()), later);
        assert_eq!(judged(&desk, number), Duty::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_said_otherwise_is_looked_at_again() {
        let (number, now) = (foreign("a"), Instant::now());
        let mut desk = Desk::new("a", 1);
        desk.hear(Some(vec![colleague("b", up(number), now)]), now);
        while desk.take().is_some() {}
        desk.hear(Some(vec![colleague("b", up(number), now)]), now);
        assert!(!desk.is_dirty());
        let mut changed = up(number);
        changed.down = down(number, endpoint(number).1).down;
        desk.hear(Some(vec![colleague("b", changed, now)]), now);
        assert_eq!((desk.take(), desk.take()), (Some(endpoint(number).0.bucket()), None));
    }
}
