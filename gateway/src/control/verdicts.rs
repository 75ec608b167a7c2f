//! What the gateways of a fleet find when they probe, told to each other: `verdict/{id}` in the registry, for as long as
//! a gateway's session lives.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use discovery::registry::{Entry, Expect, Key, Lifetime, Registry, State};
use healthcheck::sharing::{
    BEAT, BUCKETS, Colleague, Down, EndpointHash, Fingerprint, MAX_DOWN, Verdicts, short,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use topology::{AppId, InstanceId, InstanceKey, VersionId};

/// Where gateways say what they have found.
pub const FAMILY: &str = "verdict/";
/// Between two looks, and so between two writes: what a death takes to be known everywhere beside the probes themselves.
const INTERVAL: Duration = Duration::from_millis(250);
/// What one gateway writes a second at the most, in bytes, over the time that follows each write: a hundred endpoints that are down
/// (10 KiB) are told three times a second, a thousand every third second, and of fifty gateways that lose everything at once the registry
/// takes less than 2 MiB a second.
const RATE: usize = 32 << 10;
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Others are not listened to: more than any fleet that shares a registry, and a few megabytes.
const MAX_COLLEAGUES: usize = 1_000;

/// Where the control plane puts what it finds, and takes what others have found.
pub struct Talk {
    pub found: watch::Sender<Saying>,
    pub heard: watch::Receiver<Option<Vec<Colleague>>>,
    /// Endpoints that requests have found bad.
    pub doubts: mpsc::Receiver<Doubt>,
}

/// An endpoint that requests have found bad, whatever is said of it.
pub type Doubt = (AppId, InstanceKey);

/// Doubts that wait to be heard. Beyond these they are lost: outliers stay ejected for a while, and are found again.
const MAX_DOUBTS: usize = 1_024;

/// What a gateway has found, and how often it has looked and was not late with its probes: while that grows, they go on.
pub type Saying = (u64, Arc<Verdicts>);

/// As it stands in the registry.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// How many gateways probe an endpoint, by the configuration of the one that says it.
    shared_probes: usize,
    /// Grows with every value.
    beat: u64,
    /// 16 hexadecimal digits for each bucket.
    sums: String,
    down: Vec<SaidDown>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SaidDown {
    /// `app/version/instance`.
    endpoint: String,
    /// 16 hexadecimal digits.
    fingerprint: String,
    why: String,
}

impl Said {
    fn of(verdicts: &Verdicts, shared_probes: usize, beat: u64) -> Self {
        let mut sums = String::with_capacity(BUCKETS * 16);
        for sum in &verdicts.sums {
            let _ = write!(sums, "{sum:016x}");
        }
        let down = verdicts.down.values().map(|down| SaidDown {
            endpoint: format!("{}/{}/{}", down.app, down.key.version, down.key.instance),
            fingerprint: format!("{:016x}", down.print.0),
            why: down.why.to_string(),
        });
        Self { shared_probes, beat, sums, down: down.collect() }
    }

    /// `None`: it is not what a gateway writes.
    fn verdicts(&self) -> Option<Verdicts> {
        let mut verdicts = Verdicts::default();
        if self.sums.len() != BUCKETS * 16 || self.down.len() > MAX_DOWN {
            return None;
        }
        for (digits, sum) in self.sums.as_bytes().chunks(16).zip(&mut verdicts.sums) {
            *sum = number(std::str::from_utf8(digits).ok()?)?;
        }
        for down in &self.down {
            let mut names = down.endpoint.split('/');
            let (app, version, instance) = (names.next()?, names.next()?, names.next()?);
            let key = InstanceKey {
                version: VersionId::parse(version).ok()?,
                instance: InstanceId::parse(instance).ok()?,
            };
            let app = AppId::parse(app).ok()?;
            let print = Fingerprint(number(&down.fingerprint)?);
            let why = short(&down.why);
            verdicts.down.insert(EndpointHash::of(&app, &key), Down { app, key, print, why });
        }
        Some(verdicts)
    }
}

/// Without the sign that the standard library would take.
fn number(digits: &str) -> Option<u64> {
    let is_hex = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Says what this gateway finds, and listens to the others.
pub struct Exchange {
    registry: Arc<dyn Registry>,
    id: String,
    shared_probes: usize,
    found: watch::Receiver<Saying>,
    heard: watch::Sender<Option<Vec<Colleague>>>,
}

impl Exchange {
    /// Its other ends are for the control plane, and for whoever judges endpoints by requests.
    pub fn new(
        registry: Arc<dyn Registry>,
        id: String,
        shared_probes: usize,
    ) -> (Self, Talk, mpsc::Sender<Doubt>) {
        let (found_sender, found) = watch::channel(Saying::default());
        let (heard, heard_receiver) = watch::channel(None);
        let (doubt, doubts) = mpsc::channel(MAX_DOUBTS);
        let talk = Talk { found: found_sender, heard: heard_receiver, doubts };
        (Self { registry, id, shared_probes, found, heard }, talk, doubt)
    }

    /// Until `cancel`. A gateway whose id is no part of a key hears nobody, so that it probes everything, and says so.
    pub async fn run(self, cancel: CancellationToken) {
        match Key::parse(&format!("{FAMILY}{}", self.id)) {
            Ok(key) if key.segments().count() == 2 => {
                let both = async { tokio::join!(self.speak(&key), self.listen()) };
                cancel.run_until_cancelled(both).await;
            }
            _ => {
                tracing::warn!(
                    id = self.id,
                    "gateway.id is no part of a registry key: probes are not shared"
                );
            }
        }
    }

    async fn speak(&self, key: &Key) {
        let (mut beat, mut told, mut written_at) = (0, None, Instant::now());
        let mut has_failed = false;
        let mut pause = INTERVAL;
        loop {
            sleep(pause).await;
            pause = INTERVAL;
            let (looks, verdicts) = self.found.borrow().clone();
            let is_news = told.as_ref().is_none_or(|(_, known)| !Arc::ptr_eq(known, &verdicts));
            let is_alive = told.as_ref().is_none_or(|(known, _)| *known != looks);
            let is_due = is_news || (is_alive && written_at.elapsed() >= BEAT);
            if !is_due {
                continue;
            }
            beat += 1;
            match self.write(key, &Said::of(&verdicts, self.shared_probes, beat)).await {
                Ok(bytes) => {
                    (told, written_at, has_failed) = (Some((looks, verdicts)), Instant::now(), false);
                    pause = rest(bytes);
                }
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(%error, "what this gateway's probes find is not told to the others; it is tried again");
                    }
                    pause = RETRY;
                }
            }
        }
    }

    /// Returns how long it was, in bytes.
    async fn write(&self, key: &Key, said: &Said) -> anyhow::Result<usize> {
        let value = Bytes::from(serde_json::to_vec(said)?);
        let bytes = value.len();
        self.registry.write(key, value, Expect::Any, Lifetime::Session).await?;
        Ok(bytes)
    }

    async fn listen(&self) {
        let mut states = self.registry.watch();
        let mut ear = Ear { id: &self.id, shared_probes: self.shared_probes, known: HashMap::new() };
        loop {
            let state = states.borrow_and_update().clone();
            let heard = ear.hear(&state, Instant::now());
            self.heard.send_if_modified(|known| {
                let is_news = heard.is_news || known.is_some() != heard.colleagues.is_some();
                if is_news {
                    *known = heard.colleagues;
                }
                is_news
            });
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}

/// After a write of so many bytes.
fn rest(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / RATE as f64).clamp(INTERVAL, BEAT)
}

struct Listened {
    colleagues: Option<Vec<Colleague>>,
    is_news: bool,
}

/// What of each colleague was heard last.
struct Ear<'a> {
    id: &'a str,
    shared_probes: usize,
    /// By key, with the value's version. `None`: its word does not count.
    known: HashMap<Key, (u64, Option<Colleague>)>,
}

