//! Whose turn it is: pure, with the time as an argument.
//!
//! Most endpoints wait at any time, and there may be a hundred thousand, so one that waits is a line in two maps, and no
//! task. The earliest is next, so who comes late because too many are under way does not come later than others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Bounds, ProbeTarget};
use crate::cell::Writer;
use crate::probe::Idle;

/// Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LineId(u64);

/// What is probed, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) target: Arc<ProbeTarget>,
    pub(super) writer: Writer,
    /// Where others may probe it for us.
    pub(super) bucket: Option<u8>,
}

#[derive(Debug)]
struct Line {
    assignment: Assignment,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waits { due: Instant, idle: Option<Idle> },
    UnderWay(Option<AbortHandle>),
}

/// A probe that is to begin now.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: LineId,
    pub(super) assignment: Assignment,
    /// The connection that the last one has left.
    pub(super) idle: Option<Idle>,
}

#[derive(Debug)]
pub(super) struct Timetable {
    lines: HashMap<LineId, Line>,
    /// Each line that waits.
    waiting: BTreeSet<(Instant, LineId)>,
    /// Also those whose line is gone.
    under_way: usize,
    /// Connections that lines that wait have.
    kept: usize,
    /// Of these, with TLS.
    kept_with_tls: usize,
    /// Connections that nobody wants any more, for whoever has the time to close them.
    discarded: Vec<Idle>,
    bounds: Bounds,
    next_id: u64,
}

