//! Starting, serving, draining: in this order, never back.

use std::time::Instant;

use tokio::sync::watch;

/// What a gateway says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// It has no table yet, or does not listen yet: send nothing here.
    Starting,
    Serving,
    /// What has begun ends well; send nothing new here.
    Draining {
        since: Instant,
    },
}

/// The one place where a gateway says whether it serves. Dropping it is draining: a gateway that lost
/// its switch, by a panic perhaps, could never take back that it serves.
#[derive(Debug)]
pub struct ServingSwitch {
    state: watch::Sender<Serving>,
}

/// A view of the switch. Cloning it watches on its own.
#[derive(Debug, Clone)]
pub struct ServingWatch {
    state: watch::Receiver<Serving>,
}

impl Serving {
    /// The word in replies, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining { .. } => "draining",
        }
    }
}

impl ServingSwitch {
    /// Starting.
    pub fn new() -> Self {
        Self { state: watch::Sender::new(Serving::Starting) }
    }

    pub fn watch(&self) -> ServingWatch {
        ServingWatch { state: self.state.subscribe() }
    }

    /// Returns false where the drain has begun: it goes on.
    pub fn serve(&self) -> bool {
        self.state.send_if_modified(|state| {
            let starts = *state == Serving::Starting;
            if starts {
                *state = Serving::Serving;
            }
            starts
        });
        *self.state.borrow() == Serving::Serving
    }

    /// Returns when the drain began: `now`, unless it had begun before.
    pub fn drain(&self, now: Instant) -> Instant {
        let mut began = now;
        self.state.send_if_modified(|state| match *state {
            Serving::Draining { since } => {
                began = since;
                false
            }
            Serving::Starting | Serving::Serving => {
                *state = Serving::Draining { since: now };
                true
            }
        });
        began
    }
}

impl Default for ServingSwitch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ServingSwitch {
    fn drop(&mut self) {
        self.drain(Instant::now());
    }
}

impl ServingWatch {
    pub fn now(&self) -> Serving {
        *self.state.borrow()
    }

    pub fn is_serving(&self) -> bool {
        self.now() == Serving::Serving
    }

    /// Waits for a state that this watch has not returned from here before; `None` once there can be no
    /// further one. A watch may miss a state in between, never the last.
    pub async fn changed(&mut self) -> Option<Serving> {
        self.state.changed().await.ok()?;
        Some(*self.state.borrow_and_update())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_go_forward() {
        let switch = ServingSwitch::new();
        let watch = switch.watch();
        assert_eq!((watch.now(), watch.is_serving()), (Serving::Starting, false));
        assert!(switch.serve() && switch.serve());
        assert!(watch.is_serving());
        let since = switch.drain(Instant::now());
        assert!(!switch.serve());
        assert_eq!(watch.now(), Serving::Draining { since });
    }

    #[test]
    fn second_drain_does_not_restart_the_first() {
        let switch = ServingSwitch::new();
        let since = switch.drain(Instant::now());
        assert_eq!(switch.drain(since + std::time::Duration::from_secs(1)), since);
        assert_eq!(switch.watch().now(), Serving::Draining { since });
    }

    #[tokio::test]
    async fn watcher_learns_of_each_step() {
        let switch = ServingSwitch::new();
        let mut watch = switch.watch();
        switch.serve();
        assert_eq!(watch.changed().await, Some(Serving::Serving));
        let since = switch.drain(Instant::now());
        assert_eq!(watch.changed().await, Some(Serving::Draining { since }));
    }

    #[tokio::test]
    async fn lost_switch_is_a_drain() {
        let switch = ServingSwitch::new();
        let mut watch = switch.watch();
        switch.serve();
        watch.changed().await;
        drop(switch);
        assert!(matches!(watch.changed().await, Some(Serving::Draining { .. })));
        assert_eq!(watch.changed().await, None);
    }
}
