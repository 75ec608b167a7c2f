//! A worker: one thread, one runtime, its own sockets, pools and counters. Nothing here is shared with
//! another worker but what [`Shared`] names, and nothing of that is ever locked.

mod admission;
mod buffers;
mod clients;
mod deadlines;
mod detention;
mod ending;
mod http2_upstreams;
mod overload;
mod penalties;
mod pipes;
pub mod request_ids;
mod retries;
mod rotations;
mod sessions;
mod suspicion;
mod tiers;
pub mod tunnels;
mod upstreams;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub use admission::{
    Admitted, EndpointStream, Entry, Full, Places, Queues, Slot, SlotQueue, Waiter, Wanted, nobody, take_slot,
};
use arc_swap::ArcSwap;
pub use buffers::{Buffer, Buffers};
pub use clients::{ClientKey, Clients, Counted, TooMany};
pub use deadlines::{Deadline, Deadlines, Limit, TICK, Ticks};
use detention::Detention;
pub use ending::Ending;
use healthcheck::Relief;
use http2_upstreams::Http2Upstreams;
pub use http2_upstreams::{Driven, Found, Lease};
use ipnet::IpNet;
pub use overload::{IDLE_TICKS, Load, Overload, STALLED_TICKS, Shedding, Step};
pub use penalties::Penalties;
pub use pipes::{Pipe, Pipes};
use request_ids::RequestIds;
pub use retries::RetryBudget;
pub use rotations::NoOther;
use rotations::Rotations;
pub use suspicion::{Suspicion, suspicions};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tunnels::Tunnels;
use upstreams::UpstreamPool;

use crate::access_log::WorkerLog;
use crate::filter::RateLimits;
use crate::filter::compression::Room;
use crate::listener::proxy_protocol::Trust;
use crate::metrics::{ServiceMetrics, WorkerMetrics};
use crate::statistics::WorkerStatistics;
use crate::table::RoutingTable;
use crate::trace::WorkerTracing;

/// What all workers read.
#[derive(Debug)]
pub struct Shared {
    pub table: ArcSwap<RoutingTable>,
    /// How many workers there are.
    pub workers: usize,
    /// Whether the gateway has said where it is.
    pub is_zoned: bool,
    /// Our name in Via.
    pub pseudonym: String,
    /// Whose word on the client's address is believed; asked when a connection begins.
    pub trusted_proxies: ArcSwap<Vec<IpNet>>,
    /// Of the gateway as a whole.
    pub rate_limits: Option<RateLimits>,
    /// Requests that no app can be named for.
    pub unrouted: Arc<ServiceMetrics>,
    /// Connections by client address.
    pub clients: Arc<Clients>,
    /// Addresses that flooded.
    pub penalties: Penalties,
    /// From when on all workers count ticks.
    pub began: Instant,
    /// What one address may have where nothing else is said.
    pub max_connections_per_client: u32,
    /// Bytes of buffers that each worker may lend before it gives things up.
    pub buffer_budget: AtomicUsize,
    /// Cancelled: accept no more.
    pub stop_accepting: CancellationToken,
    /// Set with it: finish what is under way, keep nothing alive.
    pub draining: AtomicBool,
    /// Set before them where another process goes on with the listening sockets: what has begun may take
    /// its time, and datagrams are read by the other.
    pub handed_over: AtomicBool,
    /// Cancelled: close what is left.
    pub abort: CancellationToken,
    /// Endpoints that failed too often in a row.
    pub suspicions: mpsc::Sender<Suspicion>,
    /// Where there are sockets to be had when there are no others; set once, before there are workers.
    pub relief: OnceLock<Relief>,
}

impl Shared {
    pub fn trust(&self, peer: std::net::IpAddr) -> Trust {
        match () {
            () if self.trusted_proxies.load().is_empty() => Trust::Nobody,
            () if self.is_trusted(peer) => Trust::Peer,
            () => Trust::Others,
        }
    }

    pub fn is_trusted(&self, peer: std::net::IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.load().iter().any(|net| net.contains(&peer))
    }
}

/// A table, held by one thread: requests count their hold on it without touching the count that all
/// workers share.
#[derive(Debug)]
pub struct TableHandle(Arc<RoutingTable>);

impl std::ops::Deref for TableHandle {
    type Target = RoutingTable;

    fn deref(&self) -> &RoutingTable {
        &self.0
    }
}

