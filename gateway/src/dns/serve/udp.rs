//! Datagrams.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Clerk;
use crate::dns::answer::{Asked, Ignored, Reply, Transport, answer};
use crate::dns::publish::unix_seconds;
use crate::dns::rate::{Limiter, Verdict};

/// A query is a name, a type and some options; what is longer is no query, and is cut and refused.
const QUERY_BYTES: usize = 2048;
/// Answered after the end: what the kernel may hold for us, about.
const LAST_QUERIES: usize = 1_000;
/// A socket that fails again and again is not asked in a circle.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

pub(super) async fn serve(socket: UdpSocket, clerk: &Clerk, cancel: &CancellationToken) {
    let mut limiter = clerk.limit.map(Limiter::new);
    let began = Instant::now();
    let mut buffer = [0; QUERY_BYTES];
    let mut last = LAST_QUERIES;
    loop {
        let received = match cancel.run_until_cancelled(socket.recv_from(&mut buffer)).await {
            Some(received) => received,
            // What has come here nobody else can answer.
            None if last == 0 => return,
            None => {
                last -= 1;
                socket.try_recv_from(&mut buffer)
            }
        };
        let (count, peer) = match received {
            Ok(received) => received,
            // Of an answer before: nobody was there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(_) if cancel.is_cancelled() => return,
            Err(error) => {
                tracing::warn!(%error, "cannot receive queries");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Nobody has port 0, and nobody may be made to answer himself.
        if peer.port() == 0 {
            continue;
        }
        if let Some(bytes) = reply(clerk, &buffer[..count], peer, limiter.as_mut(), began) {
            // Waiting for the network would let who fills it hold up all others.
            if socket.try_send_to(&bytes, peer).is_err() {
                clerk.desk.cells.unsent.add();
            }
        }
    }
}

fn reply(
    clerk: &Clerk,
    message: &[u8],
    peer: SocketAddr,
    limiter: Option<&mut Limiter>,
    began: Instant,
) -> Option<Vec<u8>> {
    let cells = &clerk.desk.cells;
    let published = clerk.desk.published()?;
    let asked = Asked { message, peer: peer.ip(), transport: Transport::Udp, now: unix_seconds() };
    let answer = match answer(&published.zone, &clerk.access, &asked) {
        Reply::Message(answer) => answer,
        Reply::Silence(Ignored::Short) => {
            cells.short.add();
            return None;
        }
        Reply::Silence(Ignored::Response) => {
            cells.responses.add();
            return None;
        }
        // Only connections are offered one.
        Reply::Transfer(_) => return None,
    };
    cells.query(Transport::Udp, answer.code, answer.kind);
    let is_exempt = || clerk.exempt.iter().any(|network| network.contains(&peer.ip().to_canonical()));
    let verdict = match limiter {
        Some(limiter) if !is_exempt() => limiter.judge(peer.ip(), &answer.likeness, began.elapsed()),
        _ => Verdict::Send,
    };
    match verdict {
        Verdict::Send => {
            if answer.is_truncated {
                cells.truncated.add();
            }
            Some(answer.bytes)
        }
        Verdict::Slip => {
            cells.limited_slip.add();
            answer.slipped()
        }
        Verdict::Drop => {
            cells.limited_drop.add();
            None
        }
    }
}
