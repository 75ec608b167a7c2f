//! HTTP/2 connections to endpoints, each carrying many requests of this worker at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use foldhash::fast::FixedState;
use h2::client::SendRequest;
use tokio::sync::Notify;

use super::admission::Slot;
use super::deadlines::{Deadlines, Ticks};

/// Connections of one worker to one endpoint. With the usual 100 streams each that is more than any
/// endpoint serves at once.
const MAX_CONNECTIONS_PER_ENDPOINT: usize = 64;
/// Streams of one connection, whatever the endpoint allows: past this they only wait for each other.
const MAX_STREAMS: usize = 256;
/// For which a worker may use a connection that another one waits for, if it is never idle: each change costs a
/// handshake and, where there is only one connection for all, a pause of a tick.
const TURN_TICKS: u32 = 3;
/// For which it opens none in the place of one that it gave up: whoever waits looks every tick.
const ABSTAIN_TICKS: u32 = 2;
/// For the requests of one that is given up to end. Where they do not, it helps nobody to let it go: it is used again.
const LEAVE_TICKS: u32 = 10;

/// What a connection and its leases share.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Bytes>,
    streams: Cell<usize>,
    /// It takes no new requests: it ends, or its endpoint has said so.
    is_closing: Rc<Cell<bool>>,
    /// When its worker's turn with it began.
    turn_began: Cell<u32>,
    /// Since when it carries nothing.
    idle_since: Cell<u32>,
    /// For how long it may, as the last request wanted.
    kept: Cell<Ticks>,
    /// Of the connections that the app may have, where that is limited.
    slot: Option<Rc<Slot>>,
}

impl Link {
    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(MAX_STREAMS);
        !self.is_closing.get() && self.streams.get() < most
    }

    /// Whether it is another worker's turn.
    fn is_due(&self, now: u32) -> bool {
        let has_had_its_turn = self.streams.get() == 0 || now - self.turn_began.get() >= TURN_TICKS;
        has_had_its_turn && self.slot.as_ref().is_some_and(|slot| slot.is_wanted())
    }
}

/// A place for one request on a connection.
#[derive(Debug)]
pub struct Lease {
    link: Rc<Link>,
    deadlines: Rc<Deadlines>,
    /// Whether earlier requests have used the connection.
    pub is_reused: bool,
}

impl Lease {
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.link.sender.clone()
    }

    /// For how long the connection is kept when it carries nothing.
    pub fn keep_for(&self, kept: Ticks) {
        self.link.kept.set(kept);
    }

    /// Nobody else should try this connection.
    pub fn give_up(&self) {
        self.link.is_closing.set(true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.streams.set(self.link.streams.get() - 1);
        self.link.idle_since.set(self.deadlines.now());
    }
}

/// Held by the task that drives a connection; says that it has ended. It holds no sender: without one the
/// connection ends.
#[derive(Debug)]
pub struct Driven {
    is_closing: Rc<Cell<bool>>,
    /// Given back once the connection is closed and not before.
    _slot: Option<Rc<Slot>>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.is_closing.set(true);
    }
}

#[derive(Debug, Default)]
struct Links {
    open: Vec<Rc<Link>>,
    /// Somebody is connecting; others wait for that.
    opening: Option<Rc<Notify>>,
    /// Given up for another worker, and the tick at which it was.
    leaving: Option<(Weak<Link>, u32)>,
    /// None is opened before this tick, so that the other worker can.
    abstains_until: u32,
}

impl Links {
    fn yield_wanted(&mut self, now: u32) {
        if let Some((link, since)) = &self.leaving {
            let left = link.upgrade();
            if left.is_some() && now - since < LEAVE_TICKS {
                self.abstains_until = now + ABSTAIN_TICKS;
                return;
            }
            if let Some(link) = left {
                link.turn_began.set(now);
                self.open.push(link);
                self.abstains_until = now;
            }
            self.leaving = None;
        }
        if now < self.abstains_until {
            return;
        }
        let due = self.open.iter().enumerate().filter(|(_, link)| link.is_due(now));
        if let Some((at, _)) = due.min_by_key(|(_, link)| link.streams.get()) {
            self.leaving = Some((Rc::downgrade(&self.open.swap_remove(at)), now));
            self.abstains_until = now + ABSTAIN_TICKS;
        }
    }
}

/// What a request finds.
#[derive(Debug)]
pub enum Found {
    Place(Lease),
    /// Somebody else is connecting.
    Wait(Rc<Notify>),
    /// Open a connection, and say what came of it through this.
    Connect(Opening),
    /// All are full, and there may be no more of them for now.
    Full,
}

