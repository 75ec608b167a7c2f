//! Turns of connections that have not earned more yet: one of them reads a mouthful, then everybody else is served,
//! then it is the next one's turn.
//!
//! What a thread has ready it does one after the other, so a client waits for all that is ready before him. Each of ten
//! floods is a small matter if it is read in small pieces; ten pieces in a row are not. So they come one at a time, however
//! many connections wait, and an honest request that meets them waits for one piece.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tokio::task::{spawn_local, yield_now};

/// Of one worker.
#[derive(Debug, Default)]
pub struct Turns(Rc<RefCell<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Rc<Turn>, Waker)>,
    /// Whether somebody calls them up.
    is_attended: bool,
}

/// Where one connection stands. It waits in one place at the most, so the queue is as long as there are connections.
#[derive(Debug, Default)]
pub struct Turn(Cell<State>);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Away,
    Waiting,
    Called,
}

impl Turns {
    /// Whether it is this one's turn, which it uses up; otherwise it waits, and `waker` is woken when it is.
    ///
    /// Called within the worker's runtime.
    pub fn take(&self, turn: &Rc<Turn>, waker: &Waker) -> bool {
        match turn.0.get() {
            State::Called => {
                turn.0.set(State::Away);
                return true;
            }
            State::Waiting => return false,
            State::Away => {}
        }
        turn.0.set(State::Waiting);
        let mut queue = self.0.borrow_mut();
        queue.waiting.push_back((turn.clone(), waker.clone()));
        if !std::mem::replace(&mut queue.is_attended, true) {
            spawn_local(call(self.0.clone()));
        }
        false
    }
}

/// One after the other, each when everything that was ready has been done and the sockets were looked at.
async fn call(queue: Rc<RefCell<Queue>>) {
    loop {
        yield_now().await;
        let mut queue = queue.borrow_mut();
        // Those that are gone held the other half.
        while queue.waiting.front().is_some_and(|(turn, _)| Rc::strong_count(turn) == 1) {
            queue.waiting.pop_front();
        }
        let Some((turn, waker)) = queue.waiting.pop_front() else {
            queue.is_attended = false;
            return;
        };
        turn.0.set(State::Called);
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    fn run(work: impl Future<Output = ()>) {
        Builder::new_current_thread().build_local(LocalOptions::default()).unwrap().block_on(work);
    }

    #[test]
    fn the_others_come_between_two_turns() {
        run(async {
            let (turns, order) = (Rc::new(Turns::default()), Rc::new(RefCell::new(Vec::new())));
            let greedy: Vec<_> = (0..3)
                .map(|name| {
                    let (turns, order, turn) = (turns.clone(), order.clone(), Rc::new(Turn::default()));
                    spawn_local(async move {
                        for _ in 0..2 {
                            poll_fn(|context| match turns.take(&turn, context.waker()) {
                                true => Poll::Ready(()),
                                false => Poll::Pending,
                            })
                            .await;
                            order.borrow_mut().push(name);
                        }
                    })
                })
                .collect();
            let others = order.clone();
            let other = spawn_local(async move {
                for _ in 0..6 {
                    yield_now().await;
                    others.borrow_mut().push(9);
                }
            });
            for task in greedy {
                task.await.unwrap();
            }
            other.await.unwrap();
            let order = order.take();
            let seen: Vec<_> = order.iter().copied().filter(|name| *name != 9).collect();
            assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
            assert!(order[..11].windows(2).all(|two| (two[0] == 9) != (two[1] == 9)), "{order:?}");
        });
    }

    #[test]
    fn whoever_leaves_keeps_nobody_waiting() {
        run(async {
            let turns = Turns::default();
            let (gone, here) = (Rc::new(Turn::default()), Rc::new(Turn::default()));
            assert!(!turns.take(&gone, Waker::noop()) && !turns.take(&here, Waker::noop()));
            drop(gone);
            yield_now().await;
            yield_now().await;
            assert!(turns.take(&here, Waker::noop()));
            assert!(!turns.take(&here, Waker::noop()), "each is for one mouthful");
        });
    }
}