impl Ear<'_> {
    fn hear(&mut self, state: &State, now: Instant) -> Listened {
        let mut is_news = false;
        let mut present = HashMap::new();
        let from = (Bound::Included(FAMILY), Bound::Unbounded);
        let said = state.entries.range::<_, str>(from);
        let said = said.take_while(|(key, _)| key.as_str().starts_with(FAMILY)).take(MAX_COLLEAGUES);
        for (key, entry) in said.filter(|(key, _)| key.as_str()[FAMILY.len()..] != *self.id) {
            let known = match self.known.remove(key) {
                Some((version, colleague)) if version == entry.version => (version, colleague),
                former => {
                    is_news = true;
                    (entry.version, self.colleague(key, entry, former.map(|(_, known)| known), now))
                }
            };
            present.insert(key.clone(), known);
        }
        // Who is left is gone.
        is_news |= !self.known.is_empty();
        self.known = present;
        let colleagues = self.known.values().filter_map(|(_, colleague)| colleague.clone()).collect();
        Listened { colleagues: state.link.is_connected().then_some(colleagues), is_news }
    }

    /// `former`: what was heard before, if anything was. What is wrong is said once.
    fn colleague(
        &self,
        key: &Key,
        entry: &Entry,
        former: Option<Option<Colleague>>,
        now: Instant,
    ) -> Option<Colleague> {
        let is_known_as_bad = matches!(former, Some(None));
        let name: Arc<str> = key.as_str()[FAMILY.len()..].into();
        let said: Option<Said> = serde_json::from_slice(&entry.value).ok();
        let verdicts = said.as_ref().and_then(Said::verdicts);
        let (Some(said), Some(verdicts)) = (said, verdicts) else {
            if !is_known_as_bad {
                tracing::warn!(%key, "what this gateway says of its probes cannot be read: it does not count");
            }
            return None;
        };
        if said.shared_probes != self.shared_probes {
            if !is_known_as_bad {
                let (theirs, ours) = (said.shared_probes, self.shared_probes);
                tracing::warn!(gateway = %name, theirs, ours, "gateway.shared_probes differs: we do not share with it");
            }
            return None;
        }
        // The same object where it says the same, so that nobody has to compare.
        let known = former.flatten().map(|former| former.verdicts).filter(|known| **known == verdicts);
        let verdicts = known.unwrap_or_else(|| Arc::new(verdicts));
        Some(Colleague { name, verdicts, heard_at: now })
    }
}

