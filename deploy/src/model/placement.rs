//! Where instances may run.

use std::collections::BTreeMap;

use discovery::document::Table;
use topology::AppId;

use super::version::{config_name, read_map};

const MAX_LABELS: usize = 50;
const MAX_APPS: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    pub strategy: Strategy,
    /// Labels that a host must have.
    pub require: BTreeMap<String, String>,
    /// Labels that a host should have: who has more of them is taken first.
    pub prefer: BTreeMap<String, String>,
    /// Apps that must not run on the same host.
    pub apart: Vec<AppId>,
    /// Apps of which an instance must run on the same host.
    pub near: Vec<AppId>,
    pub one_per_host: bool,
}

/// Which of the hosts that will do is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    #[default]
    MostFreeMemory,
    LeastCpu,
    /// The one with the fewest instances of the app, then of all.
    Spread,
    /// The fullest one.
    Pack,
}

pub(super) fn read_placement(deployment: &Table<'_>) -> Placement {
    let Some(table) = deployment.table("placement") else { return Placement::default() };
    let strategies = [
        ("most_free_memory", Strategy::MostFreeMemory),
        ("least_cpu", Strategy::LeastCpu),
        ("spread", Strategy::Spread),
        ("pack", Strategy::Pack),
    ];
    let placement = Placement {
        strategy: table.choice("strategy", &strategies).unwrap_or_default(),
        require: read_labels(&table, "require"),
        prefer: read_labels(&table, "prefer"),
        apart: table.list("apart", MAX_APPS, AppId::parse).unwrap_or_default(),
        near: table.list("near", MAX_APPS, AppId::parse).unwrap_or_default(),
        one_per_host: table.boolean("one_per_host").unwrap_or(false),
    };
    if let Some(both) = placement.apart.iter().find(|app| placement.near.contains(app)) {
        table.mistake("near", format!("{both} stands in apart too; no host is both"));
    }
    table.finish();
    placement
}

pub(super) fn read_labels<'d>(table: &Table<'d>, key: &'d str) -> BTreeMap<String, String> {
    read_map(table, key, MAX_LABELS, config_name, config_name).unwrap_or_default()
}
