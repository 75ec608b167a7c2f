//! What is left to a process whose listening sockets another one has: its connections' time.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::channel::Channel;
use super::give::{Giver, Offer, Request, Successor, Taken};
use super::message::{Message, PROTOCOL, PassedDrainer, PassedListener, Welcome};
use crate::access_log::LogWriter;
use crate::app::Gateway;
use crate::config::RegistryConfig;
use crate::listeners::{Handed, Listeners};
use crate::serve::Command;
use crate::shutdown::{Remains, join_all};
use crate::vips::Ending;

/// How often the newer process hears how much is left.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a draining process is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// The log's files were rotated.
    ReopenLog,
    /// Take no more time than a process that stops; once more: none at all.
    Hurry,
}

impl Gateway {
    /// Attends to newer processes until one of them serves or has failed. For ever where no hand-over is
    /// configured.
    pub async fn next_successor(&mut self) -> Successor {
        loop {
            let request = match &mut self.handover {
                Some(giver) => giver.next().await,
                None => None,
            };
            match request {
                Some(Request::Offer(reply)) => {
                    if let Some(offer) = self.offer() {
                        // Whoever asked has gone, and will say so.
                        let _ = reply.send(offer);
                    }
                    self.is_handing_over = true;
                }
                Some(Request::Ended(successor)) => {
                    self.is_handing_over = false;
                    return successor;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn offer(&self) -> Option<Offer> {
        let giver = self.handover.as_ref()?;
        let mut sockets: Vec<Arc<dyn AsFd + Send + Sync>> = Vec::new();
        let mut listeners = Vec::new();
        for Handed { name, configured, transport, sockets: of_listener } in self.listeners.handed() {
            let (name, transport) = (name.to_string(), transport.into());
            listeners.push(PassedListener { name, configured, transport, sockets: of_listener.len() });
            sockets.extend(of_listener.into_iter().map(|socket| socket as Arc<dyn AsFd + Send + Sync>));
        }
        let configured = self.config.admin.as_ref().and_then(|admin| admin.address);
        let admin = self.admin_socket.clone().zip(configured).map(|(socket, configured)| {
            sockets.push(socket);
            configured
        });
        sockets.push(giver.listener());
        let mut draining = Vec::new();
        for drainer in self.lineage.draining() {
            let Ok(shared) = drainer.channel.share() else { continue };
            sockets.push(Arc::new(shared));
            draining.push(PassedDrainer { pid: drainer.pid, generation: drainer.generation });
        }
        let manager = &self.manager;
        let welcome = Welcome {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.lineage.pid,
            generation: self.lineage.generation,
            failed: self.lineage.failed(),
            registry: self.registry_directory(),
            notify: manager.socket().map(str::to_owned),
            watchdog_micros: manager.watchdog().map(|period| period.as_micros() as u64),
            listeners,
            admin,
            draining,
        };
        Some(Offer { welcome, sockets })
    }

    fn registry_directory(&self) -> Option<String> {
        let RegistryConfig::Embedded { path } = &self.config.registry else { return None };
        std::fs::canonicalize(path).ok().map(|path| path.display().to_string())
    }

    /// Stops accepting and ends when what is open has ended, or has had its time: after a hand-over
    /// `handover_drain_timeout`, since nobody waits for it. Returns whether everything ended by itself.
    pub async fn drain_after(self, taken: Taken, mut nudges: impl AsyncFnMut() -> Nudge) -> bool {
        let Self { serving, shared, workers, log, control, tasks, config, mut listeners, vips, dns, .. } =
            self;
        let (drain, hurried) = (config.gateway.handover_drain_timeout, config.gateway.drain_timeout);
        let pid = taken.pid.as_raw_nonzero();
        tracing::info!(pid, ?drain, "handed over: draining");
        if self.reload_waits {
            // Asked of us, too late for us and perhaps too late for the newer one's start.
            let _ = kill_process(taken.pid, Signal::HUP);
        }
        // The newer process answers for the service now.
        self.admin_stop.cancel();
        self.observing.cancel();
        self.handover.into_iter().for_each(Giver::leave);
        drop(self.admin_socket);
        // The newer process answers at the same addresses.
        if let Some(dns) = dns {
            dns.stop().await;
        }
        serving.drain(Instant::now());
        // Before the first word of the drain: the newer process waits for it, since one name is one holder.
        if let Some(vips) = vips {
            vips.stop(Ending::HandedOver).await;
        }

        // Nothing new; but what is idle stays, since a request may be on its way to it.
        shared.handed_over.store(true, Ordering::Relaxed);
        shared.draining.store(true, Ordering::Relaxed);
        listeners.let_go();
        listeners.close_datagrams(hurried);
        shared.stop_accepting.cancel();

        let mut joined = join_all(workers);
        let until = tokio::time::sleep(drain);
        tokio::pin!(until);
        let mut is_hurried = false;
        let drained = loop {
            tokio::select! {
                _ = &mut joined => break true,
                () = &mut until => break false,
                () = converse(&taken.channel, &listeners, log.as_ref()) => {}
                nudge = nudges() => match nudge {
                    Nudge::ReopenLog => log.iter().for_each(LogWriter::reopen),
                    Nudge::Hurry if is_hurried => break false,
                    Nudge::Hurry => {
                        is_hurried = true;
                        tracing::info!(drain = ?hurried, "stopping; a second signal ends at once");
                        until.as_mut().reset(tokio::time::Instant::now() + hurried);
                        shared.handed_over.store(false, Ordering::Relaxed);
                        listeners.workers().iter().for_each(|worker| drop(worker.send(Command::Wake)));
                    }
                },
            }
        };
        Remains { shared, control, tasks, log, dns: None }.end(drained, joined).await;
        drained
    }
}

/// Tells the newer process how much is left, and hears of rotations, for one interval.
async fn converse(channel: &Channel, listeners: &Listeners, log: Option<&LogWriter>) {
    let told = channel.try_send(&Message::Draining { connections: listeners.open_connections() });
    let hearing = async {
        while told.is_ok() {
            match channel.receive().await {
                Ok(Message::ReopenLog) => {
                    tracing::info!("log files are opened anew, as the newer process does");
                    log.into_iter().for_each(LogWriter::reopen);
                }
                Ok(_) => {}
                // Whoever took over has gone too; what is open is served all the same.
                Err(_) => break,
            }
        }
        std::future::pending::<()>().await;
    };
    // What was half heard is lost with the interval's end; a message comes whole, so it is not.
    let _ = tokio::time::timeout(REPORT_INTERVAL, hearing).await;
}
