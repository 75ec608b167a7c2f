//! The older process's part: it gives, and goes on until the newer one serves.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use discovery::embedded::Embedded;
use rustix::process::Pid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, ChannelError};
use super::lineage::Lineage;
use super::message::{MAX_FDS, Message, PROTOCOL, Status, Wants, Welcome};
use super::{HELLO_TIMEOUT, STEP_TIMEOUT, socket};
use crate::supervise::ServiceManager;

/// Connections at a time: one hand-over, and some that ask who serves.
const MAX_PEERS: usize = 8;
/// Before the registry is opened again: the newer process may take a moment to end, and holds it until then.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
/// After an accept that failed, for want of descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What a newer process gets: the sockets are in the order in which the welcome names them.
pub struct Offer {
    pub welcome: Welcome,
    pub sockets: Vec<Arc<dyn AsFd + Send + Sync>>,
}

/// A newer process serves.
#[derive(Debug)]
pub struct Taken {
    pub pid: Pid,
    pub(super) channel: Channel,
}

/// What became of a hand-over.
#[derive(Debug)]
pub enum Successor {
    Serves(Taken),
    Failed,
}

/// What the task asks of whoever has the gateway.
pub(super) enum Request {
    Offer(oneshot::Sender<Offer>),
    Ended(Successor),
}

/// The hand-over socket of a process, and its name in the file system.
#[derive(Debug)]
pub struct HandoverSocket {
    listener: Arc<StdListener>,
    path: PathBuf,
    /// Whether the name goes with us.
    is_ours: bool,
}

impl HandoverSocket {
    /// # Errors
    /// See [`socket::open`].
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let listener = Arc::new(socket::open(path)?);
        Ok(Self { listener, path: path.to_owned(), is_ours: true })
    }

    /// The one that a former process opened at `path`. Its name stays the other's until [`Self::own`].
    pub fn adopt(path: &Path, descriptor: OwnedFd) -> anyhow::Result<Self> {
        let listener = StdListener::from(descriptor);
        listener.set_nonblocking(true).context("cannot go on with the hand-over socket")?;
        Ok(Self { listener: Arc::new(listener), path: path.to_owned(), is_ours: false })
    }

    pub fn own(&mut self) {
        self.is_ours = true;
    }
}

impl Drop for HandoverSocket {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the hand-over socket");
        }
    }
}

/// What all connections need.
struct Desk {
    lineage: Arc<Lineage>,
    manager: ServiceManager,
    embedded: Option<Arc<Embedded>>,
    requests: UnboundedSender<Request>,
    /// Set while a hand-over goes on, and for good by one that succeeds.
    is_busy: AtomicBool,
    peers: AtomicUsize,
    cancel: CancellationToken,
}

/// Waits for newer processes.
pub struct Giver {
    socket: HandoverSocket,
    requests: UnboundedReceiver<Request>,
    cancel: CancellationToken,
}

impl Giver {
    /// # Errors
    /// When the runtime does not take the socket.
    pub fn start(
        socket: HandoverSocket,
        lineage: Arc<Lineage>,
        manager: ServiceManager,
        embedded: Option<Arc<Embedded>>,
    ) -> anyhow::Result<Self> {
        let listener = socket.listener.try_clone().and_then(UnixListener::from_std);
        let listener = listener.context("cannot serve the hand-over socket")?;
        let (asking, requests) = unbounded_channel();
        let cancel = CancellationToken::new();
        let desk = Desk {
            lineage,
            manager,
            embedded,
            requests: asking,
            is_busy: AtomicBool::new(false),
            peers: AtomicUsize::new(0),
            cancel: cancel.clone(),
        };
        tokio::spawn(accept(listener, Arc::new(desk)));
        Ok(Self { socket, requests, cancel })
    }

    pub fn listener(&self) -> Arc<StdListener> {
        self.socket.listener.clone()
    }

    pub(super) async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }

    /// Nothing more is given; a hand-over that goes on is refused.
    pub fn stop(self) {
        self.cancel.cancel();
    }

    /// As [`Self::stop`]; the socket is another process's now.
    pub(super) fn leave(mut self) {
        self.socket.is_ours = false;
        self.cancel.cancel();
    }
}

