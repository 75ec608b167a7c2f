//! Which authenticated messages are news: recorded ones, of this run or an earlier one, are not.

use std::collections::{BTreeMap, VecDeque};

use super::{Body, Message};
use crate::identity::{BootId, GatewayId};

/// Runs of one peer that are over, of which nothing is believed any more. A peer that restarts more often within
/// one run of ours could be impersonated by what it said itself, which delays a takeover and no more.
const MAX_ENDED: usize = 32;
/// Names under one key. Whoever has the key could otherwise fill the memory.
pub(super) const MAX_PEERS: usize = 256;

/// What is known of one peer's run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    boot: BootId,
    /// The newest greeting or heartbeat.
    seq: u64,
    ended: VecDeque<BootId>,
}

/// Judges messages for one gateway's run.
#[derive(Debug)]
pub struct Inbox {
    me: GatewayId,
    boot: BootId,
    pub(super) runs: BTreeMap<GatewayId, Run>,
    /// Runs of which the end was told, the latest last.
    told: VecDeque<BootId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Act on it.
    News,
    /// Act on it; the peer has restarted, or is new.
    NewRun,
    /// Answer with a greeting, so that the peer learns which run this is; believe nothing of it.
    Greet,
    /// For somebody else, old, or recorded.
    Ignore,
    /// Another running process has this gateway's name.
    Namesake,
}

impl Inbox {
    pub fn new(me: GatewayId, boot: BootId) -> Self {
        Self { me, boot, runs: BTreeMap::new(), told: VecDeque::new() }
    }

    /// The peer's run that is believed at present, for what is sent to it.
    pub fn run_of(&self, peer: &GatewayId) -> BootId {
        self.runs.get(peer).map_or(BootId::NONE, |run| run.boot)
    }

    pub fn judge(&mut self, message: &Message) -> Verdict {
        if message.to != self.me {
            return Verdict::Ignore;
        }
        if message.from == self.me {
            // What is sent back to us proves nothing, nor does what an earlier run of ours said.
            return match (message.from_boot == self.boot, message.to_boot == self.boot) {
                (true, _) => Verdict::Ignore,
                (false, true) => Verdict::Namesake,
                (false, false) => Verdict::Greet,
            };
        }
        if message.to_boot != self.boot {
            // It cannot know us yet, or it is recorded: neither tells anything about now.
            return if self.is_ended(message) { Verdict::Ignore } else { Verdict::Greet };
        }
        if message.body == Body::Ended { self.judge_end(message) } else { self.judge_sender(message) }
    }

    /// Whichever run of the sender is believed at present: what has ended stays so.
    fn judge_end(&mut self, message: &Message) -> Verdict {
        if self.told.contains(&message.from_boot) {
            return Verdict::Ignore;
        }
        if self.told.len() == MAX_ENDED {
            self.told.pop_front();
        }
        self.told.push_back(message.from_boot);
        if let Some(run) = self.runs.get_mut(&message.from)
            && run.boot == message.from_boot
        {
            // Nothing that comes later from it is news.
            run.seq = u64::MAX;
        }
        Verdict::News
    }

    fn is_ended(&self, message: &Message) -> bool {
        self.runs.get(&message.from).is_some_and(|run| run.ended.contains(&message.from_boot))
    }

    fn judge_sender(&mut self, message: &Message) -> Verdict {
        let answers = matches!(message.body, Body::Grant { .. } | Body::Refuse { .. });
        let full = self.runs.len() >= MAX_PEERS;
        match self.runs.get_mut(&message.from) {
            None if full => Verdict::Ignore,
            None => {
                let run = Run {
                    boot: message.from_boot,
                    seq: if answers { 0 } else { message.seq },
                    ended: VecDeque::new(),
                };
                self.runs.insert(message.from.clone(), run);
                Verdict::NewRun
            }
            Some(run) if run.boot != message.from_boot => {
                if run.ended.contains(&message.from_boot) {
                    return Verdict::Ignore;
                }
                if run.ended.len() == MAX_ENDED {
                    run.ended.pop_front();
                }
                run.ended.push_back(run.boot);
                run.boot = message.from_boot;
                run.seq = if answers { 0 } else { message.seq };
                Verdict::NewRun
            }
            // What a grant is worth is known by the heartbeat that it answers.
            Some(_) if answers => Verdict::News,
            Some(run) if message.seq > run.seq => {
                run.seq = message.seq;
                Verdict::News
            }
            Some(_) => Verdict::Ignore,
        }
    }
}
