//! Connections (RFC 7766): many questions, one after the other.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Clerk;
use crate::dns::answer::{Asked, Reply, Transport, answer};
use crate::dns::cells::DnsCells;
use crate::dns::publish::unix_seconds;
use crate::dns::transfer::Transfer;

/// Of all addresses together. A connection costs its task and its socket, some 10 KiB.
const MAX_CONNECTIONS: usize = 512;
/// Of one address: a resolver needs one or two.
const MAX_PER_CLIENT: usize = 32;
/// Until the next question begins. RFC 7766 section 6.2.3: of the order of seconds.
const IDLE: Duration = Duration::from_secs(10);
/// From a question's first byte to its last: it comes in one segment.
const QUESTION: Duration = Duration::from_secs(3);
/// For one message to be taken.
const TAKING: Duration = Duration::from_secs(10);
/// A question with a signature and options; what is longer is none.
const QUESTION_BYTES: usize = 4096;
/// Questions of one connection. Who has more begins another one.
const MAX_QUESTIONS: usize = 10_000;
/// Transfers at a time. Each may hold messages of 16 KiB, and a whole zone's time.
const MAX_TRANSFERS: usize = 8;
/// A listener that cannot accept, for want of files, is not asked in a circle.
const PAUSE: Duration = Duration::from_millis(100);

/// All that are open.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<Open>,
    transfers: tokio::sync::Semaphore,
    cells: Arc<DnsCells>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: HashMap<u64, Standing>,
}

#[derive(Debug)]
struct Standing {
    peer: IpAddr,
    /// Since when it says nothing; `None`: it is being answered, or is in the middle of a question.
    idle_since: Option<Instant>,
    end: CancellationToken,
}

/// One of them.
struct Place {
    number: u64,
    all: Arc<Connections>,
    end: CancellationToken,
}

impl Connections {
    pub fn new(cells: Arc<DnsCells>) -> Self {
        let transfers = tokio::sync::Semaphore::new(MAX_TRANSFERS);
        Self { open: Mutex::default(), transfers, cells }
    }

    /// Room for one more of `peer`, if need be of whoever is idle for longest. `None`: there is none.
    fn admit(self: &Arc<Self>, peer: IpAddr, cancel: &CancellationToken) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.by_number.values().filter(|standing| standing.peer == peer).count();
        if of_peer >= MAX_PER_CLIENT {
            return None;
        }
        if open.by_number.len() >= MAX_CONNECTIONS {
            let idle =
                open.by_number.iter().filter_map(|(number, standing)| Some((standing.idle_since?, *number)));
            let (_, oldest) = idle.min()?;
            open.by_number.remove(&oldest)?.end.cancel();
            self.cells.evicted.add();
        }
        let (number, end) = (open.next, cancel.child_token());
        open.next += 1;
        open.by_number.insert(number, Standing { peer, idle_since: Some(Instant::now()), end: end.clone() });
        self.cells.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { number, all: self.clone(), end })
    }
}

impl Place {
    fn set_idle(&self, is_idle: bool) {
        let mut open = self.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = open.by_number.get_mut(&self.number) {
            standing.idle_since = is_idle.then(Instant::now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&self.number);
        self.all.cells.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn serve(
    listener: TcpListener,
    clerk: &Clerk,
    connections: &Arc<Connections>,
    cancel: &CancellationToken,
) {
    loop {
        let (stream, peer) = match cancel.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept connections for names");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = connections.admit(peer.ip().to_canonical(), cancel) else {
            clerk.desk.cells.refused_connections.add();
            continue;
        };
        clerk.desk.cells.connections_total.add();
        let clerk = clerk.clone();
        tokio::spawn(async move {
            let end = place.end.clone();
            // Who is too slow, or goes, has had his answer.
            let _ = end.run_until_cancelled(converse(stream, peer.ip(), &clerk, &place)).await;
        });
    }
}

async fn converse(mut stream: TcpStream, peer: IpAddr, clerk: &Clerk, place: &Place) -> io::Result<()> {
    let mut question = Vec::new();
    for _ in 0..MAX_QUESTIONS {
        place.set_idle(true);
        let first = timeout(IDLE, stream.read_u8()).await??;
        place.set_idle(false);
        timeout(QUESTION, read_question(&mut stream, first, &mut question)).await??;
        let Some(published) = clerk.desk.published() else { break };
        let asked = Asked { message: &question, peer, transport: Transport::Tcp, now: unix_seconds() };
        match answer(&published.zone, &clerk.access, &asked) {
            Reply::Message(answer) => {
                clerk.desk.cells.query(Transport::Tcp, answer.code, answer.kind);
                send(&mut stream, &answer.bytes).await?;
            }
            Reply::Transfer(transfer) => {
                drop(published);
                let result = send_zone(&mut stream, *transfer, place, peer).await;
                let cells = &clerk.desk.cells;
                let count = if result.is_ok() { &cells.transfers_done } else { &cells.transfers_failed };
                count.add();
                result?;
            }
            // Who speaks no DNS by datagram is ignored; by connection he is told by its end.
            Reply::Silence(_) => break,
        }
    }
    Ok(())
}

async fn read_question(stream: &mut TcpStream, first: u8, question: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(u16::from_be_bytes([first, stream.read_u8().await?]));
    if length > QUESTION_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    question.resize(length, 0);
    stream.read_exact(question).await?;
    Ok(())
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    // In one piece: RFC 7766 section 8.
    let framed = [&length.to_be_bytes(), message].concat();
    timeout(TAKING, stream.write_all(&framed)).await?
}

async fn send_zone(
    stream: &mut TcpStream,
    mut transfer: Transfer,
    place: &Place,
    peer: IpAddr,
) -> io::Result<()> {
    // Beyond that who asks waits for as long as he likes, and for no longer than his connection.
    let waiting = timeout(IDLE, place.all.transfers.acquire());
    let _permit = waiting.await?.map_err(io::Error::other)?;
    let mut messages = 0_usize;
    while let Some(message) = transfer.next_message(unix_seconds()) {
        send(stream, &message).await?;
        messages += 1;
        // Whoever asks for a name meanwhile is answered in between.
        tokio::task::yield_now().await;
    }
    tracing::info!(%peer, serial = transfer.serial(), messages, "zone transferred");
    Ok(())
}
