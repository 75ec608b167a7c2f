//! The set of open listeners: what a configuration wants, compared with what is open. The start and
//! every later change go the same way: first all that can fail, then one command per listener and worker.
//!
//! What stays open is the socket: a listener is found again by its name and address, or else by its
//! address alone, so that a new name or other settings refuse no connection. Sockets that another process
//! passed to this one are found in the same way.

mod handed;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use socket2::Socket;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::config::{ListenerConfig, ListenerProtocol};
use crate::listener::inherited::{self, Inherited};
use crate::listener::tls::{Inside, ServerTls, TlsRegistry};
use crate::listener::{
    Bound, BoundSocket, Doorway, HttpSettings, ListenerId, Speaks, StreamRoutes, TcpSettings, UdpSettings,
    bind, listen, local_address,
};
use crate::metrics::ListenerMetrics;
use crate::serve::Command;

/// For workers to close the sockets of a listener that was removed: usually less than a millisecond. One
/// that does not come to it keeps the next change waiting no longer.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

pub use handed::Handed;

#[derive(Debug)]
pub struct Listeners {
    /// One per worker.
    workers: Vec<UnboundedSender<Command>>,
    metrics: Arc<ListenerMetrics>,
    tls: Arc<TlsRegistry>,
    /// In the order of the configuration.
    open: Vec<OpenListener>,
    /// The last number given; 0 is nobody's.
    last_id: u32,
    /// Whether sockets are kept at hand for another process.
    keeps_sockets: bool,
    doorways: Doorways,
}

/// The HTTP listeners that are open, for who explains requests.
pub type Doorways = Arc<ArcSwap<Vec<Doorway>>>;

#[derive(Debug)]
struct OpenListener {
    id: ListenerId,
    config: ListenerConfig,
    /// With the port that was free where the configuration says 0.
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    /// Ends when the last worker has closed its socket.
    held: watch::Receiver<()>,
    /// The workers' sockets, each once, where a hand-over is configured.
    kept: Vec<Arc<Socket>>,
    /// Of sockets that were inherited, where there were fewer than workers.
    wanting: Option<Wanting>,
}

/// Workers that have no socket of their own yet.
#[derive(Debug)]
struct Wanting {
    workers: Range<usize>,
    speaks: Speaks,
    held: watch::Sender<()>,
}

/// A change that can be made: addresses are bound, certificates read.
#[derive(Debug)]
pub struct Plan(Vec<Planned>);

#[derive(Debug)]
struct Planned {
    listener: OpenListener,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Keep,
    Change(Speaks),
    /// Sockets by worker, usually one for each, which we do not accept on yet.
    Open {
        speaks: Speaks,
        sockets: Vec<(usize, Socket)>,
        held: watch::Sender<()>,
    },
}

impl Listeners {
    pub fn new(
        workers: Vec<UnboundedSender<Command>>,
        metrics: Arc<ListenerMetrics>,
        tls: Arc<TlsRegistry>,
        keeps_sockets: bool,
    ) -> Self {
        Self {
            workers,
            metrics,
            tls,
            open: Vec::new(),
            last_id: 0,
            keeps_sockets,
            doorways: Doorways::default(),
        }
    }

    /// Those for HTTP, as they are at any time.
    pub fn doorways(&self) -> Doorways {
        self.doorways.clone()
    }

    /// How workers are spoken to.
    pub fn workers(&self) -> &[UnboundedSender<Command>] {
        &self.workers
    }

    /// Finds out what has to be done and tries all of it that can fail, with sockets that are open already for some of `wanted`.
    ///
    /// # Errors
    /// Every listener that cannot be opened or set up, a line each. Nothing has changed.
    pub fn plan_with(
        &self,
        wanted: &[ListenerConfig],
        passed: Vec<Option<Inherited>>,
    ) -> anyhow::Result<Plan> {
        let (planned, failures) = self.try_plan(wanted, passed);
        let failures: Vec<_> = failures.into_iter().map(|(_, why)| why).collect();
        anyhow::ensure!(failures.is_empty(), failures.join("\n"));
        Ok(Plan(planned))
    }