#[cfg(test)]
mod tests {
    use discovery::registry::Link;
    use healthcheck::sharing::MAX_DOWN_BYTES;
    use imbl::OrdMap;
    use proptest::prelude::*;

    use super::*;

    fn down(instance: &str, why: &str) -> (EndpointHash, Down) {
        let app = AppId::parse("shop").unwrap();
        let key = InstanceKey {
            version: VersionId::parse("v1").unwrap(),
            instance: InstanceId::parse(instance).unwrap(),
        };
        let hash = EndpointHash::of(&app, &key);
        (hash, Down { app, key, print: Fingerprint(7), why: why.into() })
    }

    fn verdicts() -> Verdicts {
        let mut verdicts =
            Verdicts { down: [down("c1", "timed out"), down("c2", "")].into(), ..Verdicts::default() };
        verdicts.sums[5] = u64::MAX;
        verdicts
    }

    fn state(said: &[(&str, &str, u64)], is_connected: bool) -> State {
        let entry = |value: &str, version| Entry {
            value: Bytes::copy_from_slice(value.as_bytes()),
            version,
            created: 1,
            ephemeral: true,
        };
        let link = match is_connected {
            true => Link::Connected { since: std::time::Instant::now() },
            false => Link::Lost { since: std::time::Instant::now(), why: "gone".into() },
        };
        let entries: OrdMap<Key, Entry> = said
            .iter()
            .map(|(key, value, version)| (Key::parse(key).unwrap(), entry(value, *version)))
            .collect();
        State { link, revision: 1, ahead: false, entries }
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        assert_eq!(Said::of(&verdicts(), 2, 1).verdicts(), Some(verdicts()));
        let said = serde_json::to_string(&Said::of(&Verdicts::default(), 2, 1)).unwrap();
        assert!(said.len() < 1_200, "the word on endpoints that are up is short: {}", said.len());
    }

