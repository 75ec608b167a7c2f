//! What strikes the registry, the way to it, or those who register.

use std::time::Duration;

use fastrand::Rng;

use super::fleet::Fleet;
use super::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    LeaderKilled(usize),
    MemberKilled(usize),
    /// So many that the rest is no majority.
    MajorityKilled(Vec<usize>),
    AllKilled,
    /// Killed and started again at once. What they had is kept for [`Self::WentBack`].
    Restarted,
    LeaderFrozen(usize),
    MemberFrozen(usize),
    AllFrozen,
    /// One gateway has no way to any member; for longer than its session lasts, or not.
    GatewayCut(usize),
    AllCut,
    /// The registrar's session ends, and most of an app with it.
    RegistrarLost,
    /// All members come back without data.
    Emptied,
    /// All members come back with what they had a while ago.
    WentBack,
    /// Every key is written again and again.
    Storm,
}

impl Fault {
    pub fn choose(rng: &mut Rng, registry: &Registry, gateways: usize) -> Self {
        let member = rng.usize(..registry.len());
        let gateway = rng.usize(..gateways);
        match rng.u8(..16) {
            0 => Self::LeaderKilled(registry.leader()),
            1 => Self::MemberKilled(member),
            2 => Self::MajorityKilled((0..registry.len()).filter(|at| *at != member).collect()),
            3..=4 => Self::AllKilled,
            5 => Self::Restarted,
            6 => Self::LeaderFrozen(registry.leader()),
            7 => Self::MemberFrozen(member),
            8 => Self::AllFrozen,
            9..=10 => Self::GatewayCut(gateway),
            11 => Self::AllCut,
            12 => Self::RegistrarLost,
            13 => Self::Emptied,
            14 if registry.has_kept() => Self::WentBack,
            14 => Self::Restarted,
            _ => Self::Storm,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::LeaderKilled(_) => "leader killed",
            Self::MemberKilled(_) => "member killed",
            Self::MajorityKilled(_) => "majority killed",
            Self::AllKilled => "all members killed",
            Self::Restarted => "all members restarted",
            Self::LeaderFrozen(_) => "leader frozen",
            Self::MemberFrozen(_) => "member frozen",
            Self::AllFrozen => "all members frozen",
            Self::GatewayCut(_) => "one gateway cut off",
            Self::AllCut => "all gateways cut off",
            Self::RegistrarLost => "registrar's session lost",
            Self::Emptied => "came back empty",
            Self::WentBack => "rolled back in time",
            Self::Storm => "watch storm",
        }
    }

    /// Whether gateways are right to believe the registry only when an operator says so.
    pub fn takes_data(&self) -> bool {
        matches!(self, Self::Emptied | Self::WentBack)
    }

    /// Half of them are short, and some longer than a session.
    pub fn lasts(&self, rng: &mut Rng, longest: Duration) -> Duration {
        match self {
            Self::Restarted | Self::Storm => Duration::ZERO,
            _ => longest.mul_f64(rng.f64() * rng.f64()),
        }
    }

    pub fn strike(&self, registry: &mut Registry, fleet: &Fleet) {
        match self {
            Self::LeaderKilled(at) | Self::MemberKilled(at) => registry.kill(*at),
            Self::MajorityKilled(which) => which.iter().for_each(|at| registry.kill(*at)),
            Self::AllKilled | Self::Emptied | Self::WentBack => {
                (0..registry.len()).for_each(|at| registry.kill(at));
            }
            Self::Restarted => registry.keep_data(),
            Self::LeaderFrozen(at) | Self::MemberFrozen(at) => registry.pause(*at),
            Self::AllFrozen => (0..registry.len()).for_each(|at| registry.pause(at)),
            Self::GatewayCut(at) => fleet.cut(*at),
            Self::AllCut => (0..fleet.len()).for_each(|at| fleet.cut(at)),
            Self::RegistrarLost => registry.crash_registrar(),
            Self::Storm => {}
        }
    }

    /// Returns when the registry answers again.
    pub fn heal(&self, registry: &mut Registry, fleet: &Fleet) {
        let all: Vec<usize> = (0..registry.len()).collect();
        match self {
            Self::LeaderKilled(at) | Self::MemberKilled(at) => registry.restart(&[*at]),
            Self::MajorityKilled(which) => registry.restart(which),
            Self::AllKilled | Self::Restarted => registry.restart(&all),
            Self::LeaderFrozen(at) | Self::MemberFrozen(at) => registry.resume(*at),
            Self::AllFrozen => all.iter().for_each(|at| registry.resume(*at)),
            Self::GatewayCut(at) => fleet.mend(*at),
            Self::AllCut => (0..fleet.len()).for_each(|at| fleet.mend(at)),
            Self::RegistrarLost | Self::Storm => {}
            Self::Emptied => {
                registry.lose_data();
                registry.restart(&all);
                registry.reconnect();
            }
            Self::WentBack => {
                registry.return_to_kept();
                registry.restart(&all);
                registry.reconnect();
            }
        }
    }
}