    /// As [`Self::plan_with`], with `others` beside `wanted`: what cannot be opened of those is left out. Returns what, by
    /// its place, and why.
    ///
    /// # Errors
    /// As [`Self::plan_with`], of `wanted`.
    pub fn plan_beside(
        &self,
        wanted: &[ListenerConfig],
        others: Vec<ListenerConfig>,
    ) -> anyhow::Result<(Plan, Vec<(usize, String)>)> {
        let all: Vec<_> = wanted.iter().cloned().chain(others).collect();
        let (planned, failures) = self.try_plan(&all, all.iter().map(|_| None).collect());
        let (fatal, left_out): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|(at, _)| *at < wanted.len());
        let fatal: Vec<_> = fatal.into_iter().map(|(_, why)| why).collect();
        anyhow::ensure!(fatal.is_empty(), fatal.join("\n"));
        let left_out = left_out.into_iter().map(|(at, why)| (at - wanted.len(), why)).collect();
        Ok((Plan(planned), left_out))
    }

    /// What can be opened, and what not, by its place among `wanted`, and why.
    fn try_plan(
        &self,
        wanted: &[ListenerConfig],
        passed: Vec<Option<Inherited>>,
    ) -> (Vec<Planned>, Vec<(usize, String)>) {
        let (mut planned, mut failures) = (Vec::new(), Vec::new());
        let known = self.find_again(wanted).into_iter().zip(passed);
        for ((at, (config, (known, passed))), id) in
            wanted.iter().zip(known).enumerate().zip(self.last_id + 1..)
        {
            match self.plan_one(config, known, passed, ListenerId(id)) {
                Ok(one) => planned.push(one),
                Err(error) => {
                    let why =
                        format!("cannot open listener {} at {}: {error:#}", config.name, config.address);
                    failures.push((at, why));
                }
            }
        }
        (planned, failures)
    }

    /// For each wanted listener the open one whose socket it takes on. A name that stays at its address
    /// comes before a name that takes over another's.
    fn find_again(&self, wanted: &[ListenerConfig]) -> Vec<Option<&OpenListener>> {
        let mut free: Vec<_> = self.open.iter().collect();
        let mut take = |fits: &dyn Fn(&OpenListener) -> bool| {
            free.iter().position(|open| fits(open)).map(|at| free.swap_remove(at))
        };
        let mut found: Vec<_> = wanted
            .iter()
            .map(|config| take(&|open| open.config.name == config.name && open.is_at(config)))
            .collect();
        for (config, found) in wanted.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            // Port 0 asks for any free port, not for somebody's.
            *found = take(&|open| config.address.port() != 0 && open.is_at(config));
        }
        found
    }

    /// `id` is for a listener that is not `known`.
    fn plan_one(
        &self,
        config: &ListenerConfig,
        known: Option<&OpenListener>,
        passed: Option<Inherited>,
        id: ListenerId,
    ) -> anyhow::Result<Planned> {
        let config = config.clone();
        if let Some(open) = known {
            let (id, address, held, kept) = (open.id, open.address, open.held.clone(), open.kept.clone());
            let (tls, step) = if open.config == config {
                (open.tls.clone(), Step::Keep)
            } else {
                let (speaks, tls) = self.set_up(&config, address)?;
                (tls, Step::Change(speaks))
            };
            let wanting = None;
            return Ok(Planned {
                listener: OpenListener { id, config, address, tls, held, kept, wanting },
                step,
            });
        }
        let (count, transport) = (self.workers.len(), config.protocol.transport());
        let sockets = match passed {
            Some(passed) => passed.sockets,
            None => bind(config.address, count, transport, config.presence)
                .map_err(|error| self.explain(&config, error))?,
        };
        let address = sockets.first().map_or(Ok(config.address), local_address)?;
        let kept = self.keep(&sockets)?;
        let inherited::Spread { sockets, wanting } = inherited::spread(sockets, count, transport)?;
        let (speaks, tls) = self.set_up(&config, address)?;
        let (holds, held) = watch::channel(());
        let wanting = (wanting < count).then(|| Wanting {
            workers: wanting..count,
            speaks: speaks.clone(),
            held: holds.clone(),
        });
        let step = Step::Open { speaks, sockets, held: holds };
        Ok(Planned { listener: OpenListener { id, config, address, tls, held, kept, wanting }, step })
    }

    fn keep(&self, sockets: &[Socket]) -> io::Result<Vec<Arc<Socket>>> {
        let kept = sockets.iter().take_while(|_| self.keeps_sockets);
        kept.map(|socket| socket.try_clone().map(Arc::new)).collect()
    }

    /// What is spoken at `address`, and with what certificates.
    fn set_up(
        &self,
        config: &ListenerConfig,
        address: SocketAddr,
    ) -> anyhow::Result<(Speaks, Option<Arc<ServerTls>>)> {
        let (name, proxy_protocol) = (config.name.clone(), config.proxy_protocol);
        let limits = config.limits.clone();
        let inside = match &config.protocol {
            ListenerProtocol::Http { http2: true, .. } => Inside::Http2OrHttp1,
            ListenerProtocol::Http { .. } => Inside::Http1,
            ListenerProtocol::Tcp(_) | ListenerProtocol::Udp(_) => Inside::Bytes,
        };
        let tls = config.protocol.tls().map(|tls| self.tls.prepare(tls, inside)).transpose()?;
        let speaks = match &config.protocol {
            ListenerProtocol::Http { http2, https, .. } => Speaks::Http(HttpSettings {
                name,
                tls: tls.clone(),
                http2: *http2,
                address,
                authority: address.to_string(),
                https: https.into(),
                proxy_protocol,
                limits,
            }),
            ListenerProtocol::Tcp(tcp) => {
                let routes = StreamRoutes::new(tcp.app.clone(), &tcp.sni);
                let settings = TcpSettings { routes, tls: tls.clone(), idle_timeout: tcp.idle_timeout };
                Speaks::Tcp { name, settings: Arc::new(settings), proxy_protocol, limits }
            }
            ListenerProtocol::Udp(udp) => {
                let (app, idle_timeout, max_sessions) = (udp.app.clone(), udp.idle_timeout, udp.max_sessions);
                Speaks::Udp { name, settings: Arc::new(UdpSettings { app, idle_timeout, max_sessions }) }
            }
        };
        Ok((speaks, tls))
    }

    /// Who has the port, if it is ourselves: the socket to come cannot be bound before that one is closed,
    /// nor that one be closed before it is known that the other can be bound.
    fn explain(&self, config: &ListenerConfig, error: std::io::Error) -> anyhow::Error {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let holder = self.open.iter().find(|open| in_use && open.address.port() == config.address.port());
        let absent = error.kind() == std::io::ErrorKind::AddrNotAvailable;
        let error = anyhow::Error::from(error);
        if absent {
            return error.context(
                "this host does not have the address; freebind = true listens there nevertheless, \
                 for a virtual IP that may come later",
            );
        }
        let Some(holder) = holder else { return error };
        let (name, address) = (&holder.config.name, holder.address);
        error.context(format!(
            "listener {name} holds {address}; take it out, reload, then add this one and reload again"
        ))
    }

    /// Makes the change. Listeners that go have `drain` for their connections to end. Returns when their
    /// addresses are free.
    ///
    /// # Errors
    /// When another process has begun to listen at one of the addresses. Nothing has changed.
    pub async fn commit(&mut self, plan: Plan, drain: Duration) -> anyhow::Result<()> {
        plan.listen()?;
        // From here on nothing fails.
        let given = plan.0.iter().map(|planned| planned.listener.id.0).max();
        self.last_id = self.last_id.max(given.unwrap_or(0));
        let former = std::mem::take(&mut self.open);
        for Planned { listener, step } in plan.0 {
            self.carry_out(&listener, step);
            self.open.push(listener);
        }
        report(&former, &self.open, drain);
        self.doorways.store(Arc::new(self.open.iter().filter_map(OpenListener::doorway).collect()));
        let served = self.open.iter().filter_map(|open| Some((open.config.name.clone(), open.tls.clone()?)));
        self.tls.adopt(served.collect());
        let mut gone: Vec<_> =
            former.into_iter().filter(|old| self.open.iter().all(|new| new.id != old.id)).collect();
        for listener in &mut gone {
            // Or what comes between the workers' last look and this would wait for nobody.
            listener.kept.clear();
            listener.wanting = None;
            self.tell(self.workers.iter().map(|_| Command::Close { id: listener.id, drain }));
        }
        if tokio::time::timeout(CLOSE_WAIT, freed(gone)).await.is_err() {
            tracing::warn!("a worker has not closed its socket of a removed listener yet");
        }
        Ok(())
    }

    fn carry_out(&self, listener: &OpenListener, step: Step) {
        let id = listener.id;
        let cells = || self.metrics.shares(&listener.config.name).into_iter();
        match step {
            Step::Keep => {}
            Step::Change(speaks) => {
                self.tell(cells().map(|cells| Command::Change { id, speaks: speaks.clone(), cells }));
            }
            Step::Open { speaks, sockets, held } => {
                let cells: Vec<_> = cells().collect();
                for (worker, socket) in sockets {
                    let (speaks, held, cells) = (speaks.clone(), held.clone(), cells[worker].clone());
                    let socket = BoundSocket::new(socket, &speaks);
                    let _ =
                        self.workers[worker].send(Command::Open(Bound { id, cells, held, socket, speaks }));
                }
            }
        }
    }

    /// One command per worker. One that has ended needs none.
    fn tell(&self, commands: impl Iterator<Item = Command>) {
        for (worker, command) in self.workers.iter().zip(commands) {
            let _ = worker.send(command);
        }
    }
}

