//! Guards: what a request holds of its tenant, its app and its endpoints.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::table::PooledEndpoint;
use crate::table::limits::{Gate, Tenant};
use crate::table::live::EndpointLive;

/// A request's first endpoint, and the right to ask it.
#[derive(Debug)]
pub struct Admitted {
    pub endpoint: Arc<PooledEndpoint>,
    pub places: Places,
}

impl Admitted {
    pub(super) fn new(endpoint: Arc<PooledEndpoint>, app: AppPlace, tenant: Option<TenantPlace>) -> Self {
        Self { endpoint, places: Places { app: Some(app), _tenant: tenant } }
    }
}

/// Of an app that nothing limits.
impl From<Arc<PooledEndpoint>> for Admitted {
    fn from(endpoint: Arc<PooledEndpoint>) -> Self {
        let mut places = Places::default();
        places.count(&endpoint);
        Self { endpoint, places }
    }
}

/// All that a request holds, given back when it is dropped; nothing where nothing is limited.
#[derive(Debug, Default)]
pub struct Places {
    app: Option<AppPlace>,
    _tenant: Option<TenantPlace>,
}

impl Places {
    /// One of the endpoint's places has been taken, where those are counted.
    pub(super) fn hold(&mut self, endpoint: &PooledEndpoint) {
        if let Some(app) = &mut self.app {
            app.hold(endpoint);
        }
    }

    /// Counts one more request at the endpoint of an app that nothing limits; one branch where that is not to be known.
    pub(super) fn count(&mut self, endpoint: &PooledEndpoint) {
        if let Some(load) = endpoint.counted() {
            load.in_flight.take();
            self.app.get_or_insert_with(AppPlace::unlimited).hold(endpoint);
        }
    }

    /// Gives the endpoint's place back.
    pub fn leave(&mut self, endpoint: u64) {
        if let Some(app) = &mut self.app {
            app.leave(endpoint);
        }
    }
}

/// One of the requests that a tenant may have in the gateway.
#[derive(Debug)]
pub struct TenantPlace(Arc<Tenant>);

impl TenantPlace {
    /// `None`: the app's tenant is not limited.
    ///
    /// # Errors
    /// When it has as many as it may have.
    pub(super) fn take(gate: &Gate) -> Result<Option<Self>, ()> {
        let Some(tenant) = &gate.tenant else { return Ok(None) };
        let limit = tenant.limits.in_flight.unwrap_or(u32::MAX);
        if tenant.in_flight.try_take(limit) { Ok(Some(Self(tenant.clone()))) } else { Err(()) }
    }
}

impl Drop for TenantPlace {
    fn drop(&mut self) {
        self.0.in_flight.give_back();
    }
}

/// One of the requests that an app may have under way, and one of each endpoint that is asked.
#[derive(Debug)]
pub(super) struct AppPlace {
    /// `None`: nothing limits the app.
    gate: Option<Arc<Gate>>,
    /// Two while a request is hedged.
    endpoints: SmallVec<[Arc<EndpointLive>; 2]>,
}

impl AppPlace {
    pub fn take(gate: &Arc<Gate>) -> Option<Self> {
        let is_taken = gate.entrance.in_flight.try_take(gate.most);
        is_taken.then(|| Self { gate: Some(gate.clone()), endpoints: SmallVec::new() })
    }

    fn unlimited() -> Self {
        Self { gate: None, endpoints: SmallVec::new() }
    }

    /// With an endpoint one of whose places was taken.
    pub fn with(mut self, endpoint: &PooledEndpoint) -> Self {
        self.hold(endpoint);
        self
    }

    /// An endpoint's places are counted in this table or they are not, whatever a later one says.
    fn hold(&mut self, endpoint: &PooledEndpoint) {
        if endpoint.is_counted {
            self.endpoints.push(endpoint.live.clone());
        }
    }

    fn leave(&mut self, endpoint: u64) {
        if let Some(position) = self.endpoints.iter().position(|held| held.id == endpoint) {
            give_back(&self.endpoints.remove(position));
            self.gate.iter().for_each(|gate| gate.entrance.wake_one());
        }
    }
}

fn give_back(endpoint: &EndpointLive) {
    if let Some(load) = endpoint.load.get() {
        load.in_flight.give_back();
    }
}

impl Drop for AppPlace {
    fn drop(&mut self) {
        let gate = self.gate.as_deref();
        gate.iter().for_each(|gate| gate.entrance.in_flight.give_back());
        self.endpoints.iter().for_each(|endpoint| give_back(endpoint));
        // One that was never used wakes nobody: whoever looked meanwhile will look again.
        if let Some(gate) = gate.filter(|_| !self.endpoints.is_empty()) {
            gate.entrance.wake_one();
        }
    }
}
