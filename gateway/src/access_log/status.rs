//! How the log's target fares: what the writer's thread counts, and what it is told.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Written by the log's thread, but for what it is told; read by scrapes.
#[derive(Debug, Default)]
pub struct Status {
    lost_lines: AtomicU64,
    written_bytes: AtomicU64,
    rotations: AtomicU64,
    errors: AtomicU64,
    is_failing: AtomicBool,
    reopen: AtomicBool,
    ending: AtomicBool,
}

impl Status {
    /// Lines that were handed over and never written.
    pub fn lost_lines(&self) -> u64 {
        self.lost_lines.load(Ordering::Relaxed)
    }

    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    pub fn rotations(&self) -> u64 {
        self.rotations.load(Ordering::Relaxed)
    }

    /// Writes, connects and rotations that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Whether the last of all that was tried succeeded.
    pub fn is_up(&self) -> bool {
        !self.is_failing.load(Ordering::Relaxed)
    }

    /// Has the target opened anew before the next line.
    pub fn ask_to_reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    pub(super) fn takes_reopening(&self) -> bool {
        self.reopen.swap(false, Ordering::Relaxed)
    }

    /// Has waits for the target end soon.
    pub(super) fn ask_to_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    pub(super) fn succeeded(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.is_failing.store(false, Ordering::Relaxed);
    }

    pub(super) fn rotated(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the access log's receiver takes lines again");
        }
    }

    pub(super) fn lost(&self, lines: u64, error: &io::Error) {
        self.lost_lines.fetch_add(lines, Ordering::Relaxed);
        self.failed("cannot write the access log", error);
    }

    /// Lines that are given up because the process ends.
    pub(super) fn abandoned(&self, lines: u64) {
        if lines > 0 {
            self.lost_lines.fetch_add(lines, Ordering::Relaxed);
            tracing::error!(lines, "lines of the access log are lost: its receiver does not take them");
        }
    }

    /// Once per outage in the other log: a full disk must not fill that one too.
    pub(super) fn failed(&self, what: &'static str, error: &io::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "{what}");
        }
    }

    /// Lets `duration` pass, on the writer's thread. False: the writer is to end.
    pub(super) fn wait(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        while !self.is_ending() {
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                _ => return true,
            }
        }
        false
    }
}
