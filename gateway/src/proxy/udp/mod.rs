//! A UDP listener. Clients have no connections, so each client address that is heard has a session: a
//! socket of its own to one endpoint, until neither side has said anything for a while. SO_REUSEPORT
//! keeps a client on one worker.
//!
//! Replies leave from the listener's socket. Bound to a wildcard address on a host with several, the
//! kernel chooses the source address by the route to the client, which may not be the one that it asked.

mod session;
mod sessions;

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sessions::Sessions;
use tokio::net::UdpSocket;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::listener::UdpListenerContext;
use crate::metrics::ListenerCells;
use crate::worker::Worker;

/// Datagrams that are passed on before other tasks of the worker have their turn: a tenth of a
/// millisecond's work.
const BATCH: usize = 32;
/// Sessions are looked through this often, so one ends at most this much late.
const SWEEP: Duration = Duration::from_secs(1);
/// Once the gateway stops: what was asked before is answered within it.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// What sessions need of whoever holds the listener.
pub trait Place {
    /// Its settings, for sessions to come, and where they are counted.
    fn current(&self) -> Option<(Rc<UdpListenerContext>, Arc<ListenerCells>)>;
    fn worker(&self) -> &Rc<Worker>;
    /// Cancelled: no session begins any more.
    fn stop(&self) -> &CancellationToken;
    /// What is left is being cut.
    fn is_aborting(&self) -> bool;
    /// Whether the worker has as many connections and sessions as it may have.
    fn is_full(&self) -> bool;
    fn count(&self, change: isize);
}

/// Serves a listener's datagrams until it is closed or the worker stops: then no session begins any more,
/// and those that are open end as soon as they are silent. Where another process goes on with the socket,
/// their clients' next datagrams begin sessions there.
pub async fn serve<P: Place>(socket: UdpSocket, place: Rc<P>) {
    let worker = place.worker().clone();
    let mut stop = pin!(place.stop().cancelled());
    let mut abort = pin!(worker.shared.abort.cancelled());
    let mut sessions = Sessions::new(Rc::new(socket), place.clone());
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = &mut abort => break,
            () = &mut stop, if !sessions.is_closing => {
                sessions.is_closing = true;
            }
            _ = sweep.tick() => {
                if place.is_aborting() {
                    break;
                }
                sessions.sweep(if sessions.is_closing { LAST_ANSWER } else { Duration::MAX });
            }
            // After a hand-over the next process reads them; here sessions only end, with what endpoints
            // still answer.
            ready = sessions.readable(), if !(sessions.is_closing && worker.has_handed_over()) => {
                if let Err(error) = ready {
                    tracing::error!(%error, "cannot wait for datagrams");
                    break;
                }
                if receive(&mut sessions) {
                    yield_now().await;
                }
            }
        }
        if sessions.is_closing && sessions.is_empty() {
            break;
        }
    }
    sessions.end_all();
}

/// Passes on what is there; whether there may be more.
fn receive<P: Place>(sessions: &mut Sessions<P>) -> bool {
    for _ in 0..BATCH {
        match sessions.pass_on() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // Of one datagram, such as a checksum that is wrong.
            Err(_) => {}
        }
    }
    true
}
