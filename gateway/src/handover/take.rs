//! The newer process's part: what it is given, and how it says that it serves.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::timeout;

use super::channel::{Channel, ChannelError};
use super::give::HandoverSocket;
use super::lineage::{Drainer, Lineage};
use super::message::{Message, PROTOCOL, PassedDrainer, PassedListener, Wants, Welcome};
use super::{STEP_TIMEOUT, socket};
use crate::config::{AdminConfig, Config, ListenerConfig, RegistryConfig};
use crate::listener::inherited::{Inherited, assign, examine};
use crate::supervise::{ServiceManager, activation};

/// A process whose connection has ended is gone within it, or lives and has closed the connection.
const DEATH: Duration = Duration::from_secs(1);
/// The name of a socket unit for the admin listener.
const ADMIN: &str = "admin";

/// What a process is started with besides its configuration.
#[derive(Debug, Default)]
pub struct Inheritance {
    listeners: Vec<Inherited>,
    /// With the address that it was configured by.
    admin: Option<(SocketAddr, TcpListener)>,
    handover: Option<OwnedFd>,
    pub manager: ServiceManager,
    pub lineage: Lineage,
    draining: Vec<Drainer>,
    from: Option<Predecessor>,
}

/// The process that we take over from.
#[derive(Debug)]
struct Predecessor {
    channel: Arc<Channel>,
    pid: u32,
    generation: u64,
    registry: Option<String>,
    /// Readable when it has ended. `None`: it had ended at once.
    process: Option<Arc<OwnedFd>>,
    /// It died; there is nobody to ask any more.
    is_dead: bool,
}

impl Inheritance {
    /// What the service manager passed.
    ///
    /// # Errors
    /// When that cannot be used.
    pub fn activated(config: &Config) -> anyhow::Result<Self> {
        let (mut admin, mut sockets) = (None, Vec::new());
        for one in activation::take()? {
            match &config.admin {
                Some(AdminConfig { address: Some(address), tls, .. })
                    if one.address == *address || one.name == ADMIN =>
                {
                    let at = one.address;
                    ensure!(
                        at.ip().is_loopback() || tls.is_some(),
                        "the admin socket {at} of the service manager is no loopback address, and admin.tls is missing"
                    );
                    admin = Some((*address, one.socket.into()));
                }
                _ => sockets.push(one),
            }
        }
        let manager = ServiceManager::from_environment();
        Ok(Self { listeners: activation::into_listeners(sockets), admin, manager, ..Self::default() })
    }

    /// What the process gives that answers at `path`, which goes on serving until [`Self::serving`]. `None`
    /// when nobody is there, or died before it had given all.
    ///
    /// # Errors
    /// When it refuses, or cannot be understood.
    pub async fn from_process(path: &Path) -> anyhow::Result<Option<Self>> {
        let Some(stream) = socket::connect(path)? else { return Ok(None) };
        let stream = tokio::net::UnixStream::from_std(stream).context("cannot use the hand-over socket")?;
        let channel = Channel::new(stream);
        match receive_all(&channel).await {
            Ok((welcome, descriptors)) => Self::given(channel, welcome, descriptors).map(Some),
            // It may have died, and then nobody answers any more.
            Err(error) if is_end(&error) && socket::connect(path)?.is_none() => Ok(None),
            Err(error) => Err(error).context("the running process does not hand over"),
        }
    }

    fn given(channel: Channel, welcome: Welcome, descriptors: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let Welcome { version, pid, generation, failed, registry, notify, watchdog_micros, .. } = welcome;
        // By its own word: the kernel knows only who opened the socket, perhaps generations ago. One that is
        // gone by now is as good as one that dies at the next question.
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).map(Arc::new);
        tracing::info!(pid, generation, %version, sockets = descriptors.len(), "taking over");
        let mut descriptors = descriptors.into_iter();
        // `receive_all` has counted them.
        let mut next = || descriptors.next().context("a socket is missing");
        let listeners =
            welcome.listeners.into_iter().map(|one| inherit(one, &mut next)).collect::<Result<_, _>>()?;
        let admin = match welcome.admin {
            Some(configured) => Some((configured, examine(next()?)?.0.into())),
            None => None,
        };
        let handover = Some(next()?);
        let draining = welcome.draining.into_iter().map(|PassedDrainer { pid, generation }| {
            let channel = Arc::new(Channel::adopt(next()?).context("cannot watch a draining process")?);
            Ok(Drainer { pid, generation, connections: None, channel })
        });
        let draining = draining.collect::<anyhow::Result<_>>()?;
        let channel = Arc::new(channel);
        let from = Some(Predecessor { channel, pid, generation, registry, process, is_dead: false });
        let lineage = Lineage::new(generation.saturating_add(1), Some(pid), failed);
        let manager = ServiceManager::new(notify, watchdog_micros);
        Ok(Self { listeners, admin, handover, manager, lineage, draining, from })
    }

    /// Whether another process serves meanwhile.
    pub fn is_takeover(&self) -> bool {
        self.from.is_some()
    }

    /// What there is for each of these. What is for none of them is closed.
    ///
    /// # Errors
    /// When the service manager passed a socket that nobody wants: it would go on listening there.
    pub fn claim(&mut self, wanted: &[ListenerConfig]) -> anyhow::Result<Vec<Option<Inherited>>> {
        let (found, unwanted) = assign(wanted, std::mem::take(&mut self.listeners));
        for Inherited { name, address, .. } in &unwanted {
            if self.is_takeover() {
                tracing::info!(listener = %name, %address, "not continued: not in the configuration");
                continue;
            }
            bail!(
                "the service manager passed the socket {address} ({name:?}), and no listener has that address, or that name and port 0: clients would wait there for nobody"
            );
        }
        Ok(found)
    }

    /// The admin listener's socket, if it stays where it is.
    pub fn claim_admin(&mut self, config: Option<&AdminConfig>) -> Option<TcpListener> {
        let (configured, socket) = self.admin.take()?;
        let wanted = config?.address?;
        let is_there = configured == wanted || socket.local_addr().is_ok_and(|address| address == wanted);
        is_there.then_some(socket)
    }

    /// The hand-over socket at `path`, where the former process answered, or a new one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn claim_socket(&mut self, path: &Path) -> anyhow::Result<HandoverSocket> {
        match self.handover.take() {
            Some(descriptor) => HandoverSocket::adopt(path, descriptor),
            None => HandoverSocket::open(path),
        }
    }

    /// Has the former process close the registry that this one is to open.
    ///
    /// # Errors
    /// When it does not.
    pub async fn release_registry(&mut self, wanted: &RegistryConfig) -> anyhow::Result<()> {
        let (Some(from), RegistryConfig::Embedded { path }) = (&mut self.from, wanted) else { return Ok(()) };
        if !from.registry.as_deref().is_some_and(|theirs| is_same(Path::new(theirs), path)) {
            return Ok(());
        }
        from.ask(&Message::ReleaseRegistry, &Message::RegistryReleased)
            .await
            .context("the registry is not handed over")
    }

    /// Says that every worker accepts. When this returns the former process stops accepting, or is dead.
    ///
    /// # Errors
    /// When the former process goes on instead.
    pub async fn serving(&mut self) -> anyhow::Result<()> {
        match &mut self.from {
            Some(from) => from.ask(&Message::Serving, &Message::Yours).await,
            None => Ok(()),
        }
    }

    /// Every former process that still drains.
    pub fn drainers(&mut self) -> Vec<Drainer> {
        let from = self.from.take().filter(|from| !from.is_dead).map(|from| {
            let Predecessor { channel, pid, generation, .. } = from;
            Drainer { pid, generation, connections: None, channel }
        });
        std::mem::take(&mut self.draining).into_iter().chain(from).collect()
    }
}

