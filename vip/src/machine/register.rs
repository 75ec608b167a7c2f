//! How a machine learns what its register is, and what becomes of what it wrote.

use super::timing::MOVES;
use super::{Action, Event, Machine, WriteOutcome};
use crate::lease::Entry;
use crate::moment::Moment;
use crate::register::{Register, Versioned};

/// Different registers that may have been written without an answer. One more is not written but one of these again.
const MAX_ATTEMPTS: usize = 8;

/// The newest register that is known to have been in force.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub contents: Contents,
    /// When it was received: this version has been in force since then or earlier.
    pub seen: Moment,
    /// Not after the write was sent that made it, if this run made it.
    pub written: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Contents {
    Unknown,
    /// There is none; the last one that there was, in this run.
    Absent(Option<Register>),
    Present(Versioned),
    Unreadable {
        version: u64,
    },
}

/// A write without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub request: u64,
    pub register: Register,
    pub sent: Moment,
}

/// What the registry was asked and has not answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub id: u64,
    pub kind: RequestKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RequestKind {
    /// And what was known when it was asked: the answer is not older than that.
    Read {
        known: Option<u64>,
    },
    Write {
        register: Register,
        sent: Moment,
        expected: Option<u64>,
    },
}

impl Known {
    pub fn nothing(now: Moment) -> Self {
        Self { contents: Contents::Unknown, seen: now, written: Moment::START }
    }

    pub fn version(&self) -> Option<u64> {
        match &self.contents {
            Contents::Present(versioned) => Some(versioned.version),
            Contents::Unreadable { version } => Some(*version),
            Contents::Unknown | Contents::Absent(_) => None,
        }
    }

    pub fn register(&self) -> Option<&Register> {
        match &self.contents {
            Contents::Present(versioned) => Some(&versioned.register),
            _ => None,
        }
    }
}

impl Machine {
    /// The register, if it names this run and is not released.
    pub(super) fn registered(&self) -> Option<&Register> {
        let register = self.known.register()?;
        let mine = if self.conditions.holder_is_one_run {
            register.names(&self.me, self.boot)
        } else {
            register.holder == self.me
        };
        (mine && !register.released).then_some(register)
    }

    /// A watch may be late and may miss what is between; what it shows has been in force.
    pub(super) fn watched(&mut self, found: Option<Entry>) {
        match found {
            Some(entry) if self.is_news(&entry) => self.learn(entry, None),
            Some(_) => {}
            // Whether it is gone for good is the registry's to say.
            None => self.reread |= self.known.version().is_some(),
        }
    }

    fn is_news(&self, entry: &Entry) -> bool {
        if !self.conditions.older_versions_are_ignored {
            return self.known.version() != Some(entry.version());
        }
        self.known.version().is_none_or(|version| entry.version() > version)
    }

    pub(super) fn read(&mut self, request: u64, found: Option<Option<Entry>>, actions: &mut Vec<Action>) {
        let Some(RequestKind::Read { known }) = self.answer(request) else { return };
        if std::mem::take(&mut self.contested) && self.told.is_some() {
            actions.push(Action::Announce);
        }
        let Some(found) = found else {
            self.retry_at = self.now + self.timing.retry;
            return;
        };
        self.reread = false;
        match found {
            Some(entry) if self.is_news(&entry) => self.learn(entry, None),
            // The read began after `known` was in force, so the registry went back in time.
            Some(entry) if known.is_some_and(|known| entry.version() < known) => self.learn(entry, None),
            Some(_) if !self.attempts.is_empty() => self.retry_at = self.now + self.timing.retry,
            Some(_) => {}
            None if known == self.known.version() => self.learn_absence(),
            None => self.reread = true,
        }
    }

