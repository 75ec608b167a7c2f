//! Gateways that come, go, fall silent, hear late and know other endpoints than the others: whatever happens, a word is
//! heeded only where the gateway that said it has found just that, at that address, and was heard lately.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;
use topology::{AppId, InstanceId, InstanceKey, VersionId};

use super::desk::{Desk, Duty};
use super::verdicts::{Down, Fingerprint, Verdicts, part};
use super::{BEAT, Colleague, EndpointHash};

const GATEWAYS: usize = 4;
const ENDPOINTS: usize = 9;
/// Few enough that endpoints share them.
const CROWDED: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A gateway learns of an endpoint, that it is elsewhere, or that it is gone.
    Learn {
        gateway: usize,
        endpoint: usize,
        print: Option<u64>,
    },
    /// A gateway's own probe decides.
    Find {
        gateway: usize,
        endpoint: usize,
        is_up: bool,
    },
    Say {
        gateway: usize,
    },
    /// Its session ends.
    Leave {
        gateway: usize,
    },
    /// A gateway hears what some of the others have said last, and of the rest what it knew.
    Hear {
        gateway: usize,
        news: u8,
    },
    LoseRegistry {
        gateway: usize,
    },
    Wait {
        millis: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let (gateway, endpoint) = (0..GATEWAYS, 0..ENDPOINTS);
    let learn = (gateway.clone(), endpoint.clone(), proptest::option::weighted(0.9, 0..2u64));
    let find = (gateway.clone(), endpoint, prop::bool::weighted(0.7));
    prop_oneof![
        3 => learn.prop_map(|(gateway, endpoint, print)| Event::Learn { gateway, endpoint, print }),
        6 => find.prop_map(|(gateway, endpoint, is_up)| Event::Find { gateway, endpoint, is_up }),
        6 => gateway.clone().prop_map(|gateway| Event::Say { gateway }),
        1 => gateway.clone().prop_map(|gateway| Event::Leave { gateway }),
        6 => (gateway.clone(), any::<u8>()).prop_map(|(gateway, news)| Event::Hear { gateway, news }),
        1 => gateway.prop_map(|gateway| Event::LoseRegistry { gateway }),
        2 => (0..9_000u64).prop_map(|millis| Event::Wait { millis }),
    ]
}

/// What a gateway claims of each endpoint, and how it said so.
#[derive(Debug, Clone, Default)]
struct Said {
    claims: [Option<(u64, bool)>; ENDPOINTS],
    verdicts: Arc<Verdicts>,
}

struct Gateway {
    desk: Desk,
    known: [Option<u64>; ENDPOINTS],
    found: [Option<bool>; ENDPOINTS],
    said: Option<Said>,
    /// Of each of the others, and when.
    heard: [Option<(Said, Instant)>; GATEWAYS],
    is_away: bool,
}

struct World {
    keys: Vec<InstanceKey>,
    gateways: Vec<Gateway>,
    probers: usize,
    now: Instant,
}

fn name(gateway: usize) -> String {
    format!("gw-{gateway}")
}

fn app() -> AppId {
    AppId::parse("shop").unwrap()
}

impl World {
    fn new(probers: usize) -> Self {
        let key = |number: usize| InstanceKey {
            version: VersionId::parse("v1").unwrap(),
            instance: InstanceId::parse(&format!("c{number}")).unwrap(),
        };
        let is_crowded = |key: &InstanceKey| EndpointHash::of(&app(), key).bucket() < CROWDED;
        // All know all of them at first, where each is expected.
        let gateway = |at| Gateway {
            desk: Desk::new(&name(at), probers),
            known: [Some(0); ENDPOINTS],
            found: [None; ENDPOINTS],
            said: None,
            heard: Default::default(),
            is_away: true,
        };
        Self {
            keys: (0..).map(key).filter(is_crowded).take(ENDPOINTS).collect(),
            gateways: (0..GATEWAYS).map(gateway).collect(),
            probers,
            now: Instant::now(),
        }
    }

    fn hash(&self, endpoint: usize) -> EndpointHash {
        EndpointHash::of(&app(), &self.keys[endpoint])
    }

    fn print(endpoint: usize, address: u64) -> Fingerprint {
        Fingerprint(1 + endpoint as u64 * 100 + address)
    }

    /// What is to be done about each endpoint that the gateway knows.
    fn duties(&self, gateway: usize) -> Vec<(usize, Duty)> {
        let Gateway { desk, known, .. } = &self.gateways[gateway];
        let of_bucket = |bucket| {
            let members: Vec<usize> = (0..ENDPOINTS)
                .filter(|at| known[*at].is_some() && self.hash(*at).bucket() == bucket)
                .collect();
            let shared: Vec<_> = members
                .iter()
                .map(|at| (self.hash(*at), Self::print(*at, known[*at].unwrap_or_default())))
                .collect();
            members.into_iter().zip(desk.judge(bucket, &shared)).collect::<Vec<_>>()
        };
        (0..CROWDED).flat_map(of_bucket).collect()
    }

