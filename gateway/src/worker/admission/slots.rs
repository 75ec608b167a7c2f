//! Connections to endpoints, counted where an app or its tenant limits them.
//!
//! Idle ones count too. Where no more may be opened, somebody waits until an idle one is given up, which
//! whichever worker holds one does at its next tick, or when the next one becomes idle. Requests under way
//! are never more than connections may be, so for HTTP/1.1 that is all there is to wait for.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::reason::Reason;
use crate::table::PooledEndpoint;
use crate::table::limits::{Gate, Meter};
use crate::table::live::EndpointLive;

/// One of the connections that may be open; given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    gate: Arc<Gate>,
    endpoint: Arc<EndpointLive>,
}

/// There is no room.
#[derive(Debug)]
pub struct Full<'e> {
    /// In which count.
    pub meter: &'e Meter,
    /// Whose that is.
    pub reason: Reason,
}

/// One worker's tasks that wait for a connection that they may open. All look again at every tick, and when
/// one of them was lucky: whose turn it is plays no part, since a wait means that idle connections are
/// being given up for all of them.
#[derive(Debug, Default)]
pub struct SlotQueue(RefCell<Vec<Waker>>);

impl SlotQueue {
    /// Wakes the task at the next tick.
    pub fn wait(&self, context: &Context<'_>) {
        self.0.borrow_mut().push(context.waker().clone());
    }

    pub fn look_again(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }
}

/// `None`: nobody counts. Who has not waited yet gets none while somebody else waits.
///
/// # Errors
/// [`Full`], with the count that is at its limit.
pub fn take_slot(endpoint: &PooledEndpoint, has_waited: bool) -> Result<Option<Box<Slot>>, Full<'_>> {
    let Some(gate) = endpoint.gate.as_ref().filter(|gate| gate.limits_connections()) else {
        return Ok(None);
    };
    let meters = meters(gate, &endpoint.live);
    for (taken, Count { meter, limit, reason }) in meters.clone().enumerate() {
        if !has_waited && meter.is_wanted() || !meter.try_take(limit) {
            meters.take(taken).for_each(|count| count.meter.give_back());
            return Err(Full { meter, reason });
        }
    }
    Ok(Some(Box::new(Slot { gate: gate.clone(), endpoint: endpoint.live.clone() })))
}

#[derive(Clone, Copy)]
struct Count<'e> {
    meter: &'e Meter,
    limit: u32,
    reason: Reason,
}

/// All that count a connection.
fn meters<'e>(gate: &'e Gate, endpoint: &'e EndpointLive) -> impl Iterator<Item = Count<'e>> + Clone {
    let limits = gate.limits.as_ref();
    let of_endpoint = limits.and_then(|limits| limits.connections_per_endpoint);
    let of_app = limits.and_then(|limits| limits.connections);
    let count = |meter, limit: Option<u32>, reason| Count { meter, limit: limit.unwrap_or(u32::MAX), reason };
    let load = endpoint.load.get();
    [
        load.map(|load| count(&load.connections, of_endpoint, Reason::AppOverloaded)),
        Some(count(&gate.entrance.connections, of_app, Reason::AppOverloaded)),
        gate.tenant
            .as_ref()
            .map(|tenant| count(&tenant.connections, tenant.limits.connections, Reason::TenantOverloaded)),
    ]
    .into_iter()
    .flatten()
}

impl Slot {
    /// Whether somebody waits for it, and for no other one that is free already.
    pub fn is_wanted(&self) -> bool {
        meters(&self.gate, &self.endpoint)
            .any(|count| count.meter.is_wanted() && count.meter.used() >= count.limit)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut is_wanted = false;
        for count in meters(&self.gate, &self.endpoint) {
            count.meter.give_back();
            is_wanted |= count.meter.is_wanted();
        }
        if is_wanted {
            self.gate.entrance.wake_for_slot();
        }
    }
}
