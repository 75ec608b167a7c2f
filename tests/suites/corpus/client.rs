//! The client of one case: sends its bytes, and takes down what comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use tests::{DEADLINE, contains};

use crate::endpoint::{NEXT, NEXT_ANSWER};
use crate::format::{Act, Case};
use crate::kernel;

const READ_BYTES: usize = 64 << 10;

/// How the conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the answer to the request that follows the case, which is not in the transcript.
    Answered,
    Closed,
    Reset,
    /// Nothing came, and the connection stayed.
    Silent,
}

#[derive(Debug)]
pub struct Transcript {
    pub bytes: Vec<u8>,
    pub end: End,
}

/// # Panics
/// When nobody listens.
pub fn play(case: &Case, gateway: SocketAddr) -> Transcript {
    let stream = TcpStream::connect(gateway).expect("the gateway listens");
    stream.set_nodelay(true).expect("a fresh socket can be set up");
    stream.set_read_timeout(Some(DEADLINE)).expect("a fresh socket can be set up");
    stream.set_write_timeout(Some(DEADLINE)).expect("a fresh socket can be set up");
    let mut client = Client { stream, received: Vec::new(), end: None };
    let mut acts = case.acts.clone();
    if case.is_followed() {
        match acts.last_mut() {
            // In one piece with the case: a misjudged end would swallow it, or begin with it.
            Some(Act::Send(bytes)) => bytes.extend_from_slice(NEXT),
            _ => acts.push(Act::Send(NEXT.to_vec())),
        }
    }
    acts.iter().for_each(|act| client.act(act));
    while client.end.is_none() {
        client.receive();
    }
    let mut bytes = client.received;
    let mut end = client.end.unwrap_or(End::Silent);
    if bytes.ends_with(NEXT_ANSWER) && case.is_followed() {
        bytes.truncate(bytes.len() - NEXT_ANSWER.len());
        end = End::Answered;
    }
    Transcript { bytes, end }
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    end: Option<End>,
}

impl Client {
    fn act(&mut self, act: &Act) {
        match act {
            // The gateway may have closed already; what counts is what it answered.
            Act::Send(bytes) => drop(self.stream.write_all(bytes)),
            Act::Pause => {
                if let (Ok(gateway), Ok(client)) = (self.stream.peer_addr(), self.stream.local_addr()) {
                    kernel::until_read(gateway, client);
                }
            }
            Act::Await(text) => {
                while self.end.is_none() && !contains(&self.received, text) {
                    self.receive();
                }
            }
            Act::End => drop(self.stream.shutdown(Shutdown::Write)),
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.end = Some(End::Closed),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                if self.received.ends_with(NEXT_ANSWER) {
                    self.end = Some(End::Answered);
                }
            }
            Err(error) => self.end = end_of(&error),
        }
    }
}

fn end_of(error: &io::Error) -> Option<End> {
    match error.kind() {
        ErrorKind::Interrupted => None,
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Some(End::Silent),
        _ => Some(End::Reset),
    }
}
