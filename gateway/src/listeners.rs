//! The set of open listeners: what a configuration wants, compared with what is open. The start and
//! every later change go the same way: first all that can fail, then one command per listener and worker.
//!
//! What stays open is the socket: a listener is found again by its name and address, or else by its
//! address alone, so that a new name or other settings refuse no connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use socket2::Socket;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{ListenerConfig, ListenerProtocol};
use crate::listener::tls::Certificates;
use crate::listener::{Bound, ListenerId, Speaks, bind, listen, local_address};
use crate::metrics::{ListenerCells, ListenerMetrics};
use crate::serve::Command;

/// The certificates in use, by listener.
pub type CertificateList = Arc<ArcSwap<Vec<(Arc<str>, Arc<Certificates>)>>>;

#[derive(Debug)]
pub struct Listeners {
    /// One per worker.
    workers: Vec<UnboundedSender<Command>>,
    metrics: Arc<ListenerMetrics>,
    certificates: CertificateList,
    /// In the order of the configuration.
    open: Vec<OpenListener>,
    /// The last number given; 0 is nobody's.
    last_id: u32,
}

#[derive(Debug)]
struct OpenListener {
    id: ListenerId,
    config: ListenerConfig,
    /// With the port that was free where the configuration says 0.
    address: SocketAddr,
    certificates: Option<Arc<Certificates>>,
}

/// A change that can be made: addresses are bound, certificates read.
#[derive(Debug)]
pub struct Plan(Vec<Planned>);

#[derive(Debug)]
struct Planned {
    config: ListenerConfig,
    address: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Keep(ListenerId),
    Change(ListenerId, Speaks),
    /// One socket per worker, which do not accept yet.
    Open(Speaks, Vec<Socket>),
}

impl Listeners {
    pub fn new(workers: Vec<UnboundedSender<Command>>, metrics: Arc<ListenerMetrics>) -> Self {
        Self { workers, metrics, certificates: CertificateList::default(), open: Vec::new(), last_id: 0 }
    }

    /// The certificates that are in use at any time.
    pub fn certificates(&self) -> CertificateList {
        self.certificates.clone()
    }

