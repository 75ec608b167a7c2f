//! What the registry is to hold, how that changes at random, and what every gateway must make of it.
//!
//! Each app has one endpoint that never dies and is never taken out, so there is always somebody who can serve. The others
//! come, go, die and return.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::tests::{Endpoint, HeldPort};
use fastrand::Rng;

/// Apps that clients ask for.
const APPS: usize = 5;
/// The one of them whose endpoints live by their registrar's session.
const LEASED: usize = APPS - 1;
/// As many as one request may ask in turn: an endpoint that lives is always among them.
const INSTANCES: usize = 3;
/// Apps and routes that come and go.
const VISITORS: usize = 4;

/// An endpoint that can die and come back at its address.
pub struct Mortal {
    id: String,
    /// Nobody else is given it meanwhile.
    port: HeldPort,
    endpoint: Mutex<Option<Endpoint>>,
}

impl Mortal {
    fn start(id: String) -> Self {
        let port = HeldPort::tcp();
        let endpoint = Mutex::new(Some(Endpoint::start_at(&id, port.address())));
        Self { id, port, endpoint }
    }

    pub fn die(&self) {
        *self.endpoint() = None;
    }

    pub fn come_back(&self) {
        *self.endpoint() = Some(Endpoint::start_at(&self.id, self.address()));
    }

    fn endpoint(&self) -> MutexGuard<'_, Option<Endpoint>> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

/// What stands at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    pub text: String,
    /// Whether it goes with the session of the one who registered it.
    pub lives_by_session: bool,
    meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Endpoint {
        address: SocketAddr,
        weight: u16,
    },
    Spec {
        hosts: Vec<String>,
    },
    Word {
        state: &'static str,
        weight: Option<u16>,
    },
    /// Changes nothing: what stood there before stays in force, and is not known here.
    Mistake,
}

impl Value {
    fn new(text: impl Into<String>, meaning: Meaning) -> Self {
        Self { text: text.into(), lives_by_session: false, meaning }
    }
}

/// What a gateway shows of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub address: String,
    pub weight: u16,
    pub operator: String,
}

/// What every gateway must show.
#[derive(Debug, Default)]
pub struct Expected {
    /// By app and instance.
    pub endpoints: BTreeMap<(String, String), Shown>,
    /// Host and app.
    pub routes: BTreeSet<(String, String)>,
    /// Keys.
    pub rejected: BTreeSet<String>,
    /// Apps whose spec, and endpoints whose address or word, is a mistake now: which good one came before a gateway may have missed.
    pub open_apps: BTreeSet<String>,
    pub open_endpoints: BTreeSet<(String, String)>,
}

pub struct World {
    rng: Rng,
    mortals: Vec<Vec<Arc<Mortal>>>,
    /// Nobody listens there.
    nobody: HeldPort,
    keys: BTreeMap<String, Value>,
    changes: u64,
}

impl World {
    pub fn new(rng: Rng) -> Self {
        let app = |app: usize| {
            let instance = |at| Arc::new(Mortal::start(format!("{} c{at}", name(app))));
            (0..INSTANCES).map(instance).collect()
        };
        let mortals: Vec<Vec<_>> = (0..APPS).map(app).collect();
        let mut world = Self { rng, mortals, nobody: HeldPort::tcp(), keys: BTreeMap::new(), changes: 0 };
        for app in 0..APPS {
            let spec = world.spec(app, "");
            world.keys.insert(format!("app/{}", name(app)), spec);
            for at in 0..INSTANCES {
                let value = world.address(app, at, 1, false);
                world.keys.insert(address_key(&name(app), at), value);
            }
        }
        world
    }

    pub fn keys(&self) -> &BTreeMap<String, Value> {
        &self.keys
    }

    /// What clients ask for: a host, and how every right answer begins.
    pub fn hosts(&self) -> Vec<(String, String)> {
        (0..APPS).map(|app| (host(&name(app)), format!("{} ", name(app)))).collect()
    }

    pub fn steady_apps(&self) -> Vec<String> {
        (0..APPS).map(name).collect()
    }

    /// Those that may die, by app.
    pub fn mortals(&self) -> Vec<Vec<Arc<Mortal>>> {
        self.mortals.iter().map(|app| app[1..].to_vec()).collect()
    }

