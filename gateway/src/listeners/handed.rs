//! Sockets on their way between processes: what is kept at hand for the next one, what is let go of when it
//! has them, and what is missing where the former one had fewer workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::{Listeners, OpenListener, Wanting};
use crate::listener::{Bound, BoundSocket, Transport, join, listen};
use crate::serve::Command;

/// What a process that takes over is given of one listener.
#[derive(Debug)]
pub struct Handed {
    pub name: Arc<str>,
    pub configured: SocketAddr,
    pub transport: Transport,
    pub sockets: Vec<Arc<Socket>>,
}

impl Listeners {
    /// What another process needs to go on with.
    pub fn handed(&self) -> Vec<Handed> {
        let handed = |open: &OpenListener| Handed {
            name: open.config.name.clone(),
            configured: open.config.address,
            transport: open.config.protocol.transport(),
            sockets: open.kept.clone(),
        };
        self.open.iter().map(handed).collect()
    }

    /// Connections and sessions of all listeners.
    pub fn open_connections(&self) -> u64 {
        let mut open = 0;
        self.metrics.for_each(|_, cells| {
            open +=
                cells.iter().map(|cells| cells.open.value() + cells.datagrams.sessions.value()).sum::<i64>();
        });
        u64::try_from(open).unwrap_or(0)
    }

    /// Closes what is kept at hand: only what workers hold is left.
    pub fn let_go(&mut self) {
        self.open.iter_mut().for_each(|open| open.kept.clear());
    }

    /// Ends the sessions of UDP listeners within `drain`: as long as they hold their sockets, no other process
    /// can open these addresses anew.
    pub fn close_datagrams(&self, drain: Duration) {
        for open in self.open.iter().filter(|open| open.config.protocol.transport() == Transport::Datagram) {
            self.tell(self.workers.iter().map(|_| Command::Close { id: open.id, drain }));
        }
    }

    /// Opens a socket for every worker that has none of its own. To be called when no other process reads
    /// the listeners' sockets any more: one more socket takes its share of the clients at once.
    pub fn complete(&mut self) {
        let (workers, metrics) = (&self.workers, &self.metrics);
        for open in &mut self.open {
            let Some(Wanting { workers: wanting, speaks, held }) = open.wanting.take() else { continue };
            let transport = open.config.protocol.transport();
            let cells = metrics.shares(&open.config.name);
            for worker in wanting {
                let socket = match join(open.address, transport).and_then(|socket| {
                    listen(&socket, transport)?;
                    Ok(socket)
                }) {
                    Ok(socket) => socket,
                    Err(error) => {
                        let (listener, address) = (&open.config.name, open.address);
                        tracing::info!(%listener, %address, %error, "some workers share a socket");
                        break;
                    }
                };
                if self.keeps_sockets
                    && let Ok(kept) = socket.try_clone()
                {
                    open.kept.push(Arc::new(kept));
                }
                let socket = BoundSocket::new(socket, &speaks);
                let (id, cells) = (open.id, cells[worker].clone());
                let bound = Bound { id, cells, held: held.clone(), socket, speaks: speaks.clone() };
                let _ = workers[worker].send(Command::Open(bound));
            }
        }
    }
}
