//! What is wanted of an app.

use std::collections::BTreeMap;

use discovery::document::{Document, Mistakes, Table};
use discovery::registry::Key;
use topology::{AppId, VersionId};

use super::placement::{Placement, read_placement};
use super::policy::{
    AutoscalePolicy, MAX_INSTANCES, RestartPolicy, RolloutPolicy, read_autoscale, read_restart, read_rollout,
};
use super::version::{VersionSpec, read_version};

/// Enough to go back to; who keeps more keeps them elsewhere.
const MAX_VERSIONS: usize = 50;
const MAX_DEPENDENCIES: usize = 50;

#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Never empty; has `version`.
    pub versions: BTreeMap<VersionId, VersionSpec>,
    pub version: VersionId,
    /// What is wanted where nothing scales it.
    pub instances: u32,
    pub running: bool,
    pub placement: Placement,
    pub rollout: RolloutPolicy,
    pub restart: RestartPolicy,
    pub autoscale: Option<AutoscalePolicy>,
    pub depends_on: Vec<AppId>,
    /// Grows with every change of the app's configuration, which rolls it.
    pub config_generation: u64,
}

impl Deployment {
    /// Reads the value of `deploy/{app}`: JSON.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(key: &Key, value: &[u8]) -> Result<Self, Mistakes> {
        Document::json(key.as_str(), value)?.read(read_deployment)
    }

    /// Reads an app file: TOML with the same keys, and the app's `id`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn parse_file(name: &str, text: &str) -> Result<(AppId, Self), Mistakes> {
        Document::toml(name, text)?.read(|table| {
            let id = table.parsed("id", AppId::parse);
            let id = table.required("id", id, "id = \"shop\"");
            let deployment = read_deployment(table);
            Some((id?, deployment?))
        })
    }

    /// The version that is wanted.
    pub fn wanted(&self) -> Option<&VersionSpec> {
        self.versions.get(&self.version)
    }
}

fn read_deployment(table: Table<'_>) -> Option<Deployment> {
    let versions = read_versions(&table);
    let version = read_wanted(&table, versions.as_ref());
    let instances = table.integer("instances", 0..=MAX_INSTANCES).unwrap_or(1);
    let depends_on = table.list("depends_on", MAX_DEPENDENCIES, AppId::parse).unwrap_or_default();
    let autoscale = read_autoscale(&table);
    let deployment = Deployment {
        versions: BTreeMap::new(),
        version: VersionId::parse("none").ok()?,
        instances,
        running: table.boolean("running").unwrap_or(true),
        placement: read_placement(&table),
        rollout: read_rollout(&table),
        restart: read_restart(&table),
        autoscale,
        depends_on,
        config_generation: table.integer("config_generation", 0..=i64::MAX as u64).unwrap_or(0),
    };
    table.finish();
    Some(Deployment { versions: versions?, version: version?, ..deployment })
}

fn read_versions(table: &Table<'_>) -> Option<BTreeMap<VersionId, VersionSpec>> {
    let example = "[versions.v1] with image = \"registry.local/shop:v1\"";
    let versions = table.table("versions");
    let versions = table.required("versions", versions, example)?;
    if versions.names().len() > MAX_VERSIONS {
        table.mistake("versions", format!("has {} versions; keep {MAX_VERSIONS}", versions.names().len()));
        return None;
    }
    let mut read = BTreeMap::new();
    for name in versions.names() {
        let spec = versions.table(name).and_then(read_version);
        match VersionId::parse(name) {
            Ok(version) => read.extend(spec.map(|spec| (version, spec))),
            Err(message) => versions.mistake(name, message.to_string()),
        }
    }
    if versions.names().len() == 0 {
        table.mistake("versions", format!("is empty; write {example}"));
    }
    Some(read)
}

/// May be left out where there is one version only.
fn read_wanted(table: &Table<'_>, versions: Option<&BTreeMap<VersionId, VersionSpec>>) -> Option<VersionId> {
    let given = table.parsed("version", VersionId::parse);
    let names = || versions.into_iter().flat_map(BTreeMap::keys);
    match given {
        Some(version) => {
            if let Some(known) = versions
                && !known.contains_key(&version)
            {
                let known: Vec<_> = names().map(VersionId::as_str).collect();
                table.mistake("version", format!("{version} is none of versions: {}", known.join(", ")));
            }
            Some(version)
        }
        None if table.has("version") => None,
        None => {
            let only = names().next().filter(|_| names().count() == 1).cloned();
            table.required("version", only, "version = \"v1\", the one to run")
        }
    }
}
