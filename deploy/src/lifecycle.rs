//! What comes next for one instance. Pure: shown its record and what is known of it, it names the next phase.
//!
//! Start → probes pass → register → every gateway has applied it → serving; unregister → every gateway has applied it → what
//! is under way has ended → stop. No phase is left out but where the process is known to be dead, to whom nothing can be done
//! any more.

use discovery::document::show_duration;

use crate::model::{Millis, Phase, Record, UnhealthyAction, VersionSpec};

/// What is known of an instance beside its record.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// How its start ended, when it has.
    pub start: Option<Result<(), StartFailure>>,
    pub seen: Seen,
    pub host: HostSight,
    /// Probes in a row.
    pub passes: u32,
    pub failures: u32,
    pub probe_error: Option<String>,
    /// Its status hook has ended well, or it has none.
    pub status_passed: bool,
    /// Something stands where its address belongs.
    pub address_present: bool,
    /// Every gateway has applied a state in which the record is in its phase.
    pub applied: bool,
    /// Requests under way to it, of all gateways; `None`: nobody can say.
    pub in_flight: Option<u64>,
    /// The runtime has nothing of it any more.
    pub removed: bool,
    /// It has to move, and why.
    pub condemned: Option<String>,
    /// What a gateway says whose own probes of it keep failing.
    pub complaint: Option<Complaint>,
}

/// A gateway's word on an instance that keeps failing the gateway's probes, where the app's spec wants more than to leave it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub action: UnhealthyAction,
    /// Probes in a row.
    pub failures: u32,
    /// The last one's error, for people.
    pub why: String,
}

/// What its runtime said last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seen {
    /// Nothing yet, or nothing that can be relied on.
    #[default]
    Unknown,
    Running,
    /// Why, in words.
    Ended(String),
    /// Not there.
    Absent,
}

impl Seen {
    /// Whether nothing can reach it any more.
    pub fn is_dead(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Absent)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostSight {
    #[default]
    Up,
    /// Does not answer, for too long.
    Lost,
    /// An operator has removed it: nothing on it is ours any more.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    pub reason: String,
    /// Another attempt would end the same way, on any host.
    pub fatal: bool,
    /// Another host may well do it.
    pub of_host: bool,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    Stay,
    Enter {
        phase: Phase,
        reason: Option<String>,
        /// It failed, and that counts against its release.
        failure: Option<StartFailure>,
        /// It is not to be replaced.
        withheld: bool,
    },
    /// Nothing is left of it: record, port and ledger entry go.
    Remove,
}

impl Move {
    fn to(phase: Phase) -> Self {
        Self::Enter { phase, reason: None, failure: None, withheld: false }
    }

    fn failed(phase: Phase, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let failure = StartFailure { reason: reason.clone(), fatal: false, of_host: false };
        Self::Enter { phase, reason: Some(reason), failure: Some(failure), withheld: false }
    }