#[derive(Debug)]
pub struct Http2Upstreams {
    links: Rc<RefCell<HashMap<u64, Links, FixedState>>>,
    deadlines: Rc<Deadlines>,
}

impl Http2Upstreams {
    pub fn new(deadlines: Rc<Deadlines>) -> Self {
        Self { links: Rc::default(), deadlines }
    }

    /// A place on the fullest connection to `endpoint` that has room, so that the others can end.
    /// `most`: connections that this worker may have, where that is limited.
    pub fn find(&self, endpoint: u64, most: Option<usize>) -> Found {
        let mut all = self.links.borrow_mut();
        let links = all.entry(endpoint).or_default();
        links.open.retain(|link| !link.is_closing.get());
        let fullest = links.open.iter().filter(|link| link.has_room()).max_by_key(|link| link.streams.get());
        if let Some(link) = fullest {
            return Found::Place(self.lease(link, true));
        }
        if let Some(opening) = &links.opening {
            return Found::Wait(opening.clone());
        }
        let abstains = self.deadlines.now() < links.abstains_until;
        if abstains || most.is_some_and(|most| links.open.len() >= most) {
            return Found::Full;
        }
        let notify = Rc::new(Notify::new());
        links.opening = Some(notify.clone());
        Found::Connect(Opening { links: self.links.clone(), endpoint, notify })
    }

    /// Keeps a connection that `opening` led to; returns its first place, and what its driver holds.
    pub fn add(
        &self,
        opening: Opening,
        sender: SendRequest<Bytes>,
        slot: Option<Box<Slot>>,
    ) -> (Lease, Driven) {
        let (lease, driven) = self.private(sender, slot);
        let link = &lease.link;
        if let Some(links) = self.links.borrow_mut().get_mut(&opening.endpoint)
            && links.open.len() < MAX_CONNECTIONS_PER_ENDPOINT
        {
            links.open.push(link.clone());
        }
        drop(opening);
        (lease, driven)
    }

    /// A connection that only one request uses.
    pub fn private(&self, sender: SendRequest<Bytes>, slot: Option<Box<Slot>>) -> (Lease, Driven) {
        let slot = slot.map(|slot| Rc::new(*slot));
        let link = Rc::new(Link {
            sender,
            streams: Cell::new(0),
            is_closing: Rc::default(),
            turn_began: Cell::new(self.deadlines.now()),
            idle_since: Cell::new(self.deadlines.now()),
            kept: Cell::new(Ticks(0)),
            slot: slot.clone(),
        });
        (self.lease(&link, false), Driven { is_closing: link.is_closing.clone(), _slot: slot })
    }

    fn lease(&self, link: &Rc<Link>, is_reused: bool) -> Lease {
        link.streams.set(link.streams.get() + 1);
        Lease { link: link.clone(), deadlines: self.deadlines.clone(), is_reused }
    }

    /// Lets go of connections that have carried nothing for a while; without a sender they end.
    pub fn sweep(&self) {
        let now = self.deadlines.now();
        self.links.borrow_mut().retain(|_, links| {
            links.open.retain(|link| {
                let is_idle = link.streams.get() == 0 && now - link.idle_since.get() >= link.kept.get().0;
                !link.is_closing.get() && !is_idle
            });
            !links.open.is_empty()
                || links.opening.is_some()
                || links.leaving.is_some()
                || now < links.abstains_until
        });
    }

    /// Gives up one connection of each endpoint of which somebody waits for one: an idle one, or else one that has had
    /// its turn, which then ends with its last request. Once per tick.
    pub fn yield_wanted(&self) {
        let now = self.deadlines.now();
        self.links.borrow_mut().values_mut().for_each(|links| links.yield_wanted(now));
    }

    /// Gives every idle connection up.
    pub fn clear(&self) {
        for links in self.links.borrow_mut().values_mut() {
            links.open.retain(|link| link.streams.get() > 0);
        }
    }
}

/// The right to connect; whoever waits is told when it ends, one way or the other.
#[derive(Debug)]
pub struct Opening {
    links: Rc<RefCell<HashMap<u64, Links, FixedState>>>,
    endpoint: u64,
    notify: Rc<Notify>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(links) = self.links.borrow_mut().get_mut(&self.endpoint) {
            links.opening = None;
        }
        self.notify.notify_waiters();
    }
}