impl Timetable {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            lines: HashMap::new(),
            waiting: BTreeSet::new(),
            under_way: 0,
            kept: 0,
            kept_with_tls: 0,
            discarded: Vec::new(),
            bounds,
            next_id: 0,
        }
    }

    pub(super) fn add(&mut self, assignment: Assignment, due: Instant) -> LineId {
        let id = LineId(self.next_id);
        self.next_id += 1;
        self.lines.insert(id, Line { assignment, stage: Stage::Waits { due, idle: None } });
        self.waiting.insert((due, id));
        id
    }

    /// The endpoint is probed no more; a probe that is under way is the caller's to abort. It counts until it is
    /// [over](Self::end).
    pub(super) fn remove(&mut self, id: LineId) -> Option<AbortHandle> {
        match self.lines.remove(&id)?.stage {
            Stage::Waits { due, idle } => {
                self.waiting.remove(&(due, id));
                self.give_away(idle.as_ref());
                self.discarded.extend(idle);
                None
            }
            Stage::UnderWay(task) => task,
        }
    }

    /// The earliest of those that are due, unless as many are under way as there may be.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Begun> {
        let (_, id) = *self.waiting.first().filter(|(due, _)| *due <= now && self.has_room())?;
        self.waiting.pop_first();
        let Line { assignment, stage } = self.lines.get_mut(&id)?;
        let Stage::Waits { idle, .. } = std::mem::replace(stage, Stage::UnderWay(None)) else { return None };
        let assignment = assignment.clone();
        self.under_way += 1;
        self.give_away(idle.as_ref());
        Some(Begun { id, assignment, idle })
    }

    /// By what a probe that was begun can be aborted; given back where that is to be done now, since its line
    /// is gone.
    pub(super) fn note_task(&mut self, id: LineId, task: AbortHandle) -> Option<AbortHandle> {
        let Some(line) = self.lines.get_mut(&id) else { return Some(task) };
        // One that is over already waits again.
        if let Stage::UnderWay(noted) = &mut line.stage {
            *noted = Some(task);
        }
        None
    }

    /// A probe is over, whatever has ended it, and the next one is `due`. Gives `idle` back where that is not kept.
    pub(super) fn end(&mut self, id: LineId, due: Instant, idle: Option<Idle>) -> Option<Idle> {
        self.under_way -= 1;
        let Some(line) = self.lines.get_mut(&id) else { return idle };
        let has_room = |idle: &Idle| {
            let has_room_for_tls = self.kept_with_tls < Bounds::MAX_KEPT_WITH_TLS;
            self.kept < self.bounds.kept && (has_room_for_tls || !idle.is_tls())
        };
        let (idle, surplus) = if idle.as_ref().is_some_and(has_room) { (idle, None) } else { (None, idle) };
        self.kept += usize::from(idle.is_some());
        self.kept_with_tls += usize::from(idle.as_ref().is_some_and(Idle::is_tls));
        line.stage = Stage::Waits { due, idle };
        self.waiting.insert((due, id));
        surplus
    }

    /// Nobody keeps a connection: others need the files.
    pub(super) fn give_up_kept(&mut self) {
        if self.kept == 0 {
            return;
        }
        for line in self.lines.values_mut() {
            if let Stage::Waits { idle, .. } = &mut line.stage {
                self.discarded.extend(idle.take());
            }
        }
        (self.kept, self.kept_with_tls) = (0, 0);
    }

    /// Nobody is probed any more.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.waiting.clear();
        self.discarded.clear();
        (self.kept, self.kept_with_tls) = (0, 0);
    }

    /// Some of the connections that are to be closed.
    pub(super) fn discarded(&mut self, most: usize) -> Vec<Idle> {
        self.discarded.split_off(self.discarded.len().saturating_sub(most))
    }

    pub(super) fn has_discarded(&self) -> bool {
        !self.discarded.is_empty()
    }

    fn give_away(&mut self, idle: Option<&Idle>) {
        self.kept -= usize::from(idle.is_some());
        self.kept_with_tls -= usize::from(idle.is_some_and(Idle::is_tls));
    }

    /// When [`Self::begin`] has something next: at the earliest time, or never before another one is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first().filter(|_| self.has_room()).map(|(due, _)| *due)
    }

    /// When the first of those that wait was or is due, room or not.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Whether nobody's turn is before `due`.
    pub(super) fn would_be_first(&self, due: Instant) -> bool {
        self.earliest().is_none_or(|earliest| due < earliest)
    }

    pub(super) fn has_room(&self) -> bool {
        self.under_way < self.bounds.under_way
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    #[cfg(test)]
    pub(super) fn set_most_under_way(&mut self, most: usize) {
        self.bounds.under_way = most;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use topology::{AppId, InstanceId, InstanceKey, Protocol, VersionId};

    use super::*;
    use crate::cell::Inherit;

    fn assignment() -> Assignment {
        let target = ProbeTarget {
            app: AppId::parse("shop").unwrap(),
            key: InstanceKey {
                version: VersionId::parse("v1").unwrap(),
                instance: InstanceId::parse("c1").unwrap(),
            },
            address: "127.0.0.1:1".parse().unwrap(),
            protocol: Protocol::Http1,
            tls: None,
            settings: Arc::default(),
            may_be_shared: true,
            cell: Arc::default(),
        };
        let writer = target.cell.attach(Inherit::State);
        Assignment { target: Arc::new(target), writer, bucket: None }
    }

    fn idle() -> Option<Idle> {
        // Any socket will do.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Some(Idle::Plain(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap()))
    }

    /// Most endpoints wait at any time, and there may be a hundred thousand.
    #[test]
    fn a_line_is_small() {
        let sizes = (size_of::<(LineId, Line)>(), size_of::<(Instant, LineId)>());
        assert!(sizes.0 <= 64 && sizes.1 <= 24, "{sizes:?}");
    }

    #[test]
    fn connections_beyond_the_bound_are_given_back() {
        let now = Instant::now();
        let mut table = Timetable::new(Bounds { under_way: 8, kept: 1 });
        for _ in 0..2 {
            table.add(assignment(), now);
        }
        let begun = [table.begin(now).unwrap(), table.begin(now).unwrap()];
        let surplus = begun.map(|begun| table.end(begun.id, now, idle()).is_some());
        assert_eq!((surplus, table.kept()), ([false, true], 1));
        // Who has it may give it back, and a line that goes takes its connection along.
        let first = table.begin(now).unwrap();
        assert!(first.idle.is_some() && table.kept() == 0);
        assert!(table.end(first.id, now, first.idle).is_none());
        assert!(table.remove(first.id).is_none() && table.kept() == 0);
        assert_eq!((table.discarded(8).len(), table.has_discarded()), (1, false));
    }

    #[test]
    fn what_is_kept_can_be_given_up() {
        let now = Instant::now();
        let mut table = Timetable::new(Bounds { under_way: 8, kept: 8 });
        for _ in 0..3 {
            table.add(assignment(), now);
        }
        for _ in 0..3 {
            let begun = table.begin(now).unwrap();
            assert!(table.end(begun.id, now + Duration::from_secs(1), idle()).is_none());
        }
        assert_eq!(table.kept(), 3);
        table.give_up_kept();
        assert_eq!((table.kept(), table.discarded(2).len(), table.discarded(2).len()), (0, 2, 1));
        // And kept again.
        let begun = table.begin(now + Duration::from_secs(1)).unwrap();
        assert!(begun.idle.is_none() && table.end(begun.id, now, idle()).is_none());
        assert_eq!(table.kept(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add { due: u64 },
        Remove { which: usize },
        Pass { millis: u64 },
        Begin,
        End { which: usize, again: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..50_u64).prop_map(|due| Step::Add { due }),
            any::<usize>().prop_map(|which| Step::Remove { which }),
            (0..20_u64).prop_map(|millis| Step::Pass { millis }),
            Just(Step::Begin),
            (any::<usize>(), 0..50_u64).prop_map(|(which, again)| Step::End { which, again }),
        ]
    }

    proptest! {
        /// Against a list of who waits until when: nobody is forgotten, begun twice, early, out of turn or beyond the bound.
        #[test]
        fn everybody_has_their_turn(steps in prop::collection::vec(step(), 1..200), most in 1..4_usize) {
            let mut now = Instant::now();
            let mut table = Timetable::new(Bounds { under_way: most, kept: 0 });
            let mut waiting: BTreeMap<LineId, Instant> = BTreeMap::new();
            // Whether their lines are still there.
            let mut under_way: Vec<(LineId, bool)> = Vec::new();
            let millis = Duration::from_millis;
            for step in steps {
                match step {
                    Step::Add { due } => {
                        let due = now + millis(due);
                        prop_assert!(waiting.insert(table.add(assignment(), due), due).is_none());
                    }
                    Step::Remove { which } => {
                        let there = under_way.iter().filter(|(_, there)| *there).map(|(id, _)| *id);
                        let all: Vec<_> = waiting.keys().copied().chain(there).collect();
                        let Some(id) = all.get(which % all.len().max(1)) else { continue };
                        table.remove(*id);
                        waiting.remove(id);
                        under_way.iter_mut().filter(|(other, _)| other == id).for_each(|line| line.1 = false);
                    }
                    Step::Pass { millis: passed } => now += millis(passed),
                    Step::Begin => {
                        let first = waiting.iter().map(|(id, due)| (*due, *id)).min();
                        let expected = first.filter(|(due, _)| *due <= now && under_way.len() < most);
                        let begun = table.begin(now).map(|begun| begun.id);
                        prop_assert_eq!(begun, expected.map(|(_, id)| id));
                        if let Some(id) = begun {
                            waiting.remove(&id);
                            under_way.push((id, true));
                        }
                    }
                    Step::End { which, again } => {
                        if under_way.is_empty() {
                            continue;
                        }
                        let (id, is_there) = under_way.swap_remove(which % under_way.len());
                        let due = now + millis(again);
                        table.end(id, due, None);
                        if is_there {
                            waiting.insert(id, due);
                        }
                    }
                }
                let first = waiting.values().min().copied();
                prop_assert_eq!(table.earliest(), first);
                prop_assert_eq!(table.next(), first.filter(|_| under_way.len() < most));
                prop_assert_eq!((table.under_way(), table.lines.len()), (
                    under_way.len(),
                    waiting.len() + under_way.iter().filter(|(_, there)| *there).count(),
                ));
            }
        }
    }
}
