//! A worker's open tunnels: what is no longer HTTP, and what never was. They can be listed, and closed by
//! hand.
//!
//! The control plane never touches a tunnel. It sends an [`Order`], which the worker carries out between
//! two ticks: listing reads what was noted when a tunnel began, closing marks it and wakes its task, which ends itself
//! as it would for any other reason.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::oneshot;
use topology::{AppId, InstanceId};

use crate::table::PooledEndpoint;

/// What a tunnel carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Of a TCP listener.
    Tcp,
    Connect,
    /// The protocol that HTTP was left for, as the client named it.
    Upgrade(Arc<str>),
}

impl Kind {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tcp => "tcp",
            Self::Connect => "connect",
            Self::Upgrade(protocol) => protocol,
        }
    }
}

/// What is known of a tunnel from its beginning.
#[derive(Debug, Clone)]
pub struct Begun {
    pub kind: Kind,
    pub listener: Arc<str>,
    pub client: SocketAddr,
    pub endpoint: Arc<PooledEndpoint>,
}

/// A tunnel among all workers' tunnels, from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelId {
    pub worker: usize,
    pub number: u64,
}

impl TunnelId {
    /// As [`TunnelId`] is shown: `1-42`.
    pub fn parse(text: &str) -> Option<Self> {
        let (worker, number) = text.split_once('-')?;
        Some(Self { worker: worker.parse().ok()?, number: number.parse().ok()? })
    }
}

impl std::fmt::Display for TunnelId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.worker, self.number)
    }
}

/// Which tunnels are meant: all that fit everything that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub app: Option<AppId>,
    pub instance: Option<InstanceId>,
    pub id: Option<TunnelId>,
}

impl Wanted {
    fn fits(&self, id: TunnelId, begun: &Begun) -> bool {
        self.id.is_none_or(|wanted| wanted == id)
            && self.app.as_ref().is_none_or(|app| app == begun.endpoint.metrics.app())
            && self.instance.as_ref().is_none_or(|instance| *instance == begun.endpoint.key.instance)
    }
}

/// One of the tunnels that were asked for.
#[derive(Debug)]
pub struct Listed {
    pub id: TunnelId,
    pub begun: Begun,
    pub age: Duration,
}

/// What the control plane wants of a worker's tunnels. A worker that has ended drops the reply.
#[derive(Debug)]
pub enum Order {
    /// At most `most` of them, and how many there are.
    List { wanted: Wanted, most: usize, reply: oneshot::Sender<(usize, Vec<Listed>)> },
    /// How many were closed.
    Close { wanted: Wanted, reply: oneshot::Sender<usize> },
}

#[derive(Debug)]
struct Entry {
    number: u64,
    begun: Begun,
    at: Instant,
    waker: Waker,
    is_closing: Rc<Cell<bool>>,
}

#[derive(Debug)]
pub struct Tunnels {
    worker: usize,
    open: Rc<RefCell<Slab<Entry>>>,
    last: Cell<u64>,
}

/// A tunnel that is listed until this is dropped.
#[derive(Debug)]
pub struct OpenTunnel {
    open: Rc<RefCell<Slab<Entry>>>,
    key: usize,
    is_closing: Rc<Cell<bool>>,
}

impl Tunnels {
    pub fn new(worker: usize) -> Self {
        Self { worker, open: Rc::default(), last: Cell::new(0) }
    }

    /// A tunnel begins, carried by the task that awaits this.
    pub async fn begin(&self, begun: Begun) -> OpenTunnel {
        let number = self.last.get() + 1;
        self.last.set(number);
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let is_closing = Rc::new(Cell::new(false));
        let entry = Entry { number, begun, at: Instant::now(), waker, is_closing: is_closing.clone() };
        let key = self.open.borrow_mut().insert(entry);
        OpenTunnel { open: self.open.clone(), key, is_closing }
    }

    pub fn obey(&self, order: Order) {
        // Who no longer waits for the reply has it no more.
        match order {
            Order::List { wanted, most, reply } => drop(reply.send(self.list(&wanted, most))),
            Order::Close { wanted, reply } => drop(reply.send(self.close(&wanted))),
        }
    }

    fn list(&self, wanted: &Wanted, most: usize) -> (usize, Vec<Listed>) {
        let open = self.open.borrow();
        let fitting = || open.iter().map(|(_, entry)| entry).filter(|entry| self.is_wanted(wanted, entry));
        let show = |entry: &Entry| Listed {
            id: self.id(entry),
            begun: entry.begun.clone(),
            age: entry.at.elapsed(),
        };
        (fitting().count(), fitting().take(most).map(show).collect())
    }

    fn close(&self, wanted: &Wanted) -> usize {
        let open = self.open.borrow();
        let fitting = open.iter().map(|(_, entry)| entry).filter(|entry| self.is_wanted(wanted, entry));
        fitting.filter(|entry| !entry.is_closing.replace(true)).map(|entry| entry.waker.wake_by_ref()).count()
    }

    fn is_wanted(&self, wanted: &Wanted, entry: &Entry) -> bool {
        wanted.fits(self.id(entry), &entry.begun)
    }

    fn id(&self, entry: &Entry) -> TunnelId {
        TunnelId { worker: self.worker, number: entry.number }
    }
}

impl OpenTunnel {
    /// Whether an operator wants it closed.
    pub fn is_closing(&self) -> bool {
        self.is_closing.get()
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_is_shown() {
        let id = TunnelId { worker: 3, number: 42 };
        assert_eq!((id.to_string().as_str(), TunnelId::parse("3-42")), ("3-42", Some(id)));
        for text in ["", "3", "3-", "-42", "a-1", "3-42-1"] {
            assert_eq!(TunnelId::parse(text), None, "{text}");
        }
    }
}
