//! Whether endpoints serve, for whoever doubts that they are gone.

use std::sync::Arc;

use discovery::doubt::Witness;
use topology::{AppId, InstanceKey};

use crate::worker::Shared;

/// What probes have found of the endpoints that are in force.
pub struct ProbedEndpoints(pub Arc<Shared>);

impl Witness for ProbedEndpoints {
    fn serves(&self, app: &AppId, instance: &InstanceKey) -> bool {
        let table = self.0.table.load();
        let endpoint = table.app(app).and_then(|app| app.endpoint(instance));
        endpoint.is_none_or(|endpoint| endpoint.live.health.is_up())
    }

    fn takes_requests(&self, app: &AppId, instance: &InstanceKey) -> Option<bool> {
        let table = self.0.table.load();
        let endpoint = table.app(app).and_then(|app| app.endpoint(instance));
        endpoint.map(|endpoint| endpoint.is_available() && endpoint.weight > 0)
    }
}
