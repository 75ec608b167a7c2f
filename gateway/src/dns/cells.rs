//! What is counted of names. The thread of DNS writes, scrapes read.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::op::ResponseCode;

use super::answer::{QueryKind, Transport};

/// Codes that we answer with; words of the metric's label.
pub const CODES: [(ResponseCode, &str); 8] = [
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::NotImp, "NOTIMP"),
    (ResponseCode::NotAuth, "NOTAUTH"),
    (ResponseCode::BADVERS, "BADVERS"),
    (ResponseCode::ServFail, "SERVFAIL"),
];
const KINDS: usize = QueryKind::ALL.len();

/// A counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct DnsCells {
    queries: [[[Count; KINDS]; CODES.len()]; 2],
    pub short: Count,
    pub responses: Count,
    /// The network was not ready to take an answer.
    pub unsent: Count,
    pub truncated: Count,
    pub limited_drop: Count,
    pub limited_slip: Count,
    pub connections: AtomicI64,
    pub connections_total: Count,
    /// Idle ones that made room.
    pub evicted: Count,
    pub refused_connections: Count,
    pub transfers_done: Count,
    pub transfers_failed: Count,
    pub notifies_answered: Count,
    pub notifies_failed: Count,
    updates: Mutex<Vec<Arc<UpdateCells>>>,
}

/// Of one server that takes updates.
#[derive(Debug, Default)]
pub struct UpdateCells {
    pub server: String,
    pub zone: String,
    pub created: Count,
    pub replaced: Count,
    pub removed: Count,
    pub failed: Count,
    /// Names that somebody else has there, by the last look.
    pub conflicts: AtomicU64,
    /// Names of ours there, by the last look.
    pub owned: AtomicU64,
    /// Whether this gateway is the one that writes.
    pub leads: AtomicU64,
    /// When all was as it should, in seconds since 1970; 0: never.
    pub in_step_at: AtomicU64,
    /// What went wrong last; `None`: nothing since.
    pub last_error: Mutex<Option<String>>,
    /// Some of the conflicts, with what is in the way.
    pub in_the_way: Mutex<Vec<(String, &'static str)>>,
}

impl DnsCells {
    pub fn query(&self, transport: Transport, code: ResponseCode, kind: QueryKind) {
        let code = CODES.iter().position(|(known, _)| *known == code).unwrap_or(CODES.len() - 1);
        let kind = QueryKind::ALL.iter().position(|known| *known == kind).unwrap_or(KINDS - 1);
        self.queries[transport as usize][code][kind].add();
    }

    /// Those that there were: transport, code, type, how many.
    pub fn queries(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        let transports = self.queries.iter().zip(["udp", "tcp"]);
        transports.flat_map(|(codes, transport)| {
            codes.iter().zip(CODES).flat_map(move |(kinds, (_, code))| {
                let counted = kinds.iter().zip(QueryKind::ALL);
                counted
                    .map(move |(count, kind)| (transport, code, kind.as_str(), count.value()))
                    .filter(|(.., count)| *count > 0)
            })
        })
    }

    /// Those of before stay what they are where the same server takes the same zone.
    pub fn updates_of(&self, server: &str, zone: &str) -> Arc<UpdateCells> {
        let mut all = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().find(|cells| cells.server == server && cells.zone == zone);
        if let Some(known) = known {
            return known.clone();
        }
        let (server, zone) = (server.to_owned(), zone.to_owned());
        let cells = Arc::new(UpdateCells { server, zone, ..UpdateCells::default() });
        all.push(cells.clone());
        cells
    }

    pub fn updates(&self) -> Vec<Arc<UpdateCells>> {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that are configured no more are forgotten.
    pub fn keep_updates(&self, wanted: &[(String, String)]) {
        let mut all = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|cells| {
            wanted.iter().any(|(server, zone)| cells.server == *server && cells.zone == *zone)
        });
    }
}

/// One address that names lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressState {
    pub ip: IpAddr,
    pub is_good: bool,
    /// What it is judged by: `vip`, `probe` or `none`.
    pub by: &'static str,
}
