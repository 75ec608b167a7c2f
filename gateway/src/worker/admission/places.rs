//! Guards: what a request holds of its tenant, its app and its endpoint.

use std::sync::Arc;

use crate::table::PooledEndpoint;
use crate::table::limits::{Gate, Tenant};
use crate::table::live::EndpointLive;

/// A request's endpoint, and the right to ask it. The places are given back when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    pub endpoint: Arc<PooledEndpoint>,
    place: Option<AppPlace>,
    _tenant: Option<TenantPlace>,
}

impl Admitted {
    pub(super) fn new(
        endpoint: Arc<PooledEndpoint>,
        place: Option<AppPlace>,
        tenant: Option<TenantPlace>,
    ) -> Self {
        Self { endpoint, place, _tenant: tenant }
    }

    /// Goes on with another endpoint, one of whose places has been taken where those are counted.
    pub(super) fn move_to(&mut self, endpoint: Arc<PooledEndpoint>) {
        if let Some(place) = &mut self.place {
            place.leave_endpoint();
            place.hold(&endpoint);
        }
        self.endpoint = endpoint;
    }
}

/// Of an app that nothing limits.
impl From<Arc<PooledEndpoint>> for Admitted {
    fn from(endpoint: Arc<PooledEndpoint>) -> Self {
        Self { endpoint, place: None, _tenant: None }
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

/// One of the requests that an app may have under way, and one of its endpoint's.
#[derive(Debug)]
pub(super) struct AppPlace {
    gate: Arc<Gate>,
    endpoint: Option<Arc<EndpointLive>>,
}

impl AppPlace {
    pub fn take(gate: &Arc<Gate>) -> Option<Self> {
        let is_taken = gate.entrance.in_flight.try_take(gate.most);
        is_taken.then(|| Self { gate: gate.clone(), endpoint: None })
    }

    /// With an endpoint one of whose places was taken.
    pub fn with(mut self, endpoint: &PooledEndpoint) -> Self {
        self.hold(endpoint);
        self
    }

    /// Its places are counted by this gate or they are not, whatever a later table says.
    fn hold(&mut self, endpoint: &PooledEndpoint) {
        self.endpoint = self.gate.limits.is_some().then(|| endpoint.live.clone());
    }

    fn leave_endpoint(&mut self) {
        if let Some(endpoint) = self.endpoint.take()
            && let Some(load) = endpoint.load.get()
        {
            load.in_flight.give_back();
            self.gate.entrance.wake_one();
        }
    }
}

impl Drop for AppPlace {
    fn drop(&mut self) {
        self.gate.entrance.in_flight.give_back();
        // One that was never used wakes nobody: whoever looked meanwhile will look again.
        self.leave_endpoint();
    }
}
