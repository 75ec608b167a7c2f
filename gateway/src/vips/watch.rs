//! What the kernel tells by itself: links and addresses that change, and others who claim our addresses.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use vip::driver::PlatformEvent;
use vip::net::{Changes, ConflictWatch, Interface, readable};

/// Claims are told this often at most: each makes the driver read the register, and anybody on the link can send as many
/// as he likes.
const CLAIMS_EVERY: Duration = Duration::from_millis(500);
/// Events that may wait for the driver.
pub const MAX_EVENTS: usize = 64;

/// Of claims at one go. Whoever floods the link wakes us again by doing so.
const READINGS: usize = 16;

/// Claims that were heard and not told yet.
struct Claims {
    waiting: BTreeSet<IpAddr>,
    /// The first one is told at once.
    told: Option<Instant>,
}

impl Claims {
    fn due(&self) -> Instant {
        self.told.map_or_else(Instant::now, |told| told + CLAIMS_EVERY)
    }
}

/// The sockets, open before anything is promised.
pub struct Watcher {
    interface: String,
    vips: Vec<IpAddr>,
    changes: Changes,
    conflicts: ConflictWatch,
    changed: Arc<AtomicBool>,
    events: mpsc::Sender<PlatformEvent>,
}

impl Watcher {
    /// `changed` is set whenever a link or an address has changed.
    ///
    /// # Errors
    /// The system's; a missing capability is named.
    pub fn open(
        interface: &str,
        vips: Vec<IpAddr>,
        changed: Arc<AtomicBool>,
        events: mpsc::Sender<PlatformEvent>,
    ) -> vip::net::Result<Self> {
        let found = Interface::find(interface)?;
        let conflicts = ConflictWatch::open(&found, &vips)?;
        let changes = Changes::watch()?;
        Ok(Self { interface: interface.to_owned(), vips, changes, conflicts, changed, events })
    }

    /// Until `cancel`. Tells of the carrier at once, and then of each change.
    pub async fn run(mut self, cancel: CancellationToken) {
        let watched = cancel.run_until_cancelled(self.watch()).await;
        if let Some(Err(error)) = watched {
            tracing::error!(%error, "links and claims of virtual IPs are not watched any more");
        }
    }

    async fn watch(&mut self) -> io::Result<()> {
        let changes = wakened(&self.changes)?;
        let [arp, neighbour] = self.conflicts.descriptors();
        let (mut arp, mut neighbour) = (wakened(&arp)?, wakened(&neighbour)?);
        let mut claims = Claims { waiting: BTreeSet::new(), told: None };
        let mut known = Interface::find(&self.interface).ok();
        self.tell(PlatformEvent::Carrier(known.as_ref().is_some_and(|interface| interface.carrier))).await;
        loop {
            // What comes between this and the reading wakes us again.
            tokio::select! {
                ready = changes.readable() => {
                    ready?.clear_ready();
                    let found = self.look();
                    // One that was removed and made again has other sockets.
                    let is_other = match (&found, &known) {
                        (Some(found), Some(known)) => (found.index, found.mac) != (known.index, known.mac),
                        (Some(_), None) => true,
                        (None, _) => false,
                    };
                    if is_other && let Some(found) = &found {
                        self.conflicts = ConflictWatch::open(found, &self.vips).map_err(io::Error::other)?;
                        let [of_arp, of_neighbour] = self.conflicts.descriptors();
                        (arp, neighbour) = (wakened(&of_arp)?, wakened(&of_neighbour)?);
                    }
                    let carrier = found.as_ref().is_some_and(|interface| interface.carrier);
                    if carrier != known.as_ref().is_some_and(|interface| interface.carrier) {
                        tracing::info!(interface = self.interface, carrier, "carrier of the virtual IPs' interface");
                        self.tell(PlatformEvent::Carrier(carrier)).await;
                    }
                    // Its sockets stay as they are until there is another one.
                    known = match (found, known) {
                        (Some(found), _) => Some(found),
                        (None, known) => known.map(|known| Interface { carrier: false, ..known }),
                    };
                }
                ready = arp.readable() => {
                    ready?.clear_ready();
                    self.read_claims(&mut claims);
                }
                ready = neighbour.readable() => {
                    ready?.clear_ready();
                    self.read_claims(&mut claims);
                }
                () = sleep_until(claims.due().into()), if !claims.waiting.is_empty() => {
                    claims.told = Some(Instant::now());
                    for ip in std::mem::take(&mut claims.waiting) {
                        self.tell(PlatformEvent::Contested(ip)).await;
                    }
                }
            }
        }
    }

    fn look(&mut self) -> Option<Interface> {
        // That messages were lost is a change too.
        let _ = self.changes.take();
        self.changed.store(true, Ordering::Relaxed);
        Interface::find(&self.interface).ok()
    }

    fn read_claims(&mut self, claims: &mut Claims) {
        for _ in 0..READINGS {
            let found = self.conflicts.take();
            if found.is_empty() {
                return;
            }
            claims.waiting.extend(found.iter().map(|claim| claim.ip));
        }
    }

    async fn tell(&self, event: PlatformEvent) {
        // A driver that has ended needs none.
        let _ = self.events.send(event).await;
    }
}

/// A descriptor of its own, of the same socket: the runtime's registration outlives nobody's.
fn wakened(of: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    readable(of.as_fd().try_clone_to_owned()?)
}