    #[test]
    fn however_much_is_down_the_word_on_it_is_bounded_in_bytes_and_in_bytes_a_second() {
        let why = short(&"\u{1}".repeat(10_000));
        // As many as may be named, with names that are as long as then fits, and errors that take six bytes for each of theirs.
        let width = (MAX_DOWN_BYTES / MAX_DOWN - why.len()) / 3;
        let name = |number| format!("{number:0>width$}");
        let down = (0..MAX_DOWN).map(|number| {
            let key = InstanceKey {
                version: VersionId::parse(&name(1)).unwrap(),
                instance: InstanceId::parse(&name(number)).unwrap(),
            };
            let app = AppId::parse(&name(2)).unwrap();
            (EndpointHash::of(&app, &key), Down { app, key, print: Fingerprint(7), why: why.clone() })
        });
        let verdicts = Verdicts { down: down.collect(), ..Verdicts::default() };
        let said = serde_json::to_vec(&Said::of(&verdicts, 2, u64::MAX)).unwrap();
        assert!(said.len() < discovery::registry::MAX_VALUE_BYTES, "{}", said.len());
        assert_eq!(rest(said.len()), BEAT);
        assert_eq!(
            (rest(1_100), rest(RATE), rest(2 * RATE)),
            (INTERVAL, Duration::from_secs(1), Duration::from_secs(2))
        );
    }

    #[test]
    fn only_others_that_share_alike_are_heard_and_only_while_the_registry_is_there() {
        let say = |probers| serde_json::to_string(&Said::of(&verdicts(), probers, 1)).unwrap();
        let (good, other) = (say(2), say(3));
        let said = [
            ("gateway/gw-2", &*good, 1),
            ("verdict/gw-1", &*good, 1),
            ("verdict/gw-2", &*good, 1),
            ("verdict/gw-3", &*other, 1),
            ("verdict/gw-4", "{}", 1),
            ("vip/10.0.0.1", &*good, 1),
        ];
        let mut ear = Ear { id: "gw-1", shared_probes: 2, known: HashMap::new() };
        let now = Instant::now();
        let heard = ear.hear(&state(&said, true), now);
        let [one] = &heard.colleagues.unwrap()[..] else { panic!("one of them") };
        assert_eq!((&*one.name, &*one.verdicts, heard.is_news), ("gw-2", &verdicts(), true));
        let first = one.clone();
        assert!(!ear.hear(&state(&said, true), now).is_news);
        let heard = ear.hear(&state(&said, false), now);
        assert!(heard.colleagues.is_none() && !heard.is_news);
        // Said again: alive, and nothing that anybody would have to look at.
        let again = [("verdict/gw-2", &*good, 2)];
        let later = now + BEAT;
        let heard = ear.hear(&state(&again, true), later);
        let [one] = &heard.colleagues.unwrap()[..] else { panic!("one of them") };
        assert!(Arc::ptr_eq(&one.verdicts, &first.verdicts) && one.heard_at == later);
        assert!(ear.hear(&state(&[], true), later).is_news);
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_registry_is_read_or_is_not(sums: String, endpoint: String, fingerprint: String) {
            let down = vec![SaidDown { endpoint, fingerprint, why: "\u{e4}".repeat(1_000) }];
            let _ = Said { shared_probes: 1, beat: 1, sums, down }.verdicts();
        }
    }
}
