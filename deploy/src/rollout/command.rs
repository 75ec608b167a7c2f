//! What an operator may say to a rollout, and what becomes of it. Pure: whoever carries it out writes the result on the
//! condition that the state is still the one that was judged, and judges again where it is not. So of two who say opposite
//! things at once the second is judged by what the first has made of it, and both are told what is true.

use super::begin;
use crate::model::{Millis, OperationKind, Rollout, Status};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Pause,
    Resume,
    /// The stage's hold is over.
    Promote,
    /// Back to what served before.
    Undo,
    /// What was given up is tried again; what was withheld is started again.
    Retry,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {command} a rollout that {is}")]
pub struct Refused {
    pub command: &'static str,
    pub is: String,
}

impl Command {
    pub fn name(self) -> &'static str {
        self.operation().name()
    }

    pub fn operation(self) -> OperationKind {
        match self {
            Self::Pause => OperationKind::Pause,
            Self::Resume => OperationKind::Resume,
            Self::Promote => OperationKind::Promote,
            Self::Undo => OperationKind::Undo,
            Self::Retry => OperationKind::Retry,
        }
    }
}

/// # Errors
/// [`Refused`], which says how things are.
pub fn apply(state: &Rollout, command: Command, now: Millis) -> Result<Rollout, Refused> {
    let mut next = state.clone();
    let refused = |is: &str| Refused { command: command.name(), is: is.to_owned() };
    match (command, state.status) {
        (Command::Pause, Status::Progressing) => next.status = Status::Paused,
        (Command::Resume, Status::Paused) => {
            (next.status, next.progressed) = (Status::Progressing, now);
        }
        (Command::Promote, Status::Progressing) if state.holding.is_some() => next.promoted = true,
        (Command::Promote, Status::Progressing) => return Err(refused("waits for no promotion yet")),
        (Command::Undo, Status::Progressing | Status::Paused) if begin::can_go_back(state) => {
            begin::undo(&mut next, "an operator has undone it".to_owned(), now);
        }
        (Command::Undo, Status::Progressing | Status::Paused) => {
            return Err(refused("has nothing to go back to"));
        }
        (Command::Retry, Status::Failed | Status::RolledBack) => {
            (next.abandoned, next.target, next.status) = (None, None, Status::Idle);
            next.failures.clear();
        }
        (Command::Retry, _) if state.withheld > 0 => next.withheld = 0,
        (_, status) => return Err(refused(&format!("is {}", status.name()))),
    }
    Ok(next)
}
