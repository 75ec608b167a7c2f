//! Points at which a test ends the process, or the engine, to see what is left.
//!
//! Compiled in for this crate's own tests and with the feature `fault-points`, never in what we ship. With the feature,
//! `SLUICE_FAULT_POINT=after-start` or `after-start:3` kills the process with SIGKILL when that point is passed, or passed for the
//! third time.

#[cfg(any(test, feature = "fault-points"))]
use std::sync::Arc;

/// Every point, in the order in which an instance passes them.
pub const POINTS: [&str; 10] = [
    "after-claim",
    "before-decision",
    "after-decision",
    "after-start",
    "after-start-hook",
    "after-resize",
    "after-stop-hook",
    "after-stop",
    "after-remove",
    "after-sweep",
];

#[derive(Clone, Default)]
pub(super) struct Faults {
    /// Says whether everything ends here.
    #[cfg(any(test, feature = "fault-points"))]
    ends: Option<Arc<dyn Fn(&'static str) -> bool + Send + Sync>>,
}

#[cfg(not(any(test, feature = "fault-points")))]
impl Faults {
    pub(super) fn from_environment() -> Self {
        Self {}
    }

    pub(super) async fn point(&self, _: &'static str) {}
}

#[cfg(any(test, feature = "fault-points"))]
impl Faults {
    /// Nothing goes on after a point at which `ends` says yes: whoever says it drops the engine.
    #[cfg(test)]
    pub(super) fn new(ends: impl Fn(&'static str) -> bool + Send + Sync + 'static) -> Self {
        Self { ends: Some(Arc::new(ends)) }
    }

    pub(super) fn from_environment() -> Self {
        let Ok(wanted) = std::env::var("SLUICE_FAULT_POINT") else { return Self::default() };
        let (name, count) = match wanted.split_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (wanted, 1_usize),
        };
        assert!(POINTS.contains(&name.as_str()), "SLUICE_FAULT_POINT: {name} is none of {POINTS:?}");
        let passed = std::sync::atomic::AtomicUsize::new(0);
        Self {
            ends: Some(Arc::new(move |point| {
                let hit =
                    point == name && passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == count;
                if hit {
                    let _ = rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::KILL,
                    );
                }
                hit
            })),
        }
    }

    pub(super) async fn point(&self, name: &'static str) {
        debug_assert!(POINTS.contains(&name), "{name} is not in POINTS");
        if self.ends.as_ref().is_some_and(|ends| ends(name)) {
            std::future::pending::<()>().await;
        }
    }
}
