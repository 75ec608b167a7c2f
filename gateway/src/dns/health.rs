//! Which addresses names lead to are good: a virtual IP that somebody holds, another one that accepts connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use vip::eligibility::Thresholds;

use super::cells::AddressState;
use super::zone::Down;
use crate::vips::VipDesk;

/// Between two looks at who holds what.
const LOOK: Duration = Duration::from_secs(1);
/// A virtual IP is nobody's for a moment in every failover; what resolvers keep for longer than that must not hear of it.
const OF_VIPS: Thresholds = Thresholds { rise: 1, fall: 5 };

/// How addresses that are no virtual IPs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePlan {
    pub port: u16,
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// The turn in which it went bad. `None`: good, as every address is to begin with.
    down: Option<u64>,
    /// Results in a row against that.
    against: u32,
}

/// What was seen of each address: results in, verdicts out.
#[derive(Debug, Default)]
pub struct Book {
    turn: u64,
    standings: BTreeMap<IpAddr, Standing>,
}

impl Book {
    /// Addresses that go bad in the same turn went at once.
    pub fn next_turn(&mut self) {
        self.turn += 1;
    }

    pub fn report(&mut self, ip: IpAddr, passed: bool, thresholds: Thresholds) {
        let standing = self.standings.entry(ip).or_default();
        if passed == standing.down.is_none() {
            standing.against = 0;
            return;
        }
        standing.against += 1;
        let needed = if passed { thresholds.rise } else { thresholds.fall };
        if standing.against >= needed {
            *standing = Standing { down: (!passed).then_some(self.turn), against: 0 };
            let state = if passed { "is good again" } else { "is left out of answers while others are good" };
            tracing::warn!(%ip, "an address that names lead to {state}");
        }
    }

    pub fn down(&self) -> Down {
        self.standings.iter().filter_map(|(ip, standing)| Some((*ip, standing.down?))).collect()
    }
}

/// Looks at addresses, and tells which are down.
pub struct Watcher {
    pub vips: Option<Arc<VipDesk>>,
    /// Those that there are in `[vip]`.
    pub virtual_ips: BTreeSet<IpAddr>,
    pub addresses: BTreeSet<IpAddr>,
    pub probe: Option<ProbePlan>,
    pub sender: watch::Sender<Arc<Down>>,
}

impl Watcher {
    /// By what each address is judged.
    pub fn states(&self, down: &Down) -> Vec<AddressState> {
        let by = |ip: &IpAddr| match (self.virtual_ips.contains(ip), self.probe) {
            (true, _) => "vip",
            (false, Some(_)) => "probe",
            (false, None) => "none",
        };
        let state = |ip: &IpAddr| AddressState { ip: *ip, is_good: !down.contains_key(ip), by: by(ip) };
        self.addresses.iter().map(state).collect()
    }

    pub async fn run(self, cancel: CancellationToken) {
        let mut book = Book::default();
        let mut turns = interval(LOOK);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe_at = Instant::now();
        while cancel.run_until_cancelled(turns.tick()).await.is_some() {
            book.next_turn();
            self.look_at_vips(&mut book).await;
            if let Some(probe) = self.probe.filter(|_| Instant::now() >= probe_at) {
                probe_at = Instant::now() + probe.interval;
                let looking = self.probe_all(probe);
                let Some(results) = cancel.run_until_cancelled(looking).await else { break };
                for (ip, passed) in results {
                    book.report(ip, passed, probe.thresholds);
                }
            }
            let down = book.down();
            self.sender.send_if_modified(|known| {
                let differs = **known != down;
                if differs {
                    *known = Arc::new(down);
                }
                differs
            });
        }
    }

    /// Nothing is learnt while there is no driver: what was, stays.
    async fn look_at_vips(&self, book: &mut Book) {
        let Some(desk) = &self.vips else { return };
        for status in desk.list().await.unwrap_or_default() {
            let is_held = status.holder.is_some() && !status.released;
            book.report(status.ip, is_held, OF_VIPS);
        }
    }

    async fn probe_all(&self, probe: ProbePlan) -> Vec<(IpAddr, bool)> {
        let mut attempts = JoinSet::new();
        for ip in self.addresses.difference(&self.virtual_ips).copied() {
            attempts.spawn(async move {
                let connecting = TcpStream::connect(SocketAddr::new(ip, probe.port));
                (ip, matches!(timeout(probe.timeout, connecting).await, Ok(Ok(_))))
            });
        }
        attempts.join_all().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_falls_after_some_failures_in_a_row_and_rises_again() {
        let mut book = Book::default();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let thresholds = Thresholds { rise: 2, fall: 3 };
        let mut told = Vec::new();
        for passed in [false, false, true, false, false, false, true, false, true, true] {
            book.next_turn();
            book.report(ip, passed, thresholds);
            told.push(book.down().get(&ip).copied());
        }
        let down = Some(6);
        assert_eq!(told, [None, None, None, None, None, down, down, down, down, None]);
    }
}
