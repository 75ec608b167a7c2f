//! Which app's hash is computed next: apps take turns, so that whoever guesses one app's passwords holds up
//! that app's logins and hardly anybody else's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use topology::AppId;

/// Of one app. At 50 ms each that is 3 s of waiting for one thread; whoever comes later is told to come again.
const MAX_OF_APP: usize = 64;
/// Of all apps: each holds a request's head. Where so many wait, the longest line makes room for a shorter one.
const MAX_WAITING: usize = 512;

/// So many may compute at a time; the others wait in lines, one per app. Locked for as long as it takes to find a
/// place, which is nothing beside a hash.
#[derive(Debug)]
pub struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Never above 0 while somebody waits.
    free: usize,
    /// None is empty; the first one's turn is next.
    lines: VecDeque<Line>,
}

#[derive(Debug)]
struct Line {
    app: AppId,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to compute one hash, until dropped.
#[derive(Debug)]
pub struct Turn(Option<Arc<Turns>>);

impl Turns {
    pub fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: threads, lines: VecDeque::new() })))
    }

    /// Waits for one of `app`'s turns; `None`: too many wait already.
    pub async fn take(self: &Arc<Self>, app: &AppId) -> Option<Turn> {
        self.stand_in_line(app)?.await.ok()
    }

    fn stand_in_line(self: &Arc<Self>, app: &AppId) -> Option<oneshot::Receiver<Turn>> {
        let (give, place) = oneshot::channel();
        let mut state = self.state();
        if state.free > 0 {
            state.free -= 1;
            drop(state);
            give.send(Turn(Some(self.clone()))).ok();
            return Some(place);
        }
        state.add(app, give).then_some(place)
    }

    /// A turn is over: the next app's first one who is still there has it.
    fn pass_on(self: &Arc<Self>) {
        let mut state = self.state();
        let mut turn = Turn(Some(self.clone()));
        while let Some(mut line) = state.lines.pop_front() {
            while let Some(give) = line.waiting.pop_front() {
                match give.send(turn) {
                    Ok(()) => {
                        if !line.waiting.is_empty() {
                            state.lines.push_back(line);
                        }
                        return;
                    }
                    Err(back) => turn = back,
                }
            }
        }
        turn.0 = None;
        state.free += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, app: &AppId, give: oneshot::Sender<Turn>) -> bool {
        if self.own(app) >= MAX_OF_APP || self.waiting() >= MAX_WAITING {
            self.forget_those_who_left();
        }
        let own = self.own(app);
        if own >= MAX_OF_APP || self.waiting() >= MAX_WAITING && !self.make_room(own) {
            return false;
        }
        match self.lines.iter_mut().find(|line| line.app == *app) {
            Some(line) => line.waiting.push_back(give),
            None => self.lines.push_back(Line { app: app.clone(), waiting: [give].into() }),
        }
        true
    }

    fn own(&self, app: &AppId) -> usize {
        let line = self.lines.iter().find(|line| line.app == *app);
        line.map_or(0, |line| line.waiting.len())
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    fn forget_those_who_left(&mut self) {
        self.lines.iter_mut().for_each(|line| line.waiting.retain(|give| !give.is_closed()));
        self.lines.retain(|line| !line.waiting.is_empty());
    }

    /// For somebody before whom `own` of his app wait: the last one of the longest line goes, if that is longer by
    /// more than one. No line becomes empty.
    fn make_room(&mut self, own: usize) -> bool {
        let longest = self.lines.iter_mut().max_by_key(|line| line.waiting.len());
        let longest = longest.filter(|line| line.waiting.len() > own + 1);
        longest.is_some_and(|line| line.waiting.pop_back().is_some())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Place = oneshot::Receiver<Turn>;

    fn app(name: &str) -> AppId {
        AppId::parse(name).unwrap()
    }

    fn has_turn(place: &mut Place) -> Option<Turn> {
        place.try_recv().ok()
    }

    #[test]
    fn a_login_waits_for_one_guess_of_another_app_and_not_for_all() {
        let turns = Turns::new(1);
        let (guessed, quiet) = (app("guessed"), app("quiet"));
        let mut first = turns.stand_in_line(&guessed).unwrap();
        let running = has_turn(&mut first).unwrap();
        let mut guesses: Vec<Place> =
            (0..MAX_OF_APP).map(|_| turns.stand_in_line(&guessed).unwrap()).collect();
        assert!(turns.stand_in_line(&guessed).is_none(), "an app's line has an end");
        let mut login = turns.stand_in_line(&quiet).expect("another app's is no longer for it");
        drop(running);
        let running = has_turn(&mut guesses[0]).expect("whose turn was next already");
        assert!(has_turn(&mut login).is_none());
        drop(running);
        let running = has_turn(&mut login).expect("then the other app");
        drop(running);
        assert!(has_turn(&mut guesses[1]).is_some());
    }

    #[test]
    fn when_all_places_are_taken_the_longest_line_makes_room() {
        let turns = Turns::new(0);
        let lines = MAX_WAITING / MAX_OF_APP;
        let mut places: Vec<Vec<Place>> = (0..lines)
            .map(|at| (0..MAX_OF_APP).map(|_| turns.stand_in_line(&app(&at.to_string())).unwrap()).collect())
            .collect();
        let mut quiet: Vec<Place> = (0..2).map(|_| turns.stand_in_line(&app("quiet")).unwrap()).collect();
        assert_eq!(turns.state().waiting(), MAX_WAITING);
        let sent_away =
            |place: &mut Place| matches!(place.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let gone: usize = places.iter_mut().flatten().map(|place| usize::from(sent_away(place))).sum();
        assert_eq!(gone, 2);
        assert!(!quiet.iter_mut().any(sent_away));
    }

    #[test]
    fn who_has_left_holds_no_place_and_no_turn() {
        let turns = Turns::new(1);
        let (a, b) = (app("a"), app("b"));
        let mut first = turns.stand_in_line(&a).unwrap();
        let running = has_turn(&mut first).unwrap();
        let gone: Vec<Place> = (0..MAX_OF_APP).map(|_| turns.stand_in_line(&a).unwrap()).collect();
        drop(gone);
        let mut there = turns.stand_in_line(&a).expect("their places are free");
        drop(turns.stand_in_line(&b));
        drop(running);
        // Who leaves with a turn that was just given passes it on.
        drop(has_turn(&mut there).expect("it is next"));
        let free = turns.state().free;
        assert_eq!((free, turns.state().waiting()), (1, 0));
        let given = turns.stand_in_line(&b).unwrap();
        drop(given);
        assert_eq!(turns.state().free, 1);
    }
}