    pub(super) fn written(&mut self, request: u64, outcome: WriteOutcome) {
        let Some(RequestKind::Write { register, sent, expected }) = self.answer(request) else { return };
        match outcome {
            WriteOutcome::Done(version) => {
                let sent = if self.conditions.leases_count_from_sending { sent } else { self.now };
                if self.known.version().is_none_or(|known| version > known) {
                    self.learn(Entry::Register(Versioned { version, register }), Some(sent));
                } else if self.known.version() == Some(version) {
                    self.known.written = sent;
                }
            }
            WriteOutcome::Conflict => self.reread |= self.known.version() == expected,
            WriteOutcome::NotDone => {
                self.attempts.retain(|attempt| attempt.request != request);
                self.retry_at = self.now + self.timing.retry;
            }
            WriteOutcome::Unknown => {
                self.reread |= self.known.version() == expected;
                self.retry_at = self.now + self.timing.retry;
                if register.released && !self.conditions.unknown_releases_end_holding {
                    self.attempts.retain(|attempt| attempt.request != request);
                    self.handing_over = None;
                }
            }
        }
    }

    fn answer(&mut self, request: u64) -> Option<RequestKind> {
        self.request.take_if(|pending| pending.id == request).map(|pending| pending.kind)
    }

    /// What expected another version than this can never happen any more.
    fn learn(&mut self, entry: Entry, sent: Option<Moment>) {
        let was = self.registered().map(|register| register.epoch);
        let (contents, written) = match entry {
            Entry::Register(versioned) => {
                let written = sent.unwrap_or_else(|| self.sending_of(&versioned.register));
                (Contents::Present(versioned), written)
            }
            Entry::Unreadable { version, .. } => (Contents::Unreadable { version }, Moment::START),
        };
        self.known = Known { contents, seen: self.now, written };
        self.attempts.clear();
        self.entered(was);
    }

    fn learn_absence(&mut self) {
        if matches!(self.known.contents, Contents::Absent(_)) {
            return;
        }
        let was = self.registered().map(|register| register.epoch);
        let last = self.known.register().cloned();
        self.known = Known { contents: Contents::Absent(last), seen: self.now, written: Moment::START };
        self.attempts.clear();
        self.entered(was);
    }

    /// Begins or ends a term.
    fn entered(&mut self, was: Option<u64>) {
        let is = self.registered().map(|register| register.epoch);
        if is == was {
            return;
        }
        self.handing_over = None;
        self.beats.clear();
        self.answered.clear();
        self.removed.clear();
        self.next_beat = self.now;
        if is.is_some() {
            if self.moves.len() == MOVES {
                self.moves.pop_front();
            }
            self.moves.push_back(self.now);
        }
    }

    /// When the write was sent that made a register which is found: as early as may be.
    fn sending_of(&self, register: &Register) -> Moment {
        if !register.names(&self.me, self.boot) {
            return if self.conditions.holder_is_one_run { Moment::START } else { self.now };
        }
        if !self.conditions.found_writes_count_from_sending {
            return self.now;
        }
        let same = self.attempts.iter().filter(|attempt| attempt.register == *register);
        same.map(|attempt| attempt.sent).min().unwrap_or(Moment::START)
    }

    pub(super) fn start_read(&mut self, actions: &mut Vec<Action>) {
        let id = self.next_request();
        let known = self.known.version();
        self.request = Some(Request { id, kind: RequestKind::Read { known } });
        actions.push(Action::Read { request: id });
    }

    /// Fences first: what the write may lead to limits the lease before it is sent.
    pub(super) fn start_write(&mut self, wanted: Register, actions: &mut Vec<Action>) {
        let known = self.attempts.iter().any(|attempt| attempt.register == wanted);
        let full = self.attempts.len() >= MAX_ATTEMPTS && !known;
        let register = if full { self.attempts[0].register.clone() } else { wanted };
        let id = self.next_request();
        if !known && !full {
            self.attempts.push(Attempt { request: id, register: register.clone(), sent: self.now });
        }
        self.settle(actions);
        let expected = self.known.version();
        let kind = RequestKind::Write { register: register.clone(), sent: self.now, expected };
        self.request = Some(Request { id, kind });
        actions.push(Action::Write { request: id, register, expected });
    }

    fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// A later epoch than is known, by a peer.
    pub(super) fn refused(&mut self, epoch: u64) {
        self.reread |= self.known.register().is_some_and(|register| register.epoch < epoch);
    }
}

impl Event {
    /// The end of a read that could not be begun, for whoever performs actions.
    pub fn read_failed(request: u64) -> Self {
        Self::Read { request, found: None }
    }
}