    /// One more change: what is to stand at a key from now on, `None` for nothing.
    pub fn change(&mut self) -> (String, Option<Value>) {
        self.changes += 1;
        let (app, at) = (self.rng.usize(..APPS), 1 + self.rng.usize(..INSTANCES - 1));
        let (key, value) = match self.rng.u8(..20) {
            0..=3 => (address_key(&name(app), at), Some(self.some_address(app, at))),
            // Of an app whose endpoints live by a session: a gateway that was cut off meanwhile could not tell it from a lost
            // session, and keeps them for a while. Sessions are lost on purpose only.
            4..=5 if app == LEASED => (address_key(&name(app), at), Some(self.some_address(app, at))),
            4..=5 => (address_key(&name(app), at), None),
            6 => (address_key(&name(app), at), Some(self.mistake())),
            7 => (address_key(&name(app), 0), Some(self.some_address(app, 0))),
            8..=10 => (format!("app/{}", name(app)), Some(self.some_spec(app))),
            11 => (format!("app/{}", name(app)), Some(self.mistake())),
            12..=13 => (word_key(&name(app), at), Some(self.some_word())),
            14 => (word_key(&name(app), at), None),
            15 => (word_key(&name(app), at), Some(self.mistake())),
            16..=18 => self.visit(),
            _ => self.route(),
        };
        match &value {
            Some(value) => self.keys.insert(key.clone(), value.clone()),
            None => self.keys.remove(&key),
        };
        (key, value)
    }