/// Whoever is told of requests that are over.
#[derive(Debug)]
pub struct Observers {
    pub log: WorkerLog,
    pub statistics: WorkerStatistics,
    /// `None`: nothing is traced.
    pub tracing: Option<Box<WorkerTracing>>,
}

impl Observers {
    /// Once per tick, the `now`th.
    pub fn tick(worker: &Worker, now: u32) {
        worker.log.flush();
        worker.statistics.tick(now);
        if let Some(tracing) = &worker.tracing {
            tracing.tick();
        }
    }
}

#[derive(Debug)]
pub struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    pub deadlines: Rc<Deadlines>,
    pub buffers: Buffers,
    pub pipes: Pipes,
    pub upstreams: UpstreamPool,
    pub http2_upstreams: Http2Upstreams,
    pub rotations: Rotations,
    pub queues: Queues,
    pub slots: SlotQueue,
    pub request_ids: RequestIds,
    pub detention: Detention,
    pub tunnels: Tunnels,
    pub metrics: Arc<WorkerMetrics>,
    pub log: WorkerLog,
    /// What encoders of responses may hold.
    pub encoders: Room,
    /// Copies of requests on their way.
    pub mirrored: Rc<Cell<u32>>,
    pub statistics: WorkerStatistics,
    /// `None`: nothing is traced.
    pub tracing: Option<Box<WorkerTracing>>,
    /// The table last seen, behind a count that only this thread touches.
    table: RefCell<Rc<TableHandle>>,
    connections: Cell<usize>,
    shedding: Cell<Shedding>,
    /// What is left is being cut.
    aborting: Cell<bool>,
}

impl Worker {
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        metrics: Arc<WorkerMetrics>,
        observers: Observers,
        max_sockets: usize,
    ) -> Self {
        let deadlines = Rc::new(Deadlines::default());
        let Observers { log, statistics, tracing } = observers;
        Self {
            index,
            table: RefCell::new(Rc::new(TableHandle(shared.table.load_full()))),
            upstreams: UpstreamPool::new(deadlines.clone(), metrics.clone(), max_sockets),
            http2_upstreams: Http2Upstreams::new(deadlines.clone()),
            queues: Queues::default(),
            slots: SlotQueue::default(),
            rotations: Rotations::new(deadlines.clone(), request_ids::random() as usize % (1 << 16)),
            shared,
            deadlines,
            buffers: Buffers::default(),
            pipes: Pipes::default(),
            request_ids: RequestIds::default(),
            detention: Detention::default(),
            tunnels: Tunnels::new(index),
            metrics,
            log,
            encoders: Room::default(),
            mirrored: Rc::default(),
            statistics,
            tracing,
            connections: Cell::new(0),
            shedding: Cell::default(),
            aborting: Cell::new(false),
        }
    }

    /// The table in force.
    pub fn table(&self) -> Rc<TableHandle> {
        let current = self.shared.table.load();
        let mut last = self.table.borrow_mut();
        if !Arc::ptr_eq(&current, &last.0) {
            *last = Rc::new(TableHandle(Arc::clone(&current)));
        }
        last.clone()
    }

    /// Client connections that this worker has open.
    pub fn open_connections(&self) -> usize {
        self.connections.get()
    }

    pub fn count_connections(&self, change: isize) {
        self.connections.set(self.connections.get().saturating_add_signed(change));
    }

    /// Gives these things up from now on, and others no longer.
    pub fn shed(&self, shedding: Shedding) {
        if shedding != self.shedding.replace(shedding) {
            for (step, gauge) in Step::ALL.into_iter().zip(&self.metrics.shedding) {
                gauge.set(i64::from(shedding.has(step)));
            }
        }
    }

    /// Whether `step` is given up for now.
    pub fn sheds(&self, step: Step) -> bool {
        self.shedding.get().has(step)
    }

    /// As [`Self::sheds`], of something that is about to be given up if so; it is counted.
    pub fn gives_up(&self, step: Step) -> bool {
        let sheds = self.sheds(step);
        if sheds {
            self.metrics.shed[step as usize].increment();
        }
        sheds
    }

    /// Ends every wait: what is under way is answered or cut now, counted and logged.
    pub fn cut(&self) {
        self.aborting.set(true);
        self.deadlines.expire_all();
    }

    pub fn is_aborting(&self) -> bool {
        self.aborting.get()
    }

    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// See [`Shared::handed_over`].
    pub fn has_handed_over(&self) -> bool {
        self.shared.handed_over.load(Ordering::Relaxed)
    }
}
