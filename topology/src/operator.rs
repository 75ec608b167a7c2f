//! What operators say of single endpoints, beside what their registrars say.

/// Whether an endpoint may be given anything to do, by an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdminState {
    /// As its health and weight have it.
    #[default]
    Ready,
    /// Nothing new; what it has under way ends in its own time, and its health goes on being known.
    Drain,
    /// Nothing new, and nobody judges it: probes go on and decide nothing.
    Maintenance,
}

impl AdminState {
    pub const ALL: [Self; 3] = [Self::Ready, Self::Drain, Self::Maintenance];

    /// The word for it in the registry, in reports and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        }
    }

    /// Whether anything new may go there.
    pub const fn admits(self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// An operator's word on one endpoint. The default says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperatorWord {
    pub state: AdminState,
    /// Instead of what the registrar or the file says; 0 takes none.
    pub weight: Option<u16>,
}

impl OperatorWord {
    /// Whether all is as without it.
    pub fn says_nothing(self) -> bool {
        self == Self::default()
    }
}
