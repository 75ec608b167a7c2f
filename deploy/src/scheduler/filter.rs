//! Why a host will not do.

use std::fmt;

use discovery::document::show_size;
use topology::AppId;

use super::{Seat, Wish, free_port};

/// The first thing that is in the way, in the order in which an operator would mend them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its runtime does not answer.
    Unreachable,
    /// An operator wants no new instances there.
    Cordoned,
    Label {
        name: String,
        wanted: String,
        has: Option<String>,
    },
    OnePerHost,
    /// An instance of that app is there.
    Apart(AppId),
    /// No instance of that app is there.
    NotNear(AppId),
    Memory {
        wanted: u64,
        free: u64,
    },
    /// In thousandths of a processor.
    Cpu {
        wanted: u32,
        free: u32,
    },
    /// Its range is used up.
    Port,
}

impl Refusal {
    /// The word for logs, metrics and the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Cordoned => "cordoned",
            Self::Label { .. } => "label",
            Self::OnePerHost => "one_per_host",
            Self::Apart(_) => "apart",
            Self::NotNear(_) => "not_near",
            Self::Memory { .. } => "memory",
            Self::Cpu { .. } => "cpu",
            Self::Port => "port",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => formatter.write_str("its runtime does not answer"),
            Self::Cordoned => formatter.write_str("is cordoned"),
            Self::Label { name, wanted, has: None } => write!(formatter, "has no label {name} = {wanted:?}"),
            Self::Label { name, wanted, has: Some(has) } => {
                write!(formatter, "has the label {name} = {has:?}, not {wanted:?}")
            }
            Self::OnePerHost => formatter.write_str("runs one already, and one_per_host is set"),
            Self::Apart(app) => write!(formatter, "runs {app}, which is to be apart"),
            Self::NotNear(app) => write!(formatter, "runs no {app}, which is to be near"),
            Self::Memory { wanted, free } => {
                write!(
                    formatter,
                    "has {} of memory free, {} are wanted",
                    show_size(*free),
                    show_size(*wanted)
                )
            }
            Self::Cpu { wanted, free } => {
                let [wanted, free] = [wanted, free].map(|millis| f64::from(*millis) / 1000.0);
                write!(formatter, "has {free} processors free, {wanted} are wanted")
            }
            Self::Port => formatter.write_str("has no free port in its range"),
        }
    }
}

pub(super) fn refusal(wish: &Wish<'_>, seat: &Seat) -> Option<Refusal> {
    if !seat.reachable {
        return Some(Refusal::Unreachable);
    }
    if seat.host.cordoned || seat.host.drained {
        return Some(Refusal::Cordoned);
    }
    by_label(wish, seat).or_else(|| by_company(wish, seat)).or_else(|| by_room(wish, seat))
}

fn by_label(wish: &Wish<'_>, seat: &Seat) -> Option<Refusal> {
    let missing =
        wish.placement.require.iter().find(|(name, wanted)| seat.host.labels.get(*name) != Some(wanted));
    missing.map(|(name, wanted)| Refusal::Label {
        name: name.clone(),
        wanted: wanted.clone(),
        has: seat.host.labels.get(name).cloned(),
    })
}

fn by_company(wish: &Wish<'_>, seat: &Seat) -> Option<Refusal> {
    let runs = |app: &AppId| seat.ledger.count(app) > 0;
    if wish.placement.one_per_host && runs(wish.app) {
        return Some(Refusal::OnePerHost);
    }
    let apart = wish.placement.apart.iter().chain(wish.shunned_by).find(|app| runs(app));
    if let Some(app) = apart {
        return Some(Refusal::Apart(app.clone()));
    }
    wish.placement.near.iter().find(|app| !runs(app)).map(|app| Refusal::NotNear(app.clone()))
}

fn by_room(wish: &Wish<'_>, seat: &Seat) -> Option<Refusal> {
    let (memory, cpu) = (seat.free_memory(), seat.free_cpu());
    if wish.resources.memory > memory {
        return Some(Refusal::Memory { wanted: wish.resources.memory, free: memory });
    }
    if wish.resources.cpu > cpu {
        return Some(Refusal::Cpu { wanted: wish.resources.cpu, free: cpu });
    }
    free_port(seat, 0).is_none().then_some(Refusal::Port)
}
