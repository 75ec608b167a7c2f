//! What a machine is told and what it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::identity::{BootId, GatewayId};
use crate::lease::Entry;
use crate::moment::Moment;
use crate::register::Register;

/// Whether this gateway should hold the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// It serves.
    Hold,
    /// It does not serve, or drains: let go if a peer can take over, else stay.
    Yield,
    /// It ends: let go in any case.
    Leave,
}

/// What is known of the other gateways, for one address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Surroundings {
    /// Those that are asked for grants.
    pub peers: Arc<BTreeSet<GatewayId>>,
    /// One of them would take over.
    pub successor: bool,
    /// How many others come first when it is free.
    pub rank: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time has passed.
    Turn,
    /// The watch shows this. Nothing where the register was and is no more.
    Watched(Option<Entry>),
    /// [`Action::Read`] ended; `None`: it failed.
    Read {
        request: u64,
        found: Option<Option<Entry>>,
    },
    /// [`Action::Write`] ended.
    Written {
        request: u64,
        outcome: WriteOutcome,
    },
    /// A peer says that it holds, and asks for a grant.
    Heartbeat {
        from: GatewayId,
        boot: BootId,
        epoch: u64,
        seq: u64,
    },
    /// A peer has granted what `seq` of `boot` asked for.
    Granted {
        from: GatewayId,
        boot: BootId,
        epoch: u64,
        seq: u64,
    },
    /// A peer knows of this epoch and does not grant an older one.
    Refused {
        epoch: u64,
    },
    /// That run of a gateway is over, and its host answers for nothing any more.
    Ended {
        from: GatewayId,
        boot: BootId,
    },
    Wish(Wish),
    Surroundings(Surroundings),
    /// Let go, for that gateway or for whoever comes first.
    HandOver {
        successor: Option<GatewayId>,
        why: DropReason,
    },
    /// Another machine answers for the address.
    Contested,
    /// The platform could not do what [`Action::Hold`] asked for. The later actions of that turn have not been done.
    HoldFailed,
    /// The platform could not do what [`Action::Drop`] asked for; it may answer until its fence closes. The later
    /// actions of that turn have not been done.
    DropFailed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// It happened, and this is the version.
    Done(u64),
    /// The version was another one.
    Conflict,
    /// It has not happened and never will.
    NotDone,
    /// It may have happened, or may yet.
    Unknown,
}

/// In the order in which they are to be done. When one fails the rest of the turn is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answer for the address until then: later or earlier than asked before.
    Hold {
        until: Moment,
    },
    /// Stop answering.
    Drop {
        reason: DropReason,
    },
    /// Tell the neighbours again.
    Announce,
    Read {
        request: u64,
    },
    Write {
        request: u64,
        register: Register,
        expected: Option<u64>,
    },
    Heartbeat {
        to: GatewayId,
        epoch: u64,
        seq: u64,
    },
    Grant {
        to: GatewayId,
        boot: BootId,
        epoch: u64,
        seq: u64,
    },
    Refuse {
        to: GatewayId,
        boot: BootId,
        epoch: u64,
        seq: u64,
    },
}

/// Why a gateway stopped holding. Words of the metric's label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// A grantor or the registry did not answer in time.
    LeaseEnded,
    /// Nothing could be written for `hold_max`.
    HoldMax,
    /// The register names another holder.
    Superseded,
    /// The register was removed, or holds what cannot be read.
    RegisterGone,
    /// It does not serve, and a peer does.
    Ineligible,
    Drained,
    /// By command.
    Moved,
    /// For balance.
    Rebalanced,
    /// The process ends.
    Stopped,
    /// The kernel refused the address or the fence.
    Platform,
}

impl DropReason {
    pub const ALL: [Self; 10] = [
        Self::LeaseEnded,
        Self::HoldMax,
        Self::Superseded,
        Self::RegisterGone,
        Self::Ineligible,
        Self::Drained,
        Self::Moved,
        Self::Rebalanced,
        Self::Stopped,
        Self::Platform,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseEnded => "lease_ended",
            Self::HoldMax => "hold_max",
            Self::Superseded => "superseded",
            Self::RegisterGone => "register_gone",
            Self::Ineligible => "ineligible",
            Self::Drained => "drained",
            Self::Moved => "moved",
            Self::Rebalanced => "rebalanced",
            Self::Stopped => "stopped",
            Self::Platform => "platform",
        }
    }
}
