//! Following what apps ask for. Costs what changes.

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use tokio::sync::watch;
use tokio::time::Instant;
use topology::{App, AppId, Snapshot};

use super::Claims;

/// Before a port is tried again that could not be opened.
const AGAIN: Duration = Duration::from_secs(10);

/// Tells when what apps ask for has changed.
#[derive(Debug)]
pub struct ClaimWatch {
    snapshots: watch::Receiver<Snapshot>,
    seen: OrdMap<AppId, Arc<App>>,
    claims: Claims,
    /// When something is to be tried again, however often apps change meanwhile.
    again: Option<Instant>,
}

impl ClaimWatch {
    pub fn new(mut snapshots: watch::Receiver<Snapshot>) -> Self {
        let now = snapshots.borrow_and_update().apps.clone();
        let mut watch = Self { snapshots, seen: OrdMap::new(), claims: Claims::new(), again: None };
        watch.follow(now);
        watch
    }

    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns when there is something to do: apps ask for something else, or it is time to try again. Can be cancelled.
    pub async fn changed(&mut self) -> &Claims {
        loop {
            let again = self.again;
            let due = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    let now = self.snapshots.borrow_and_update().apps.clone();
                    if self.follow(now) {
                        return &self.claims;
                    }
                }
                () = due => return &self.claims,
            }
        }
    }

    /// Whether something could not be opened, and is to be tried again.
    pub fn try_again(&mut self, again: bool) {
        self.again = again.then(|| Instant::now() + AGAIN);
    }

    fn follow(&mut self, now: OrdMap<AppId, Arc<App>>) -> bool {
        let mut differs = false;
        for change in self.seen.diff(&now) {
            match change {
                DiffItem::Add(id, app) | DiffItem::Update { new: (id, app), .. } => {
                    let claim = app.spec.ports.as_ref().map(|ports| (app.claimed, ports.clone()));
                    differs |= self.claims.get(id) != claim.as_ref();
                    match claim {
                        Some(claim) => self.claims.insert(id.clone(), claim),
                        None => self.claims.remove(id),
                    };
                }
                DiffItem::Remove(id, _) => differs |= self.claims.remove(id).is_some(),
            }
        }
        self.seen = now;
        differs
    }
}
