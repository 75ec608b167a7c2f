//! What an app's chain would do to a request, as far as that can be told without doing it.

use topology::filters::Fault;

use super::faults::is_taken;
use super::{Asked, Changes, Decision, RequestFilter};
use crate::reason::Reason;

/// What a filter would say of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    Passes,
    Refuses(Reason),
    /// It depends on what only a real request brings about; what that is.
    Depends(String),
}

impl RequestFilter {
    /// Counts nothing, asks nobody and fetches nothing. What the filter would change is left in `changes`.
    pub fn foresee(&self, asked: &Asked<'_>, changes: &mut Changes) -> Foreseen {
        let decision = match self {
            Self::RateLimits(_) => return Foreseen::Depends("how often the client has asked".to_owned()),
            Self::Faults(faults) => {
                let may = |fault: &&Fault| fault.percent > 0 && is_taken(&fault.matches, asked.taken_by);
                match faults.0.iter().find(may) {
                    None => return Foreseen::Passes,
                    Some(fault) if fault.percent < 100 => {
                        return Foreseen::Depends(format!("a lot that hits {} % of requests", fault.percent));
                    }
                    Some(_) => faults.decide(asked, changes),
                }
            }
            Self::Jwt(jwt) => jwt.judge(asked, changes, false),
            other => other.decide(asked, changes),
        };
        match (decision, self) {
            (Decision::Pass, _) => Foreseen::Passes,
            (Decision::Refuse(reason), _) => Foreseen::Refuses(reason),
            (Decision::Wait, Self::ForwardAuth(forward)) => {
                Foreseen::Depends(format!("what app {} answers", forward.app()))
            }
            (Decision::Wait, _) => Foreseen::Depends("whether the password is right".to_owned()),
        }
    }
}