    fn retired(phase: Phase, reason: impl Into<String>) -> Self {
        Self::Enter { phase, reason: Some(reason.into()), failure: None, withheld: false }
    }
}

/// The phase in which an instance that is to go begins to go.
pub fn way_out(phase: Phase) -> Phase {
    match phase {
        Phase::Starting | Phase::Probing => Phase::Stopping,
        Phase::Registering | Phase::Serving => Phase::Leaving,
        ending => ending,
    }
}

/// `spec` is what it runs.
pub fn next(
    record: &Record,
    spec: &VersionSpec,
    action: UnhealthyAction,
    sight: &Sight,
    now: Millis,
) -> Move {
    match record.phase {
        Phase::Starting => starting(record, spec, sight, now),
        Phase::Probing => probing(record, spec, sight, now),
        Phase::Registering | Phase::Serving => registered(record, spec, action, sight),
        Phase::Leaving if sight.seen.is_dead() => Move::to(Phase::Stopping),
        Phase::Leaving if sight.applied => Move::to(Phase::Draining),
        Phase::Leaving => Move::Stay,
        Phase::Draining => draining(record, spec, sight, now),
        Phase::Stopping if sight.removed || sight.host == HostSight::Gone => Move::Remove,
        Phase::Stopping => Move::Stay,
    }
}

fn starting(record: &Record, spec: &VersionSpec, sight: &Sight, now: Millis) -> Move {
    if let Some(reason) = unwanted(sight) {
        return Move::retired(Phase::Stopping, reason);
    }
    match &sight.start {
        Some(Ok(())) => Move::to(Phase::Probing),
        Some(Err(failure)) => Move::Enter {
            phase: Phase::Stopping,
            reason: Some(failure.reason.clone()),
            failure: Some(failure.clone()),
            withheld: false,
        },
        None if is_over(record, spec.start_timeout, now) => {
            let reason = format!("did not start within {}", show_duration(spec.start_timeout));
            let failure = StartFailure { reason: reason.clone(), fatal: false, of_host: true };
            Move::Enter {
                phase: Phase::Stopping,
                reason: Some(reason),
                failure: Some(failure),
                withheld: false,
            }
        }
        None => Move::Stay,
    }
}

fn probing(record: &Record, spec: &VersionSpec, sight: &Sight, now: Millis) -> Move {
    if let Some(reason) = unwanted(sight) {
        return Move::retired(Phase::Stopping, reason);
    }
    if let Some(reason) = death(sight) {
        return Move::failed(Phase::Stopping, reason);
    }
    if sight.passes >= spec.probe.rise && sight.status_passed {
        if sight.address_present {
            return Move::failed(Phase::Stopping, "somebody else has registered an instance of its name");
        }
        return Move::to(Phase::Registering);
    }
    if is_over(record, spec.probe.deadline, now) {
        let last = sight.probe_error.as_deref().unwrap_or("it was not asked often enough");
        let deadline = show_duration(spec.probe.deadline);
        return Move::failed(Phase::Stopping, format!("did not pass its probes within {deadline}: {last}"));
    }
    Move::Stay
}

fn registered(record: &Record, spec: &VersionSpec, action: UnhealthyAction, sight: &Sight) -> Move {
    if let Some(reason) = death(sight) {
        return Move::failed(Phase::Leaving, reason);
    }
    if let Some(reason) = unwanted(sight) {
        return Move::retired(Phase::Leaving, reason);
    }
    if let Some((action, reason)) = unhealthy(spec, action, sight) {
        let failure = StartFailure { reason: reason.clone(), fatal: false, of_host: false };
        return Move::Enter {
            phase: Phase::Leaving,
            reason: Some(reason),
            failure: Some(failure),
            withheld: action == UnhealthyAction::Stop,
        };
    }
    match record.phase {
        _ if !sight.address_present => Move::to(Phase::Registering),
        Phase::Registering if sight.applied => Move::to(Phase::Serving),
        _ => Move::Stay,
    }
}

/// What its own probes and those of gateways come to, and why. Of two who want different things, the sterner is heeded.
fn unhealthy(
    spec: &VersionSpec,
    action: UnhealthyAction,
    sight: &Sight,
) -> Option<(UnhealthyAction, String)> {
    let last = || sight.probe_error.as_deref().unwrap_or("no answer");
    let own = (sight.failures >= spec.probe.fall)
        .then(|| (action, format!("failed {} probes in a row: {}", sight.failures, last())));
    let told = sight.complaint.as_ref().map(|complaint| {
        let Complaint { action: wanted, failures, why } = complaint;
        (action.max(*wanted), format!("failed {failures} probes of a gateway in a row: {why}"))
    });
    let (action, why) = own.into_iter().chain(told).max_by_key(|(action, _)| *action)?;
    match action {
        UnhealthyAction::Eject => None,
        UnhealthyAction::Restart => Some((action, format!("{why}; it is replaced"))),
        UnhealthyAction::Stop => Some((action, format!("{why}; it is stopped"))),
    }
}

fn draining(record: &Record, spec: &VersionSpec, sight: &Sight, now: Millis) -> Move {
    let ended = sight.in_flight == Some(0) || sight.seen.is_dead();
    match ended || is_over(record, spec.drain_timeout, now) {
        true => Move::to(Phase::Stopping),
        false => Move::Stay,
    }
}

fn unwanted(sight: &Sight) -> Option<String> {
    match (&sight.condemned, sight.host) {
        (Some(reason), _) => Some(reason.clone()),
        (None, HostSight::Gone) => Some("its host was removed".to_owned()),
        // One that serves moves only when it is condemned, so that not all move at once.
        (None, _) => None,
    }
}

fn death(sight: &Sight) -> Option<String> {
    match &sight.seen {
        Seen::Ended(why) => Some(why.clone()),
        Seen::Absent => Some("is gone from its host".to_owned()),
        Seen::Unknown | Seen::Running => None,
    }
}

fn is_over(record: &Record, bound: std::time::Duration, now: Millis) -> bool {
    u128::from(now.saturating_sub(record.since)) >= bound.as_millis()
}
