//! Keeps our names on another server (RFC 2136): looks what it has, and writes what differs.
//!
//! Level-triggered: after a failure, a conflict or some minutes the server's zone is read again, and what was missed is
//! found. Nothing is remembered that the server does not say.

pub mod client;
mod leader;
pub mod plan;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use discovery::registry::Registry;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use leader::Candidate;

use super::cells::UpdateCells;
use super::desk::{DnsDesk, Published};
use super::publish::unix_seconds;
use super::tsig::TsigKey;
use super::zone::Target;
use crate::worker::Shared;
use client::{ClientError, Session};
use plan::{Plan, Present, Step, Wanted, Writer, plan};

/// First pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Conflicts that are named; the count is of all.
const MAX_NAMED: usize = 20;

/// One server that takes our names.
#[derive(Debug, Clone)]
pub struct UpdatePlan {
    pub server: SocketAddr,
    pub writer: Writer,
    pub key: TsigKey,
    /// How often its zone is read although nothing has changed.
    pub resync: Duration,
}

pub struct Updater {
    pub plan: UpdatePlan,
    pub registry: Arc<dyn Registry>,
    pub shared: Arc<Shared>,
    pub desk: Arc<DnsDesk>,
    pub cells: Arc<UpdateCells>,
    pub leads: watch::Receiver<bool>,
}

impl Updater {
    /// Writes whenever names change and this gateway is the one that writes, until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.desk.changes();
        let mut present = None;
        let mut pause = FIRST_PAUSE;
        loop {
            changes.borrow_and_update();
            let is_leading = *self.leads.borrow_and_update();
            self.cells.leads.store(is_leading.into(), Ordering::Relaxed);
            let mut again = self.plan.resync;
            if !is_leading {
                // Somebody else writes meanwhile.
                present = None;
            } else if !self.is_informed() {
                again = FIRST_PAUSE;
            } else if let Some(published) = self.desk.published() {
                let Some(done) = cancel.run_until_cancelled(self.bring(&published, &mut present)).await
                else {
                    break;
                };
                self.tell(done.as_ref().err());
                if matches!(done, Ok(true)) {
                    pause = FIRST_PAUSE;
                } else {
                    // What the server has is not what was thought, or not known.
                    present = None;
                    again = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // What failed is not tried at each change.
                if again < self.plan.resync {
                    if cancel.run_until_cancelled(tokio::time::sleep(again)).await.is_none() {
                        break;
                    }
                    continue;
                }
            }
            let waiting = async {
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = self.leads.changed() => {}
                    () = tokio::time::sleep(again) => present = None,
                }
            };
            if cancel.run_until_cancelled(waiting).await.is_none() {
                break;
            }
        }
        self.cells.leads.store(0, Ordering::Relaxed);
    }

    /// Whether what the registry says has reached the table: before that, nobody's name is missing.
    fn is_informed(&self) -> bool {
        let has_read = self.shared.table.load().snapshot.routed_revision > 0;
        let state = self.registry.watch();
        let state = state.borrow();
        let is_app = |key: &str| ["app/", "service/", "route/"].iter().any(|family| key.starts_with(family));
        has_read || !state.entries.keys().any(|key| is_app(key.as_str()))
    }

    /// Returns whether the server now has all that is known to be wanted: `false` where it has to be looked at again.
    async fn bring(&self, published: &Published, present: &mut Option<Present>) -> Result<bool, ClientError> {
        let writer = &self.plan.writer;
        let mut session = None;
        if present.is_none() {
            let opened = session.insert(Session::open(self.plan.server, self.plan.key.clone()).await?);
            *present = Some(Present::read(&opened.transfer(&writer.zone).await?, writer));
        }
        let Some(present) = present else { return Ok(false) };
        let Plan { steps, conflicts } = plan(&desired(published, &writer.zone), present);
        self.note(&conflicts);
        let mut is_whole = true;
        for step in &steps {
            if !*self.leads.borrow() {
                return Ok(false);
            }
            let session = match &mut session {
                Some(session) => session,
                None => session.insert(Session::open(self.plan.server, self.plan.key.clone()).await?),
            };
            is_whole &= self.take(session, step, present).await?;
        }
        self.cells.owned.store(present.owned() as u64, Ordering::Relaxed);
        if is_whole {
            self.cells.in_step_at.store(unix_seconds(), Ordering::Relaxed);
        }
        Ok(is_whole)
    }

    async fn take(
        &self,
        session: &mut Session,
        step: &Step,
        present: &mut Present,
    ) -> Result<bool, ClientError> {
        let (name, count, what) = match step {
            Step::Create { name, .. } => (name, &self.cells.created, "created"),
            Step::Replace { name, .. } => (name, &self.cells.replaced, "changed"),
            Step::Remove { name } => (name, &self.cells.removed, "removed"),
        };
        let Some(message) = self.plan.writer.message(step, fastrand::u16(..)) else {
            // Too long for its marker: it cannot be ours.
            return Ok(true);
        };
        match session.update(&message).await? {
            ResponseCode::NoError => {
                count.add();
                present.apply(step);
                tracing::info!(server = %self.plan.server, %name, "name {what}");
                Ok(true)
            }
            // Not as it was seen: somebody else has written meanwhile.
            ResponseCode::YXDomain
            | ResponseCode::YXRRSet
            | ResponseCode::NXRRSet
            | ResponseCode::NXDomain => Ok(false),
            code => Err(ClientError::Refused { doing: "an update", code }),
        }
    }

    fn note(&self, conflicts: &[(Name, &'static str)]) {
        self.cells.conflicts.store(conflicts.len() as u64, Ordering::Relaxed);
        let mut known = self.cells.in_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        let now: Vec<_> =
            conflicts.iter().take(MAX_NAMED).map(|(name, why)| (name.to_ascii(), *why)).collect();
        for (name, why) in now.iter().filter(|conflict| !known.contains(conflict)) {
            tracing::warn!(server = %self.plan.server, name, why, "a name is somebody else's and stays as it is");
        }
        *known = now;
    }

    fn tell(&self, error: Option<&ClientError>) {
        let told = error.map(ToString::to_string);
        let mut last = self.cells.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &told {
            self.cells.failed.add();
            if last.as_ref() != Some(why) {
                tracing::warn!(server = %self.plan.server, zone = %self.plan.writer.zone, why, "names are not written; it is tried again");
            }
        } else if last.is_some() {
            tracing::info!(server = %self.plan.server, zone = %self.plan.writer.zone, "names are written again");
        }
        *last = told;
    }
}

/// Of all names those that belong into `zone`.
fn desired(published: &Published, zone: &Name) -> BTreeMap<Name, Wanted> {
    let serving = |target: &Target| published.zone.serving(target).into_iter().copied().collect();
    let all = published.zone.names.iter().chain(published.outside.iter());
    let wanted = all.filter(|(name, _)| zone.zone_of(name)).filter_map(|(name, target)| {
        let wanted = match target {
            // RFC 1034 section 3.6.2: at a zone's own name no alias can stand.
            Target::Alias(to) if name == zone => match published.zone.names.get(to) {
                Some(home @ Target::Addresses(_)) => Wanted::Addresses(serving(home)),
                _ => return None,
            },
            Target::Alias(to) => Wanted::Alias(to.clone()),
            Target::Addresses(_) => Wanted::Addresses(serving(target)),
            // Of name servers of ours, which are not theirs.
            Target::Fixed(_) => return None,
        };
        Some((name.clone(), wanted))
    });
    wanted.collect()
}
