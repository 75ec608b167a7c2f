//! What a gateway does that is not the holder: grants, waits, and takes over.

use super::register::Contents;
use super::timing::{ENDED, MOVES};
use super::{Action, Machine, Wish};
use crate::identity::{BootId, GatewayId};
use crate::moment::Moment;
use crate::register::Register;

impl Machine {
    /// A heartbeat. Granting it is the promise not to take over for L′, whoever asks: what a grantor knows of the
    /// register may be older than what the holder knows.
    pub(super) fn asked(
        &mut self,
        from: GatewayId,
        boot: BootId,
        epoch: u64,
        seq: u64,
        actions: &mut Vec<Action>,
    ) {
        if self.heard.is_some_and(|(run, newest)| run == boot && seq <= newest) {
            return;
        }
        let known = self.known.register();
        let newer = known.is_none_or(|register| epoch > register.epoch);
        let same = known.is_some_and(|register| {
            epoch == register.epoch && register.names(&from, boot) && !register.released
        });
        if let Some(register) = known.filter(|register| register.epoch > epoch) {
            let known = register.epoch;
            actions.push(Action::Refuse { to: from, boot, epoch: known, seq });
            return;
        }
        let gone = matches!(self.known.contents, Contents::Absent(_) | Contents::Unreadable { .. });
        self.reread |= newer && !matches!(self.known.contents, Contents::Unknown);
        let claiming = !self.attempts.is_empty() && self.conditions.no_grants_while_claiming;
        if self.registered().is_some() || claiming || gone || !(newer || same) {
            return;
        }
        self.heard = Some((boot, seq));
        self.promised = Some(self.now);
        actions.push(Action::Grant { to: from, boot, epoch, seq });
    }

    /// The turn of one that is not the registered holder.
    pub(super) fn stand_by(&mut self, actions: &mut Vec<Action>) {
        if self.request.is_some() || self.now < self.retry_at {
            return;
        }
        if self.reread {
            self.start_read(actions);
            return;
        }
        match self.claim() {
            Some((due, register)) if self.now >= due => {
                self.vacant = self.promised.unwrap_or(self.known.seen).max(self.known.seen);
                self.start_write(register, actions);
            }
            // A claim that may yet happen keeps this gateway from granting: see whether the version has moved.
            _ if !self.attempts.is_empty() => self.start_read(actions),
            _ => {}
        }
    }

    /// When this gateway would take over, and what it would write.
    fn claim(&self) -> Option<(Moment, Register)> {
        let last = match &self.known.contents {
            Contents::Unknown | Contents::Unreadable { .. } => return None,
            Contents::Absent(last) => last.as_ref(),
            Contents::Present(versioned) => Some(&versioned.register),
        };
        let free = self.free_at(last);
        let epoch = last.map_or(0, |register| register.epoch) + 1;
        let released = last.is_some_and(|register| register.released);
        let claim = |released| Register {
            holder: self.me.clone(),
            boot_id: self.boot,
            epoch,
            released,
            successor: None,
            grantors: Vec::new(),
        };
        match self.wish {
            Wish::Hold => {
                let due = free + self.courtesy(last);
                Some((due.max(self.paused_until), claim(false)))
            }
            // A grantor that cannot serve lets those take over who can and may not.
            Wish::Yield if self.surroundings.successor && !released && last.is_some() => {
                Some((free + self.timing.grace, claim(true)))
            }
            Wish::Yield | Wish::Leave => None,
        }
    }

    /// Nobody holds by what that run has written, nor ever will: no wait is for it.
    pub(super) fn bury(&mut self, from: GatewayId, boot: BootId) {
        let ended = (from, boot);
        if self.ended.contains(&ended) {
            return;
        }
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
    }

    fn is_ended(&self, register: &Register) -> bool {
        self.ended.iter().any(|(gateway, run)| {
            *gateway == register.holder && (*run == register.boot_id || !self.conditions.endings_name_a_run)
        })
    }

    /// From when on the last holder cannot hold any more.
    fn free_at(&self, last: Option<&Register>) -> Moment {
        let (timing, conditions) = (&self.timing, &self.conditions);
        let present = matches!(self.known.contents, Contents::Present(_));
        let Some(register) = last else { return self.known.seen + timing.registry_grace };
        if present && (register.released || self.is_ended(register)) {
            return self.known.seen;
        }
        let grace = if conditions.waits_cover_errors { timing.grace } else { timing.lease };
        let (mode, wait) = if register.grantors.is_empty() {
            let own = conditions.registry_mode_has_its_own_wait;
            let exact =
                if conditions.waits_cover_errors { timing.registry_grace } else { timing.registry_lease };
            (true, if own { exact } else { grace })
        } else if register.grantors.contains(&self.me) || !conditions.outsiders_wait_for_hold_max {
            (false, grace)
        } else {
            (true, timing.hold_grace)
        };
        let by_version = self.known.seen + wait;
        let by_grant = self.promised.map_or(Moment::START, |at| at + grace);
        let versions = mode || conditions.waits_count_from_versions;
        match (versions, conditions.waits_count_from_grants) {
            (true, true) => by_version.max(by_grant),
            (true, false) => by_version,
            (false, _) => by_grant,
        }
    }

    /// How long others come first who would serve as well, or better.
    fn courtesy(&self, last: Option<&Register>) -> std::time::Duration {
        let timing = &self.timing;
        let mut courtesy = timing.rank_step * self.surroundings.rank;
        let successor =
            last.filter(|register| register.released).and_then(|register| register.successor.as_ref());
        match successor {
            Some(successor) if *successor == self.me => courtesy = std::time::Duration::ZERO,
            Some(_) => courtesy += timing.grace,
            None => {}
        }
        // Who has just let go wants another to have it.
        if last.is_some_and(|register| register.names(&self.me, self.boot)) {
            courtesy += timing.grace;
        }
        let often = self.moves.len() == MOVES
            && self.moves.front().is_some_and(|first| self.now.since(*first) < timing.moves_window);
        if often { courtesy + timing.grace } else { courtesy }
    }

    pub(super) fn next_claim(&self) -> Option<Moment> {
        if self.request.is_some() {
            return None;
        }
        if self.reread || !self.attempts.is_empty() {
            return Some(self.retry_at);
        }
        self.claim().map(|(due, _)| due.max(self.retry_at))
    }
}
