//! Connections of addresses that have to stay out, kept for a moment without being looked at.
//!
//! An attacker that is turned away at once is back at once, and each time costs a handshake of the kernel's
//! and an accept of ours. One that waits for an answer meanwhile costs a socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::TcpStream;

use super::TICK;

/// Of each worker; whoever finds no place is turned away at once. As many as one address opens at a time.
const PLACES: usize = 128;
const STAY_TICKS: u32 = (1_000 / TICK.as_millis()) as u32;

#[derive(Debug, Default)]
pub struct Detention(RefCell<VecDeque<(u32, TcpStream)>>);

impl Detention {
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Takes a socket that the runtime no longer watches. Its close will be a reset, which leaves nothing
    /// behind.
    pub fn hold(&self, socket: TcpStream, now: u32) {
        // Where it fails the socket is already dead.
        let _ = socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO));
        let mut held = self.0.borrow_mut();
        if held.len() < PLACES {
            held.push_back((now + STAY_TICKS, socket));
        }
    }

    pub fn sweep(&self, now: u32) {
        let mut held = self.0.borrow_mut();
        while held.front().is_some_and(|(until, _)| *until <= now) {
            held.pop_front();
        }
    }
}