async fn accept(listener: UnixListener, desk: Arc<Desk>) {
    while let Some(accepted) = desk.cancel.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the hand-over socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if desk.peers.fetch_add(1, Ordering::Relaxed) < MAX_PEERS {
            tokio::spawn(attend(stream, desk.clone()));
        } else {
            desk.peers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn attend(stream: UnixStream, desk: Arc<Desk>) {
    match socket::check_peer(&stream) {
        Ok(peer) => desk.serve(Channel::new(stream), peer).await,
        Err(error) => tracing::warn!("hand-over socket: refused: {error:#}"),
    }
    desk.peers.fetch_sub(1, Ordering::Relaxed);
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("nothing was heard for {0:?}")]
    Late(Duration),
    #[error("it said {0}, out of turn")]
    OutOfTurn(&'static str),
    #[error("it speaks hand-over protocol {0}, and we speak {PROTOCOL}")]
    Protocol(u32),
    #[error("it gave up: {0}")]
    GaveUp(String),
    #[error("this process is stopping")]
    Stopping,
    #[error("another hand-over is under way")]
    Busy,
    #[error("cannot close the registry: {0}")]
    Registry(#[from] discovery::registry::RegistryError),
}

async fn step<T>(limit: Duration, work: impl Future<Output = Result<T, ChannelError>>) -> Result<T, Failure> {
    Ok(timeout(limit, work).await.map_err(|_| Failure::Late(limit))??)
}

impl Desk {
    async fn serve(&self, channel: Channel, peer: Pid) {
        let pid = peer.as_raw_nonzero();
        let hello = step(HELLO_TIMEOUT, channel.receive());
        match self.cancel.run_until_cancelled(hello).await {
            Some(Ok(Message::Hello { wants: Wants::Status, .. })) => {
                // Whoever asked may not wait for the answer.
                let _ = step(HELLO_TIMEOUT, channel.send(&Message::Status(self.status()))).await;
            }
            Some(Ok(Message::Hello { wants: Wants::Takeover, protocol, version })) => {
                tracing::info!(pid, %version, "another process wants to take over");
                self.hand_over(channel, peer, protocol).await;
            }
            Some(Ok(other)) => {
                tracing::warn!(pid, "hand-over socket: said {} and no hello", other.name());
            }
            Some(Err(failure)) => tracing::warn!(pid, "hand-over socket: {failure}"),
            None => {}
        }
    }

    fn status(&self) -> Status {
        let Lineage { pid, generation, .. } = *self.lineage;
        Status { pid, generation, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    async fn hand_over(&self, channel: Channel, peer: Pid, protocol: u32) {
        if self.is_busy.swap(true, Ordering::Relaxed) {
            refuse(&channel, &Failure::Busy).await;
            return;
        }
        let giving = self.give(&channel, peer, protocol);
        let given = self.cancel.run_until_cancelled(giving).await.unwrap_or(Err(Failure::Stopping));
        match given {
            Ok(()) => {
                let taken = Taken { pid: peer, channel };
                let _ = self.requests.send(Request::Ended(Successor::Serves(taken)));
            }
            Err(failure) => {
                refuse(&channel, &failure).await;
                // So that it notices, if it lives, before the registry is wanted back.
                drop(channel);
                let pid = peer.as_raw_nonzero();
                tracing::error!(pid, "the hand-over failed, this process goes on: {failure}");
                self.lineage.record_failure(failure.to_string());
                self.reclaim().await;
                self.is_busy.store(false, Ordering::Relaxed);
                let _ = self.requests.send(Request::Ended(Successor::Failed));
            }
        }
    }

    /// Until the newer process serves.
    async fn give(&self, channel: &Channel, peer: Pid, protocol: u32) -> Result<(), Failure> {
        if protocol != PROTOCOL {
            return Err(Failure::Protocol(protocol));
        }
        let (reply, offer) = oneshot::channel();
        let _ = self.requests.send(Request::Offer(reply));
        let Offer { welcome, sockets } = offer.await.map_err(|_| Failure::Stopping)?;
        step(STEP_TIMEOUT, channel.send(&Message::Welcome(Box::new(welcome)))).await?;
        for some in sockets.chunks(MAX_FDS) {
            let descriptors: Vec<BorrowedFd<'_>> = some.iter().map(|socket| socket.as_fd()).collect();
            let message = Message::Sockets { count: descriptors.len() };
            step(STEP_TIMEOUT, channel.send_with(&message, &descriptors)).await?;
        }
        drop(sockets);
        loop {
            match step(STEP_TIMEOUT, channel.receive()).await? {
                Message::ReleaseRegistry => {
                    if let Some(registry) = &self.embedded {
                        registry.release().await?;
                    }
                    step(STEP_TIMEOUT, channel.send(&Message::RegistryReleased)).await?;
                }
                Message::Serving => return self.let_go(channel, peer).await,
                Message::Refused { why } => return Err(Failure::GaveUp(why)),
                other => return Err(Failure::OutOfTurn(other.name())),
            }
        }
    }

    /// The one moment at which the newer process becomes the one.
    async fn let_go(&self, channel: &Channel, peer: Pid) -> Result<(), Failure> {
        // First, so that the service manager listens to the newer process when that says that it is ready.
        self.manager.main_process(peer.as_raw_nonzero().get().unsigned_abs());
        let sent = step(STEP_TIMEOUT, channel.send(&Message::Yours)).await;
        if sent.is_err() {
            self.manager.main_process(self.lineage.pid);
        }
        sent
    }

    /// Has the registry open again, if it was closed, however long that takes.
    async fn reclaim(&self) {
        let Some(registry) = &self.embedded else { return };
        let mut is_told = false;
        while let Err(error) = registry.reopen().await {
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%error, "the registry is not open again yet");
            }
            if self.cancel.run_until_cancelled(tokio::time::sleep(REOPEN_PAUSE)).await.is_none() {
                return;
            }
        }
    }
}

async fn refuse(channel: &Channel, failure: &Failure) {
    // One that has gone need not hear it.
    let why = failure.to_string();
    let _ = timeout(HELLO_TIMEOUT, channel.send(&Message::Refused { why })).await;
}
