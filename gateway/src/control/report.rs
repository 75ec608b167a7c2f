//! What this gateway runs, told to all: `gateway/{id}` in the registry, for as long as its session lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use discovery::registry::{Expect, Key, Lifetime, Registry};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use topology::Snapshot;
use utoipa::ToSchema;

use super::Applied;
use crate::handover::Lineage;
use crate::table::RoutingTable;
use crate::worker::Shared;

/// Between two looks, and so between two writes: what a deploy waits for at the most beside the change itself. Fifty
/// gateways write 200 times a second where changes never end.
const INTERVAL: Duration = Duration::from_millis(250);
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Apps that are named with what is wrong with them; the count is of all.
const MAX_REJECTED: usize = 100;
/// Of what is wrong with one: the whole text is in `/v1/apps`.
const MAX_REASON_BYTES: usize = 500;

/// Instances that are named as departing: more than any rolling change takes out at once.
const MAX_DEPARTING: usize = 200;

/// Where gateways report.
pub const FAMILY: &str = "gateway/";

/// One gateway's report, as it stands in the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Of its admin listener.
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    /// The registry's revision up to which every change of an app is in force or rejected.
    #[schema(required = false)]
    pub applied: u64,
    /// Apps and files that are not in force as they are written, and why.
    #[schema(required = false)]
    pub rejected: BTreeMap<String, String>,
    #[schema(required = false)]
    pub rejected_total: usize,
    #[schema(required = false)]
    pub version: String,
    /// Instances that are out of the table and have requests under way, as `app/version/instance`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departing: Vec<String>,
    /// Of which more are than are named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub departing_total: usize,
    /// Former processes of this gateway that still serve what they had begun.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub draining_processes: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Report {
    fn of(table: &RoutingTable, applied: u64, address: Option<SocketAddr>) -> Self {
        let rejections = &table.snapshot.rejections;
        let by_place =
            rejections.iter().map(|(place, rejection)| (place.to_string(), cut(&rejection.reason)));
        let refused = table.apps.values().filter_map(|app| {
            let reason = app.rejection.as_ref()?;
            Some((format!("app/{}", app.id), cut(reason)))
        });
        let rejected_total =
            rejections.len() + table.apps.values().filter(|app| app.rejection.is_some()).count();
        Self {
            address,
            applied,
            rejected: by_place.chain(refused).take(MAX_REJECTED).collect(),
            rejected_total,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Self::default()
        }
    }

    /// Whether requests may be under way to an instance that is out of the table; `None`: it does not say.
    pub fn is_busy(&self, name: &str) -> Option<bool> {
        if self.departing.iter().any(|departing| departing == name) {
            return Some(true);
        }
        let tells_all = self.departing.len() == self.departing_total && self.draining_processes == 0;
        tells_all.then_some(false)
    }
}

fn cut(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    reason[..end].to_owned()
}

/// Writes this gateway's report whenever it differs.
pub struct Reporter {
    pub registry: Arc<dyn Registry>,
    pub shared: Arc<Shared>,
    pub snapshots: watch::Receiver<Snapshot>,
    pub applied: Arc<Applied>,
    pub lineage: Arc<Lineage>,
    pub id: String,
    pub address: Option<SocketAddr>,
}

impl Reporter {
    /// Until `cancel`. A gateway whose id is no part of a key reports nothing and says so.
    pub async fn run(self, cancel: CancellationToken) {
        let key = match Key::parse(&format!("{FAMILY}{}", self.id)) {
            Ok(key) => key,
            Err(error) => return tracing::warn!(%error, "gateway.id: no report is written to the registry"),
        };
        let (mut told, mut looked_at) = (None, None);
        let mut pause = INTERVAL;
        let mut has_failed = false;
        while cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = INTERVAL;
            let (table, applied) = self.in_force();
            // With nothing between the two: what the table has lost is in the list.
            let (departing, departing_total) = self.applied.departed.busy(MAX_DEPARTING);
            let draining_processes = self.lineage.draining().len();
            // Every app is looked at for a report: not where nothing can have changed.
            let looked = (table.snapshot.revision, applied, departing.clone(), draining_processes);
            if looked_at.as_ref() == Some(&looked) {
                continue;
            }
            let report = Report {
                departing,
                departing_total,
                draining_processes,
                ..Report::of(&table, applied, self.address)
            };
            if told.as_ref() == Some(&report) {
                looked_at = Some(looked);
                continue;
            }
            match self.write(&key, &report).await {
                Ok(()) => {
                    (told, looked_at) = (Some(report), Some(looked));
                    has_failed = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(%error, "the report of what this gateway runs is not written; it is tried again");
                    }
                    pause = RETRY;
                }
            }
        }
    }

    /// The table, and the registry's revision up to which every change is in it.
    fn in_force(&self) -> (Arc<RoutingTable>, u64) {
        let (newest, newest_routed) = {
            let snapshot = self.snapshots.borrow();
            (snapshot.revision, snapshot.routed_revision)
        };
        let table = self.shared.table.load_full();
        // A change that changed nothing reaches no table.
        let is_newest = table.snapshot.revision >= newest;
        let applied = if is_newest { newest_routed } else { table.snapshot.routed_revision };
        (table, applied)
    }

    async fn write(&self, key: &Key, report: &Report) -> anyhow::Result<()> {
        let value = Bytes::from(serde_json::to_vec(report)?);
        self.registry.write(key, value, Expect::Any, Lifetime::Session).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_tell_all_is_not_believed() {
        let quiet = Report::default();
        assert_eq!(quiet.is_busy("shop/v1/c1"), Some(false));
        let busy = Report { departing: vec!["shop/v1/c1".into()], departing_total: 1, ..Report::default() };
        assert_eq!((busy.is_busy("shop/v1/c1"), busy.is_busy("shop/v1/c2")), (Some(true), Some(false)));
        let cut = Report { departing_total: 2, ..busy };
        assert_eq!((cut.is_busy("shop/v1/c1"), cut.is_busy("shop/v1/c2")), (Some(true), None));
        let after_a_hand_over = Report { draining_processes: 1, ..Report::default() };
        assert_eq!(after_a_hand_over.is_busy("shop/v1/c1"), None);
    }

    #[test]
    fn a_report_is_short_whatever_is_wrong() {
        let mut table = RoutingTable::default();
        for number in 0..1_000 {
            let reason = "\u{e4}".repeat(10_000).into();
            let rejection = topology::Rejection { app: None, reason };
            table.snapshot.rejections.insert(format!("app/{number}").into(), rejection);
        }
        let report = Report::of(&table, 7, None);
        assert_eq!((report.rejected.len(), report.rejected_total, report.applied), (MAX_REJECTED, 1_000, 7));
        assert!(serde_json::to_vec(&report).unwrap().len() < 64 << 10);
    }
}
