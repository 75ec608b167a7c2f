//! What an app's requests pass on their way in, where something limits them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use futures::task::AtomicWaker;
use topology::{AppSpec, Capacity, Protocol};

use super::meter::Meter;
use super::tenants::Tenant;
use crate::balance::PeakEwma;
use crate::table::PooledEndpoint;
use crate::table::live::fresh_id;

/// An app's limits as one table has them, and its counts, which outlive tables.
#[derive(Debug)]
pub struct Gate {
    /// `None`: only its tenant is limited.
    pub limits: Option<Capacity>,
    /// Requests under way that the app may have.
    pub most: u32,
    pub entrance: Arc<Entrance>,
    pub tenant: Option<Arc<Tenant>>,
}

/// Where an app's requests are counted, and wait.
#[derive(Debug)]
pub struct Entrance {
    pub id: u64,
    pub in_flight: Meter,
    pub connections: Meter,
    pub waiting: Meter,
    lanes: Box<[Lane]>,
    /// The lane that is looked at first when a place becomes free, so that no worker's requests wait
    /// behind another one's.
    turn: AtomicUsize,
}

/// One worker's queue, as the others see it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane {
    waiting: AtomicU32,
    /// Of the first in it.
    first: AtomicWaker,
    /// Of one that waits for a connection that it may open.
    slot: AtomicWaker,
}

/// What an endpoint has to do at the moment.
#[derive(Debug, Default)]
pub struct Load {
    pub in_flight: Meter,
    pub connections: Meter,
    /// What it bears at a time, where that is found out; 0 before.
    pub bearable: AtomicU32,
    /// How often it had no room since that was last asked.
    pub refusals: AtomicU32,
    /// How soon it is expected to answer, where its app balances by that.
    pub latency: PeakEwma,
}

impl Load {
    /// What it bears is to be found out, from `start` on if nothing is known yet.
    pub fn begin_to_adapt(&self, start: u32) {
        let _ = self.bearable.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Gate {
    /// `former`: the app's in the table before, if it had one. `None`: nothing limits the app.
    pub fn new(
        spec: &AppSpec,
        tenant: Option<Arc<Tenant>>,
        is_http2: bool,
        workers: usize,
        former: Option<&Arc<Self>>,
    ) -> Option<Arc<Self>> {
        let limits = spec.capacity().copied();
        if limits.is_none() && tenant.is_none() {
            return None;
        }
        let most = limits.as_ref().map_or(u32::MAX, |limits| most_in_flight(limits, is_http2));
        let is_same = |former: &&Arc<Self>| {
            let tenants = (former.tenant.as_ref().map(Arc::as_ptr), tenant.as_ref().map(Arc::as_ptr));
            former.limits == limits && former.most == most && tenants.0 == tenants.1
        };
        if let Some(same) = former.filter(is_same) {
            return Some(same.clone());
        }
        let entrance = former.map_or_else(|| Arc::new(Entrance::new(workers)), |gate| gate.entrance.clone());
        Some(Arc::new(Self { limits, most, entrance, tenant }))
    }

    /// How many requests `endpoint` may have under way.
    pub fn most_of(&self, endpoint: &PooledEndpoint, load: &Load) -> u32 {
        let Some(limits) = &self.limits else { return u32::MAX };
        let mut most = limits.in_flight_per_endpoint.unwrap_or(u32::MAX);
        if endpoint.protocol != Protocol::Http2 {
            // Each has a connection to itself.
            most = most.min(limits.connections_per_endpoint.unwrap_or(u32::MAX));
        }
        if limits.adaptive.is_some() {
            most = most.min(load.bearable.load(Ordering::Relaxed));
        }
        most
    }

    /// Takes one of the endpoint's places, if it has room.
    pub fn try_take_place(&self, endpoint: &PooledEndpoint) -> bool {
        let Some(load) = endpoint.counted() else { return true };
        let is_taken = load.in_flight.try_take(self.most_of(endpoint, load));
        if !is_taken {
            load.refusals.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// Whether connections are counted.
    pub fn limits_connections(&self) -> bool {
        let of_app = self
            .limits
            .is_some_and(|limits| limits.connections.is_some() || limits.connections_per_endpoint.is_some());
        of_app || self.tenant.as_ref().is_some_and(|tenant| tenant.limits.connections.is_some())
    }
}

/// Where every request has a connection to itself there can be no more of them than connections.
fn most_in_flight(limits: &Capacity, is_http2: bool) -> u32 {
    let most = limits.in_flight.unwrap_or(u32::MAX);
    if is_http2 { most } else { most.min(limits.connections.unwrap_or(u32::MAX)) }
}

impl Entrance {
    fn new(workers: usize) -> Self {
        Self {
            id: fresh_id(),
            in_flight: Meter::default(),
            connections: Meter::default(),
            waiting: Meter::default(),
            lanes: (0..workers).map(|_| Lane::default()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// One more, or one less, waits on `worker`.
    pub fn count_waiting(&self, worker: usize, joins: bool) {
        let waiting = &self.lanes[worker].waiting;
        if joins {
            waiting.fetch_add(1, Ordering::SeqCst)
        } else {
            waiting.fetch_sub(1, Ordering::SeqCst)
        };
    }

    /// Whom to wake when `worker` is to look for room.
    pub fn set_first(&self, worker: usize, waker: &std::task::Waker) {
        self.lanes[worker].first.register(waker);
    }

    /// Whom to wake when a connection was given up.
    pub fn set_slot_waiter(&self, worker: usize, waker: &std::task::Waker) {
        self.lanes[worker].slot.register(waker);
    }

    /// A connection was given up that somebody waits for: one task of each worker looks.
    pub fn wake_for_slot(&self) {
        self.lanes.iter().for_each(|lane| lane.slot.wake());
    }

    /// A place became free: the first of one worker's queue looks for it. Costs a load where nobody waits.
    pub fn wake_one(&self) {
        if self.waiting.used() == 0 {
            return;
        }
        let (turn, count) = (self.turn.fetch_add(1, Ordering::Relaxed), self.lanes.len());
        let lanes = (0..count).map(|offset| &self.lanes[(turn.wrapping_add(offset)) % count]);
        if let Some(lane) = lanes.into_iter().find(|lane| lane.waiting.load(Ordering::SeqCst) > 0) {
            lane.first.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn workers_are_woken_in_turn_and_those_where_nobody_waits_are_left_alone() {
        let entrance = Entrance::new(3);
        let firsts: Vec<Arc<Counting>> = (0..3).map(|_| Arc::default()).collect();
        let listen = || {
            for (worker, first) in firsts.iter().enumerate() {
                entrance.set_first(worker, &Waker::from(first.clone()));
            }
        };
        let woken = || firsts.iter().map(|first| first.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        listen();
        entrance.wake_one();
        assert_eq!(woken(), [0, 0, 0]);
        for worker in [0, 2] {
            assert!(entrance.waiting.try_take(10));
            entrance.count_waiting(worker, true);
        }
        for _ in 0..30 {
            entrance.wake_one();
            // Who was woken looks, finds nothing, and waits again.
            listen();
        }
        assert_eq!((woken().iter().sum::<usize>(), woken()[1]), (30, 0));
        assert!(woken()[0] >= 10 && woken()[2] >= 10, "{:?}", woken());
        entrance.count_waiting(0, false);
        let before = woken()[2];
        entrance.wake_one();
        assert_eq!(woken()[2], before + 1);
    }
}
