//! What gateways' probes have found of instances, and want done about it.
//!
//! An event says that an endpoint keeps failing; that it has recovered none says. So the last event of each is kept, and holds
//! for as long as the endpoint's own record shows the failures that it told of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deploy::lifecycle::Complaint;
use deploy::model::UnhealthyAction;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use topology::{AppId, InstanceKey, OnFailure};

use crate::control::Failure;
use crate::worker::Shared;

/// More are looked through for those that hold no more.
const LOOK_THROUGH: usize = 1024;

pub(super) struct Complaints {
    shared: Arc<Shared>,
    heard: Mutex<BTreeMap<(AppId, InstanceKey), Failure>>,
}

impl Complaints {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, heard: Mutex::default() }
    }

    /// Takes in what is told, for as long as anybody tells.
    pub(super) async fn listen(self: Arc<Self>, mut told: Receiver<Failure>) {
        loop {
            match told.recv().await {
                Ok(failure) => self.take(failure),
                // What was missed is told again.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn take(&self, failure: Failure) {
        let mut heard = self.heard();
        if heard.len() >= LOOK_THROUGH {
            heard.retain(|_, failure| self.holds(failure));
        }
        heard.insert((failure.app.clone(), failure.key.clone()), failure);
    }

    pub(super) fn of(&self, app: &AppId, key: &InstanceKey) -> Option<Complaint> {
        let mut heard = self.heard();
        if heard.is_empty() {
            return None;
        }
        let name = (app.clone(), key.clone());
        let failure = heard.get(&name)?;
        if !self.holds(failure) {
            heard.remove(&name);
            return None;
        }
        let action = match failure.action {
            OnFailure::Eject => return None,
            OnFailure::Restart => UnhealthyAction::Restart,
            OnFailure::Stop => UnhealthyAction::Stop,
        };
        Some(Complaint { action, failures: failure.failures, why: failure.why.to_string() })
    }

    /// Whether the endpoint has not passed a probe since.
    fn holds(&self, failure: &Failure) -> bool {
        let table = self.shared.table.load();
        let endpoint = table.app(&failure.app).and_then(|app| app.endpoint(&failure.key));
        endpoint.is_some_and(|endpoint| {
            endpoint.address == failure.address
                && endpoint.live.health.report().consecutive_failures >= failure.failures
        })
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<(AppId, InstanceKey), Failure>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