    /// What is written again and again in a storm: what stands there already.
    pub fn storm(&self) -> Vec<(String, Value)> {
        let lasting = self.keys.iter().filter(|(_, value)| !value.lives_by_session);
        lasting.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn some_address(&mut self, app: usize, at: usize) -> Value {
        let (weight, as_json) = (self.rng.u16(1..=9), self.rng.bool());
        // Somebody registers where nobody listens: the steady endpoint never is.
        if at > 0 && self.rng.u8(..6) == 0 {
            let address = self.nobody.address();
            let mut value = Value::new(address.to_string(), Meaning::Endpoint { address, weight: 1 });
            value.lives_by_session = app == LEASED;
            return value;
        }
        self.address(app, at, weight, as_json)
    }

    fn address(&self, app: usize, at: usize, weight: u16, as_json: bool) -> Value {
        let address = self.mortals[app][at].address();
        let mut value = if as_json {
            let text = format!(r#"{{"address": "{address}", "weight": {weight}}}"#);
            Value::new(text, Meaning::Endpoint { address, weight })
        } else {
            Value::new(address.to_string(), Meaning::Endpoint { address, weight: 1 })
        };
        value.lives_by_session = app == LEASED;
        value
    }

    fn some_spec(&mut self, app: usize) -> Value {
        let more = [
            "",
            r#", "balance": "random""#,
            r#", "balance": "least_requests""#,
            r#", "split": {"v1": 1}"#,
            r#", "timeouts": {"connect": "1s"}"#,
            r#", "outliers": {"interval": "2s"}"#,
        ];
        let more = more[self.rng.usize(..more.len())];
        self.spec(app, more)
    }

    /// Always with the host that clients ask for.
    fn spec(&self, app: usize, more: &str) -> Value {
        let hosts = vec![host(&name(app)), format!("n{}.{}", self.changes, host(&name(app)))];
        let health = r#"{"interval": "500ms", "timeout": "400ms", "rise": 1, "fall": 1}"#;
        Value::new(format!(r#"{{"hosts": {hosts:?}, "health": {health}{more}}}"#), Meaning::Spec { hosts })
    }

    fn some_word(&mut self) -> Value {
        let state = ["ready", "drain", "maintenance"][self.rng.usize(..3)];
        let weight = self.rng.bool().then(|| self.rng.u16(..=9));
        let text = match weight {
            Some(weight) => format!(r#"{{"state": "{state}", "weight": {weight}}}"#),
            None => format!(r#"{{"state": "{state}"}}"#),
        };
        Value::new(text, Meaning::Word { state, weight })
    }

    fn mistake(&mut self) -> Value {
        let texts =
            ["{", r#"{"hostz": []}"#, "10.0.0.1:99999", r#"{"address": 7, "hosts": 7, "state": 7}"#, "x y z"];
        Value::new(texts[self.rng.usize(..texts.len())], Meaning::Mistake)
    }

    /// An app of nobody's that comes, changes or goes.
    fn visit(&mut self) -> (String, Option<Value>) {
        let id = format!("visitor{}", self.rng.usize(..VISITORS));
        let address = self.mortals[0][0].address();
        match self.rng.u8(..5) {
            0..=1 => {
                let value = Value::new(address.to_string(), Meaning::Endpoint { address, weight: 1 });
                (address_key(&id, 0), Some(value))
            }
            2 => (address_key(&id, 0), None),
            3 => {
                let hosts = vec![format!("n{}.{id}.test", self.changes)];
                (
                    format!("app/{id}"),
                    Some(Value::new(format!(r#"{{"hosts": {hosts:?}}}"#), Meaning::Spec { hosts })),
                )
            }
            _ => (format!("app/{id}"), None),
        }
    }

    fn route(&mut self) -> (String, Option<Value>) {
        let id = self.rng.usize(..VISITORS);
        let key = format!("route/r{id}");
        if self.rng.u8(..3) == 0 {
            return (key, None);
        }
        let hosts = vec![format!("n{}.r{id}.test", self.changes)];
        let text = format!(r#"{{"hosts": {hosts:?}, "respond": {{"status": 200, "body": "r{id}"}}}}"#);
        (key, Some(Value::new(text, Meaning::Spec { hosts })))
    }

    pub fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        let segments = |key: &'_ str| key.split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut implied = BTreeSet::new();
        for (key, value) in &self.keys {
            let parts = segments(key);
            let app = if parts[0] == "route" {
                format!("route:{}", parts[1])
            } else {
                parts[parts.len().min(2) - 1].clone()
            };
            match (&value.meaning, parts[0].as_str()) {
                (Meaning::Mistake, family) => {
                    expected.rejected.insert(key.clone());
                    match family {
                        "app" => drop(expected.open_apps.insert(app)),
                        "operator" => drop(expected.open_endpoints.insert((app, parts[3].clone()))),
                        _ => drop(expected.open_endpoints.insert((parts[2].clone(), parts[4].clone()))),
                    }
                }
                (Meaning::Endpoint { address, weight }, _) => {
                    let shown =
                        Shown { address: address.to_string(), weight: *weight, operator: "-".to_owned() };
                    implied.insert(parts[2].clone());
                    expected.endpoints.insert((parts[2].clone(), parts[4].clone()), shown);
                }
                (Meaning::Spec { hosts }, _) => {
                    expected.routes.extend(hosts.iter().map(|host| (host.clone(), app.clone())));
                }
                (Meaning::Word { .. }, _) => {}
            }
        }
        for app in implied.into_iter().filter(|app| !self.keys.contains_key(&format!("app/{app}"))) {
            expected.routes.insert((format!("{app}.apps.test"), app));
        }
        self.add_words(&mut expected);
        expected
    }

    /// They are told with the endpoints, where there are any.
    fn add_words(&self, expected: &mut Expected) {
        for (key, value) in &self.keys {
            let Meaning::Word { state, weight } = value.meaning else { continue };
            let parts: Vec<&str> = key.split('/').collect();
            let at = (parts[1].to_owned(), parts[3].to_owned());
            let Some(shown) = expected.endpoints.get_mut(&at) else { continue };
            shown.weight = weight.unwrap_or(shown.weight);
            if weight.is_some() || state != "ready" {
                shown.operator = format!("{state} {weight:?}");
            }
        }
    }
}

/// Whether a world may have it: neither a directory nor what gateways write.
pub fn is_key(key: &str) -> bool {
    let parts: Vec<&str> = key.split('/').collect();
    matches!(parts[..], ["app" | "route", _] | ["operator", _, _, _] | ["service", "address", _, _, _])
}

fn name(app: usize) -> String {
    format!("a{app}")
}

fn host(app: &str) -> String {
    format!("{app}.chaos.test")
}

fn address_key(app: &str, at: usize) -> String {
    format!("service/address/{app}/v1/c{at}")
}

fn word_key(app: &str, at: usize) -> String {
    format!("operator/{app}/v1/c{at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_world_and_keeps_its_steady_endpoints() {
        let texts = |seed| {
            let mut world = World::new(Rng::with_seed(seed));
            let changes = (0..2_000).map(|_| {
                let (key, value) = world.change();
                // Addresses are another run's.
                let kind = value.as_ref().map(|value| std::mem::discriminant(&value.meaning));
                (key, kind)
            });
            let changes: Vec<_> = changes.collect();
            let expected = world.expected();
            for app in world.steady_apps() {
                assert!(expected.endpoints.contains_key(&(app.clone(), "c0".to_owned())), "{app}");
                let is_served = expected.routes.iter().any(|(_, of)| *of == app);
                assert!(is_served || expected.open_apps.contains(&app), "{app}");
            }
            changes
        };
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
    }
}
