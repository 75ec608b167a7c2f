//! A state of the registry, read.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use discovery::layout::{address_key, app_key};
use discovery::registry::{Entry, Key, State};
use topology::{AppId, HostId, InstanceId};

use crate::model::keys::{self, Place};
use crate::model::{Deployment, Host, Ledger, Operations, Record, Rollout};

/// A document and the version of its key.
#[derive(Debug, Clone)]
pub(super) struct Versioned<T> {
    pub value: T,
    pub version: u64,
}

pub(super) struct World {
    pub state: State,
    pub apps: BTreeMap<AppId, AppView>,
    pub hosts: BTreeMap<HostId, Host>,
    pub ledgers: BTreeMap<HostId, Versioned<Ledger>>,
    /// Claimed ports and who has claimed them, as `{app}/{instance}`.
    pub ports: BTreeMap<(HostId, u16), Versioned<String>>,
    /// What was asked of apps, those of which nothing else is left included.
    pub operations: BTreeMap<AppId, Versioned<Operations>>,
    /// Keys of ours that cannot be read, and why.
    pub unreadable: Vec<(Key, String)>,
}

/// One app.
#[derive(Debug, Default)]
pub(super) struct AppView {
    pub deployment: Option<Deployment>,
    pub rollout: Option<Versioned<Rollout>>,
    pub records: BTreeMap<InstanceId, Versioned<Record>>,
    /// Who works on it.
    pub claim: Option<String>,
    /// A document of it cannot be read: nothing is decided about it.
    pub is_unreadable: bool,
}

impl AppView {
    /// Whether the state shows a transaction in parts: nothing may be decided on it.
    pub(super) fn is_torn(&self) -> bool {
        let members = self.rollout.as_ref().map(|rollout| &rollout.value.members);
        let listed = members.map_or(0, BTreeMap::len);
        let fits = |(id, record): (&InstanceId, &Versioned<Record>)| {
            members.and_then(|members| members.get(id.as_str())) == Some(&record.value.step)
        };
        listed != self.records.len() || !self.records.iter().all(fits)
    }
}

impl World {
    pub(super) fn read(state: State) -> Self {
        let mut world = Self {
            apps: BTreeMap::new(),
            hosts: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            ports: BTreeMap::new(),
            operations: BTreeMap::new(),
            unreadable: Vec::new(),
            state,
        };
        for family in
            ["allocation/", "claim/", "deploy/", "host/", "instance/", "operation/", "port/", "rollout/"]
        {
            for (key, entry) in below(&world.state.clone(), family) {
                world.take(key, entry);
            }
        }
        world
    }

    fn take(&mut self, key: &Key, entry: &Entry) {
        let Some(place) = Place::of(key) else { return };
        let value = &entry.value;
        let version = entry.version;
        let failed = match place {
            Place::Deployment(app) => {
                let read = Deployment::parse(key, value).map_err(|mistakes| mistakes.to_string());
                let view = self.apps.entry(app).or_default();
                read.map(|deployment| view.deployment = Some(deployment))
                    .inspect_err(|_| view.is_unreadable = true)
            }
            Place::Rollout(app) => {
                let read = Rollout::parse(key, value).map_err(|error| error.to_string());
                let view = self.apps.entry(app).or_default();
                read.map(|value| view.rollout = Some(Versioned { value, version }))
                    .inspect_err(|_| view.is_unreadable = true)
            }
            Place::Instance(app, instance) => {
                let read = Record::parse(key, value).map_err(|error| error.to_string());
                let view = self.apps.entry(app).or_default();
                read.map(|value| drop(view.records.insert(instance, Versioned { value, version })))
                    .inspect_err(|_| view.is_unreadable = true)
            }
            Place::Claim(app) => {
                let holder = String::from_utf8_lossy(value).into_owned();
                self.apps.entry(app).or_default().claim = Some(holder);
                Ok(())
            }
            Place::Host(host) => Host::parse(key, value)
                .map(|read| drop(self.hosts.insert(host, read)))
                .map_err(|mistakes| mistakes.to_string()),
            Place::Allocation(host) => Ledger::parse(key, value)
                .map(|value| drop(self.ledgers.insert(host, Versioned { value, version })))
                .map_err(|error| error.to_string()),
            Place::Port(host, port) => {
                let value = String::from_utf8_lossy(value).into_owned();
                self.ports.insert((host, port), Versioned { value, version });
                Ok(())
            }
            Place::Operations(app) => Operations::parse(key, value)
                .map(|value| drop(self.operations.insert(app, Versioned { value, version })))
                .map_err(|error| error.to_string()),
            Place::Config(_) => Ok(()),
        };
        if let Err(why) = failed {
            self.unreadable.push((key.clone(), why));
        }
    }

    /// What stands at an instance's address.
    pub(super) fn address(&self, app: &AppId, instance: &InstanceId, record: &Record) -> Option<u64> {
        let key = address_key(app, &record.version, instance);
        self.state.entries.get(&key).map(|entry| entry.version)
    }

    pub(super) fn spec(&self, app: &AppId) -> (Option<&Bytes>, Option<u64>) {
        let entry = self.state.entries.get(&app_key(app));
        (entry.map(|entry| &entry.value), entry.map(|entry| entry.version))
    }

    /// Whether anybody has registered an address of the app.
    pub(super) fn has_addresses(&self, app: &AppId) -> bool {
        below(&self.state, &format!("service/address/{app}/")).next().is_some()
    }

    pub(super) fn ledger(&self, host: &HostId) -> (Ledger, Option<u64>) {
        match self.ledgers.get(host) {
            Some(ledger) => (ledger.value.clone(), Some(ledger.version)),
            None => (Ledger::default(), None),
        }
    }

    /// Keys that name an instance without a record, in a state that is whole: who looks has to make sure of it.
    pub(super) fn leftovers(&self) -> Vec<Leftover> {
        let known = |owner: &str| {
            let Some((app, instance)) = owner.split_once('/') else { return false };
            let view = self.apps.get(app);
            view.is_some_and(|view| {
                view.records.contains_key(instance) || view.is_unreadable || view.is_torn()
            })
        };
        let ports = self.ports.iter().filter(|(_, owner)| !known(&owner.value));
        let ports = ports.map(|((host, port), owner)| Leftover {
            key: keys::port(host, *port),
            version: owner.version,
            owner: owner.value.clone(),
            host: None,
        });
        let entries = self.ledgers.iter().flat_map(|(host, ledger)| {
            let owners = ledger.value.given.keys().filter(|owner| !known(owner));
            owners.map(|owner| Leftover {
                key: keys::allocation(host),
                version: ledger.version,
                owner: owner.clone(),
                host: Some(host.clone()),
            })
        });
        ports.chain(entries).collect()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Leftover {
    pub key: Key,
    pub version: u64,
    /// As `{app}/{instance}`.
    pub owner: String,
    /// An entry of its ledger, and not a key.
    pub host: Option<HostId>,
}

fn below<'s>(state: &'s State, family: &str) -> impl Iterator<Item = (&'s Key, &'s Entry)> {
    let family = family.to_owned();
    let from = (Bound::Included(family.as_str()), Bound::Unbounded);
    let range = state.entries.range::<_, str>(from);
    range.take_while(move |(key, _)| key.as_str().starts_with(&family))
}