    fn say(&mut self, gateway: usize) {
        let mut said = Said::default();
        let mut verdicts = Verdicts::default();
        for (endpoint, duty) in self.duties(gateway) {
            let Gateway { known, found, .. } = &self.gateways[gateway];
            let (Duty::Probe, Some(address), Some(is_up)) = (duty, known[endpoint], found[endpoint]) else {
                continue;
            };
            said.claims[endpoint] = Some((address, is_up));
            let (hash, print) = (self.hash(endpoint), Self::print(endpoint, address));
            let sum = &mut verdicts.sums[hash.bucket()];
            *sum = sum.wrapping_add(part(print));
            if !is_up {
                let key = self.keys[endpoint].clone();
                verdicts.down.insert(hash, Down { app: app(), key, print, why: "gone".into() });
            }
        }
        said.verdicts = Arc::new(verdicts);
        self.gateways[gateway].said = Some(said);
    }

    fn hear(&mut self, gateway: usize, news: u8) {
        for other in (0..GATEWAYS).filter(|other| *other != gateway) {
            if news & 1 << other != 0 {
                let said = self.gateways[other].said.clone();
                self.gateways[gateway].heard[other] = said.map(|said| (said, self.now));
            }
        }
        let Gateway { heard, desk, is_away, .. } = &mut self.gateways[gateway];
        let colleague = |(other, heard): (usize, &Option<(Said, Instant)>)| {
            let (said, heard_at) = heard.as_ref()?;
            let verdicts = said.verdicts.clone();
            Some(Colleague { name: name(other).into(), verdicts, heard_at: *heard_at })
        };
        *is_away = false;
        desk.hear(Some(heard.iter().enumerate().filter_map(colleague).collect()), self.now);
    }

    fn pass(&mut self, event: Event) {
        match event {
            Event::Learn { gateway, endpoint, print } => {
                let Gateway { known, found, .. } = &mut self.gateways[gateway];
                if known[endpoint] != print {
                    (known[endpoint], found[endpoint]) = (print, None);
                }
            }
            Event::Find { gateway, endpoint, is_up } => {
                let Gateway { known, found, .. } = &mut self.gateways[gateway];
                found[endpoint] = known[endpoint].map(|_| is_up);
            }
            Event::Say { gateway } => self.say(gateway),
            Event::Leave { gateway } => self.gateways[gateway].said = None,
            Event::Hear { gateway, news } => self.hear(gateway, news),
            Event::LoseRegistry { gateway } => {
                let Gateway { desk, is_away, .. } = &mut self.gateways[gateway];
                *is_away = true;
                desk.hear(None, self.now);
            }
            Event::Wait { millis } => {
                self.now += Duration::from_millis(millis);
                self.gateways.iter_mut().for_each(|gateway| gateway.desk.look(self.now));
            }
        }
    }

    fn check(&self, gateway: usize) -> Result<(), TestCaseError> {
        let Gateway { known, heard, is_away, .. } = &self.gateways[gateway];
        let duties = self.duties(gateway);
        let is_alone = heard.iter().all(Option::is_none);
        for (endpoint, duty) in duties {
            match duty {
                Duty::Heed(word) => {
                    prop_assert!(!is_away, "nobody's word counts while the registry is away");
                    prop_assert!(!word.by.is_empty() && word.by.len() <= self.probers);
                    for by in &word.by {
                        let other = (0..GATEWAYS).find(|other| name(*other) == **by).unwrap();
                        prop_assert_ne!(other, gateway);
                        let (said, heard_at) = heard[other].as_ref().unwrap();
                        prop_assert!(self.now - *heard_at <= BEAT * 3, "it was heard lately");
                        let claimed = said.claims[endpoint];
                        prop_assert_eq!(claimed, known[endpoint].map(|address| (address, word.is_up)));
                    }
                }
                Duty::Probe => {}
                Duty::Divided | Duty::Unheard => {
                    prop_assert!(!is_alone, "one that is alone probes everything");
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nobody_heeds_what_nobody_has_found(
        probers in 1..=3usize, events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(probers);
        for event in events {
            world.pass(event);
            for gateway in 0..GATEWAYS {
                world.check(gateway)?;
            }
        }
    }
}

/// In a world in which everybody hears everybody, each endpoint has as many probers as asked for and all others heed them.
#[test]
fn once_all_have_heard_all_everything_is_shared() {
    for probers in 1..=3 {
        let mut world = World::new(probers);
        // Who is there; who probes what; what those found.
        for _ in 0..3 {
            for gateway in 0..GATEWAYS {
                (0..ENDPOINTS)
                    .for_each(|endpoint| world.gateways[gateway].found[endpoint] = Some(endpoint % 4 != 0));
                world.say(gateway);
            }
            (0..GATEWAYS).for_each(|gateway| world.hear(gateway, u8::MAX));
        }
        let duties: Vec<_> = (0..GATEWAYS).flat_map(|gateway| world.duties(gateway)).collect();
        let count =
            |is_wanted: &dyn Fn(&Duty) -> bool| duties.iter().filter(|(_, duty)| is_wanted(duty)).count();
        assert_eq!(count(&|duty| *duty == Duty::Probe), ENDPOINTS * probers);
        assert_eq!(count(&|duty| matches!(duty, Duty::Heed(_))), ENDPOINTS * (GATEWAYS - probers));
        assert!(duties.iter().all(|(endpoint, duty)| match duty {
            Duty::Heed(word) => word.is_up == (endpoint % 4 != 0),
            _ => true,
        }));
    }
}
