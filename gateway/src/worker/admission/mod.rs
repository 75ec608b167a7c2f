//! Who may go to an endpoint now, who waits, and who is told that there is no room.
//!
//! A request first counts with its tenant, whose limit bounds what the tenant holds of the gateway, waiting
//! requests too: so nobody waits for it. Then it takes a place with its app and with one of the endpoints,
//! another one where the first is full. Where all are full it waits, first come first served among a
//! worker's requests, and the workers in turn; nobody who comes later is let past. Every place is given
//! back when its guard is dropped, whatever became of the request.

mod places;
mod queue;
mod slots;

use std::sync::Arc;

pub use places::{Admitted, Places};
pub use queue::{Queues, Waiter};
pub use slots::{Full, Slot, SlotQueue, take_slot};

use self::places::{AppPlace, TenantPlace};
use super::Worker;
use super::rotations::{NoOther, Pick};
pub use super::upstreams::EndpointStream;
use crate::reason::Reason;
use crate::table::limits::Gate;
use crate::table::{CompiledApp, PooledEndpoint, Spread};

/// What a request asks for: an endpoint of one of an app's spreads.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub app: &'a CompiledApp,
    pub spread: &'a Spread,
    pub turn: usize,
    /// What its endpoint is chosen by, where the app hashes.
    pub key: Option<u64>,
    /// Where its client was before, by its cookie.
    pub home: Option<&'a Arc<PooledEndpoint>>,
}

#[derive(Debug)]
pub enum Entry {
    Admitted(Admitted),
    /// There may be room soon.
    Wait(Box<Waiter>),
    Refused(Reason),
}

/// Why there is nobody to go to; also the answer to whoever waits for one.
pub fn nobody(spread: &Spread) -> Reason {
    let mut endpoints = spread.pools.iter().flat_map(|pool| &pool.endpoints);
    match endpoints.any(|endpoint| endpoint.is_withdrawn()) {
        true => Reason::EndpointsWithdrawn,
        false => Reason::NoHealthyEndpoint,
    }
}

impl Worker {
    /// Costs one branch where nothing limits the app.
    pub fn enter(&self, wanted: Wanted<'_>) -> Entry {
        let Some(gate) = &wanted.app.gate else {
            let admitted = self.enter_unlimited(wanted);
            return admitted.map_or_else(|| Entry::Refused(nobody(wanted.spread)), Entry::Admitted);
        };
        self.enter_limited(gate, wanted)
    }

    /// Whatever limits its app: for what is limited otherwise.
    pub fn enter_unlimited(&self, wanted: Wanted<'_>) -> Option<Admitted> {
        self.rotations.pick(wanted).map(Admitted::from)
    }

    fn enter_limited(&self, gate: &Arc<Gate>, wanted: Wanted<'_>) -> Entry {
        let Ok(tenant) = TenantPlace::take(gate) else {
            return Entry::Refused(Reason::TenantOverloaded);
        };
        if gate.entrance.waiting.used() == 0
            && let Some(tried) = self.try_enter(gate, wanted)
        {
            return match tried {
                Ok((endpoint, place)) => Entry::Admitted(Admitted::new(endpoint, place, tenant)),
                Err(reason) => Entry::Refused(reason),
            };
        }
        match Waiter::join(gate, tenant, self.index, &self.queues) {
            Ok(waiter) => Entry::Wait(Box::new(waiter)),
            Err(reason) => Entry::Refused(reason),
        }
    }

    /// A place with the app and one of its endpoints; `None` while there is none.
    fn try_enter(
        &self,
        gate: &Arc<Gate>,
        wanted: Wanted<'_>,
    ) -> Option<Result<(Arc<PooledEndpoint>, AppPlace), Reason>> {
        let place = AppPlace::take(gate)?;
        match self.rotations.pick_free(wanted, &[], |endpoint| gate.try_take_place(endpoint)) {
            Pick::Free(endpoint) => Some(Ok((endpoint.clone(), place.with(&endpoint)))),
            Pick::Full => None,
            Pick::Nobody => Some(Err(nobody(wanted.spread))),
        }
    }

    /// Another endpoint for a request that has been to those in `tried`, if the app's budget allows and one
    /// has room; its place is added to what the request holds.
    ///
    /// # Errors
    /// [`NoOther`].
    pub fn enter_again(
        &self,
        wanted: Wanted<'_>,
        tried: &[u64],
        places: &mut Places,
    ) -> Result<Arc<PooledEndpoint>, NoOther> {
        let Some(gate) = &wanted.app.gate else {
            let endpoint = self.rotations.pick_again(wanted, tried)?;
            places.count(&endpoint);
            return Ok(endpoint);
        };
        let take = |endpoint: &PooledEndpoint| gate.try_take_place(endpoint);
        let Pick::Free(endpoint) = self.rotations.pick_free(wanted, tried, take) else {
            return Err(NoOther::Nobody);
        };
        places.hold(&endpoint);
        if !self.rotations.pay_retry(wanted) {
            places.leave(endpoint.live.id);
            return Err(NoOther::OverBudget);
        }
        Ok(endpoint)
    }
}