    /// Finds out what has to be done and tries all of it that can fail.
    ///
    /// # Errors
    /// Every listener that cannot be opened or set up, a line each. Nothing has changed.
    pub fn plan(&self, wanted: &[ListenerConfig]) -> anyhow::Result<Plan> {
        let (mut planned, mut failures) = (Vec::new(), Vec::new());
        for (config, known) in wanted.iter().zip(self.find_again(wanted)) {
            match self.plan_one(config, known) {
                Ok(one) => planned.push(one),
                Err(error) => failures
                    .push(format!("cannot open listener {} at {}: {error:#}", config.name, config.address)),
            }
        }
        anyhow::ensure!(failures.is_empty(), failures.join("\n"));
        Ok(Plan(planned))
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
            .map(|config| take(&|open| open.config.name == config.name && open.is_at(config.address)))
            .collect();
        for (config, found) in wanted.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            // Port 0 asks for any free port, not for somebody's.
            *found = take(&|open| config.address.port() != 0 && open.is_at(config.address));
        }
        found
    }

    fn plan_one(&self, config: &ListenerConfig, known: Option<&OpenListener>) -> anyhow::Result<Planned> {
        let config = config.clone();
        if let Some(open) = known {
            let (id, address) = (open.id, open.address);
            if open.config == config {
                let certificates = open.certificates.clone();
                return Ok(Planned { config, address, certificates, step: Step::Keep(id) });
            }
            let (speaks, certificates) = set_up(&config, address)?;
            return Ok(Planned { config, address, certificates, step: Step::Change(id, speaks) });
        }
        let sockets =
            bind(config.address, self.workers.len()).map_err(|error| self.explain(&config, error))?;
        let address = sockets.first().map_or(Ok(config.address), local_address)?;
        let (speaks, certificates) = set_up(&config, address)?;
        Ok(Planned { config, address, certificates, step: Step::Open(speaks, sockets) })
    }

    /// Who has the port, if it is ourselves: the socket to come cannot be bound before that one is closed,
    /// nor that one be closed before it is known that the other can be bound.
    fn explain(&self, config: &ListenerConfig, error: std::io::Error) -> anyhow::Error {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let holder = self.open.iter().find(|open| in_use && open.address.port() == config.address.port());
        let error = anyhow::Error::from(error);
        let Some(holder) = holder else { return error };
        let (name, address) = (&holder.config.name, holder.address);
        error.context(format!(
            "listener {name} holds {address}; take it out, reload, then add this one and reload again"
        ))
    }

    /// Makes the change. Listeners that go have `drain` for their connections to end.
    ///
    /// # Errors
    /// When another process has begun to listen at one of the addresses. Nothing has changed.
    pub fn commit(&mut self, plan: Plan, drain: Duration) -> anyhow::Result<()> {
        let Plan(planned) = plan;
        let mut open = Vec::with_capacity(planned.len());
        let mut commands = Vec::new();
        let mut next_id = self.last_id;
        for Planned { config, address, certificates, step } in planned {
            let id = match step {
                Step::Keep(id) => id,
                Step::Change(id, speaks) => {
                    commands.push(self.change(id, &speaks, &config));
                    id
                }
                Step::Open(speaks, sockets) => {
                    next_id += 1;
                    commands.push(self.open(ListenerId(next_id), &speaks, sockets, &config, address)?);
                    ListenerId(next_id)
                }
            };
            open.push(OpenListener { id, config, address, certificates });
        }
        // From here on nothing fails.
        self.last_id = next_id;
        let former = std::mem::replace(&mut self.open, open);
        report(&former, &self.open, drain);
        let gone = former.iter().filter(|old| self.open.iter().all(|new| new.id != old.id));
        commands.extend(
            gone.map(|old| self.workers.iter().map(|_| Command::Close { id: old.id, drain }).collect()),
        );
        commands.into_iter().for_each(|commands| self.tell(commands));
        let certificates = self.open.iter();
        let certificates =
            certificates.filter_map(|l| Some((l.config.name.clone(), l.certificates.clone()?)));
        self.certificates.store(Arc::new(certificates.collect()));
        Ok(())
    }

    fn change(&self, id: ListenerId, speaks: &Speaks, config: &ListenerConfig) -> Vec<Command> {
        let cells = self.metrics.cells(&config.name).into_iter();
        cells.map(|cells| Command::Change { id, speaks: speaks.clone(), cells }).collect()
    }

    fn open(
        &self,
        id: ListenerId,
        speaks: &Speaks,
        sockets: Vec<Socket>,
        config: &ListenerConfig,
        address: SocketAddr,
    ) -> anyhow::Result<Vec<Command>> {
        let open = |(socket, cells): (Socket, Arc<ListenerCells>)| {
            let cannot = || format!("cannot listen at {address} for listener {}", config.name);
            let socket = listen(socket).with_context(cannot)?;
            Ok(Command::Open(Bound { id, cells, socket, speaks: speaks.clone() }))
        };
        sockets.into_iter().zip(self.metrics.cells(&config.name)).map(open).collect()
    }

    /// One command per worker. One that has ended needs none.
    fn tell(&self, commands: Vec<Command>) {
        for (worker, command) in self.workers.iter().zip(commands) {
            let _ = worker.send(command);
        }
    }
}

impl OpenListener {
    /// Whether the configuration that gives `address` means this socket.
    fn is_at(&self, address: SocketAddr) -> bool {
        self.config.address == address || self.address == address
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

/// What is spoken at `address`, with the certificates for it.
fn set_up(
    config: &ListenerConfig,
    address: SocketAddr,
) -> anyhow::Result<(Speaks, Option<Arc<Certificates>>)> {
    let name = config.name.clone();
    Ok(match &config.protocol {
        ListenerProtocol::Tcp { app } => (Speaks::Tcp { name, app: app.clone() }, None),
        ListenerProtocol::Http { tls } => {
            let certificates = tls.as_ref().map(|tls| Certificates::load(&tls.certificates)).transpose()?;
            let tls = certificates.as_ref().map(Certificates::server_config).transpose()?;
            (Speaks::Http { name, tls, authority: address.to_string() }, certificates)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, address: &str) -> ListenerConfig {
        let protocol = ListenerProtocol::Http { tls: None };
        ListenerConfig { name: name.into(), address: address.parse().unwrap(), protocol }
    }

    /// Listeners numbered from 1, as `(name, configured address, actual address)`.
    fn listeners(open: &[(&str, &str, &str)]) -> Listeners {
        let mut listeners = Listeners::new(Vec::new(), Arc::new(ListenerMetrics::new(0)));
        let open = open.iter().zip(1..).map(|((name, configured, actual), id)| OpenListener {
            id: ListenerId(id),
            config: config(name, configured),
            address: actual.parse().unwrap(),
            certificates: None,
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