impl OpenListener {
    /// `None`: it speaks no HTTP.
    fn doorway(&self) -> Option<Doorway> {
        let ListenerProtocol::Http { https, .. } = &self.config.protocol else { return None };
        Some(Doorway {
            name: self.config.name.clone(),
            address: self.address,
            is_tls: self.tls.is_some(),
            https: https.into(),
            limits: self.config.limits.clone(),
        })
    }
}

impl Plan {
    fn listen(&self) -> anyhow::Result<()> {
        for Planned { listener: OpenListener { config, address, .. }, step } in &self.0 {
            let Step::Open { sockets, .. } = step else { continue };
            let cannot = || format!("cannot listen at {address} for listener {}", config.name);
            let transport = config.protocol.transport();
            sockets.iter().try_for_each(|(_, socket)| listen(socket, transport)).with_context(cannot)?;
        }
        Ok(())
    }
}

/// Returns when no socket of these is left.
async fn freed(listeners: Vec<OpenListener>) {
    for mut listener in listeners {
        // Nothing is ever sent: an error says that every worker has dropped its end.
        while listener.held.changed().await.is_ok() {}
    }
}

impl OpenListener {
    /// Whether the configuration that gives `address` means this socket.
    fn is_at(&self, config: &ListenerConfig) -> bool {
        self.config.protocol.transport() == config.protocol.transport()
            && (self.config.address == config.address || self.address == config.address)
    }
}