impl Predecessor {
    /// A predecessor that dies instead of answering leaves everything to us.
    async fn ask(&mut self, question: &Message, answer: &Message) -> anyhow::Result<()> {
        if self.is_dead {
            return Ok(());
        }
        let asking = async {
            match self.channel.send(question).await {
                // What it said before it went is still there to be read: a refusal, perhaps.
                Ok(()) | Err(ChannelError::Closed) => self.channel.receive().await,
                Err(error) => Err(error),
            }
        };
        match timeout(STEP_TIMEOUT, asking).await.context("the running process does not answer")? {
            Ok(said) if said == *answer => Ok(()),
            Ok(Message::Refused { why }) => bail!("the running process refuses: {why}"),
            Ok(other) => bail!("the running process said {}, out of turn", other.name()),
            Err(ChannelError::Closed) if has_ended(self.process.clone()).await => {
                tracing::warn!(pid = self.pid, "the process that hands over has died; going on alone");
                self.is_dead = true;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// However the two are spelled.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

fn inherit(
    passed: PassedListener,
    next: &mut impl FnMut() -> anyhow::Result<OwnedFd>,
) -> anyhow::Result<Inherited> {
    let PassedListener { name, configured, transport, sockets } = passed;
    let mut address = configured;
    let mut examined = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let (socket, at, kind) =
            examine(next()?).with_context(|| format!("a socket of listener {name} cannot be used"))?;
        ensure!(kind == transport.into(), "a socket of listener {name} is of another kind");
        address = at;
        examined.push(socket);
    }
    let (name, transport) = (name.into(), transport.into());
    Ok(Inherited { name, configured, address, transport, sockets: examined })
}

async fn receive_all(channel: &Channel) -> anyhow::Result<(Welcome, Vec<OwnedFd>)> {
    let receiving = async {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        channel.send(&Message::Hello { protocol: PROTOCOL, version, wants: Wants::Takeover }).await?;
        let welcome = match channel.receive().await? {
            Message::Welcome(welcome) => *welcome,
            Message::Refused { why } => bail!("it refuses: {why}"),
            other => bail!("it said {}, out of turn", other.name()),
        };
        ensure!(
            welcome.protocol == PROTOCOL,
            "it speaks hand-over protocol {}, and we speak {PROTOCOL}",
            welcome.protocol
        );
        let count = welcome.sockets().map_err(ChannelError::from)?;
        let mut descriptors = Vec::with_capacity(count);
        while descriptors.len() < count {
            let (message, some) = channel.receive_with().await?;
            let Message::Sockets { count: announced } = message else {
                bail!("it said {}, out of turn", message.name());
            };
            if announced != some.len() || announced == 0 {
                return Err(ChannelError::Descriptors { announced, given: some.len() }.into());
            }
            descriptors.extend(some);
        }
        ensure!(descriptors.len() == count, "it gave {} sockets and announced {count}", descriptors.len());
        Ok((welcome, descriptors))
    };
    timeout(STEP_TIMEOUT, receiving).await.context("it does not answer")?
}

fn is_end(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ChannelError::Closed))
}

/// Whether the process is gone, or is within a moment. Also true of one whose parent has not looked yet.
async fn has_ended(process: Option<Arc<OwnedFd>>) -> bool {
    let Some(process) = process else { return true };
    let waited = tokio::task::spawn_blocking(move || {
        let limit = Timespec { tv_sec: DEATH.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))
    });
    matches!(waited.await, Ok(Ok(1)))
}