fn report(former: &[OpenListener], now: &[OpenListener], drain: Duration) {
    for OpenListener { id, config, address, .. } in now {
        match former.iter().find(|old| old.id == *id) {
            None => tracing::info!(listener = %config.name, %address, "listening"),
            Some(old) if old.config != *config => {
                tracing::info!(listener = %config.name, former = %old.config.name, %address, "listener changed");
            }
            Some(_) => {}
        }
    }
    for old in former.iter().filter(|old| now.iter().all(|new| new.id != old.id)) {
        tracing::info!(listener = %old.config.name, address = %old.address, ?drain, "listener closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HttpsConfig;

    fn config(name: &str, address: &str) -> ListenerConfig {
        let protocol = ListenerProtocol::Http { tls: None, http2: true, https: HttpsConfig::default() };
        let (proxy_protocol, limits) = Default::default();
        ListenerConfig {
            name: name.into(),
            address: address.parse().unwrap(),
            proxy_protocol,
            presence: crate::listener::Presence::Required,
            limits,
            protocol,
        }
    }

    /// Listeners numbered from 1, as `(name, configured address, actual address)`.
    fn listeners(open: &[(&str, &str, &str)]) -> Listeners {
        let mut listeners =
            Listeners::new(Vec::new(), Arc::new(ListenerMetrics::new(0)), Arc::default(), false);
        let open = open.iter().zip(1..).map(|((name, configured, actual), id)| OpenListener {
            id: ListenerId(id),
            config: config(name, configured),
            address: actual.parse().unwrap(),
            tls: None,
            held: watch::channel(()).1,
            kept: Vec::new(),
            wanting: None,
        });
        listeners.open = open.collect();
        listeners
    }

    fn found(listeners: &Listeners, wanted: &[(&str, &str)]) -> Vec<u32> {
        let wanted: Vec<_> = wanted.iter().map(|(name, address)| config(name, address)).collect();
        listeners.find_again(&wanted).into_iter().map(|open| open.map_or(0, |open| open.id.0)).collect()
    }

    #[test]
    fn a_socket_is_found_by_name_and_address_or_else_by_address() {
        const A: &str = "127.0.0.1:1001";
        const B: &str = "127.0.0.1:1002";
        let listeners = listeners(&[("a", A, A), ("b", B, B), ("any", "127.0.0.1:0", "127.0.0.1:1003")]);
        for (wanted, expected) in [
            (&[("a", A), ("b", B), ("any", "127.0.0.1:0")][..], &[1, 2, 3][..]),
            // Swapped, renamed, and a port that is now asked for by number.
            (&[("a", B), ("b", A)], &[2, 1]),
            (&[("c", A)], &[1]),
            (&[("any", "127.0.0.1:1003")], &[3]),
            (&[("c", "127.0.0.1:1003")], &[3]),
            // Port 0 is any free port, and a socket has one listener.
            (&[("c", "127.0.0.1:0")], &[0]),
            (&[("c", A), ("a", A)], &[0, 1]),
            (&[("a", "127.0.0.1:1009")], &[0]),
        ] {
            assert_eq!(found(&listeners, wanted), expected, "{wanted:?}");
        }
    }
}
