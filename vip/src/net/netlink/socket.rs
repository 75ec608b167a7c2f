//! A socket, requests on it and what the kernel answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send, socket_with,
};

use super::message::{Message, Requests, ne32};

/// The kernel writes no longer datagrams: 32 KiB in dumps, and an error with what it is about.
const BUFFER: usize = 64 << 10;
/// The kernel answers within the call; this bounds what a broken one can cost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A batch for as many addresses as a gateway can have: see `fence`.
const SEND_BUFFER: usize = 8 << 20;
/// A dump that changed while it was made is made again, this often.
const DUMP_ATTEMPTS: usize = 8;

/// A netlink socket of one protocol. Requests wait for one another: `&mut self`.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A message that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    pub sequence: u32,
    pub errno: Errno,
}

impl Socket {
    /// `protocol`: `None` for routes, addresses and links. `groups`: what to be told of unasked, as a mask.
    pub fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd, sequence: 1, buffer: vec![0; BUFFER] })
    }

    /// Messages may be long. Fails without CAP_NET_ADMIN.
    pub fn allow_long_messages(&self) -> io::Result<()> {
        Ok(set_socket_send_buffer_size_force(&self.fd, SEND_BUFFER)?)
    }

    /// Requests that this socket has not numbered yet.
    pub fn requests(&self) -> Requests {
        Requests::numbered_from(self.sequence)
    }

    /// Sends one request that asks for an acknowledgement, and waits for it.
    pub fn acknowledge(&mut self, request: &Requests) -> io::Result<()> {
        let first = self.send(request)?;
        loop {
            let length = self.receive(RecvFlags::empty())?;
            let mut rest = &self.buffer[..length];
            while let Some(message) = Message::split(&mut rest) {
                if message.sequence != first {
                    continue;
                }
                if let Some(outcome) = outcome(&message) {
                    return Ok(outcome?);
                }
            }
        }
    }

    /// Sends one request for one answer, which `read` takes.
    pub fn ask<T>(&mut self, request: &Requests, read: impl Fn(&Message<'_>) -> T) -> io::Result<T> {
        let first = self.send(request)?;
        loop {
            let length = self.receive(RecvFlags::empty())?;
            let mut rest = &self.buffer[..length];
            while let Some(message) = Message::split(&mut rest) {
                match outcome(&message) {
                    _ if message.sequence != first => {}
                    Some(Err(errno)) => return Err(errno.into()),
                    Some(Ok(())) => {}
                    None => return Ok(read(&message)),
                }
            }
        }
    }

    /// Everything that `make` asks for, in as many answers as it takes.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when the answer changed while it was read, each time.
    pub fn dump<T>(
        &mut self,
        make: impl Fn(&mut Requests),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut request = self.requests();
            make(&mut request);
            let first = self.send(&request)?;
            if let Some(found) = self.dumped(first, &read)? {
                return Ok(found);
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// `None`: what was dumped changed meanwhile.
    fn dumped<T>(
        &mut self,
        sequence: u32,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Option<Vec<T>>> {
        let (mut found, mut consistent) = (Vec::new(), true);
        loop {
            let length = self.receive(RecvFlags::empty())?;
            let mut rest = &self.buffer[..length];
            while let Some(message) = Message::split(&mut rest) {
                if message.sequence != sequence {
                    continue;
                }
                consistent &= i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0;
                match outcome(&message) {
                    Some(Err(errno)) => return Err(errno.into()),
                    Some(Ok(())) => return Ok(consistent.then_some(found)),
                    None => found.extend(read(&message)),
                }
            }
        }
    }

    /// Sends a batch of netfilter's, of which the message `last` asks for an acknowledgement. It has happened
    /// altogether or not at all; what it failed for is returned.
    pub fn commit(&mut self, batch: &Requests, last: u32) -> io::Result<Result<(), Vec<Rejection>>> {
        self.send(batch)?;
        let (mut rejected, mut acknowledged) = (Vec::new(), false);
        loop {
            let length = match self.receive(RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let mut rest = &self.buffer[..length];
            while let Some(message) = Message::split(&mut rest) {
                match outcome(&message) {
                    Some(Ok(())) => acknowledged |= message.sequence == last,
                    Some(Err(errno)) => rejected.push(Rejection { sequence: message.sequence, errno }),
                    None => {}
                }
            }
        }
        match (rejected.is_empty(), acknowledged) {
            (false, _) => Ok(Err(rejected)),
            (true, true) => Ok(Ok(())),
            // It says neither yes nor no: count it as not done.
            (true, false) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Reads whatever has come unasked: whether something has.
    ///
    /// # Errors
    /// The system's. That messages were lost is none: something has come.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            match self.receive(RecvFlags::DONTWAIT) {
                Ok(_) => any = true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, requests: &Requests) -> io::Result<u32> {
        // What is left of an earlier request that went wrong is nobody's answer.
        self.drain()?;
        let first = self.sequence;
        self.sequence = requests.next_sequence();
        loop {
            match send(&self.fd, requests.as_bytes(), SendFlags::empty()) {
                Ok(_) => return Ok(first),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// One datagram of the kernel's.
    fn receive(&mut self, flags: RecvFlags) -> io::Result<usize> {
        loop {
            match recvfrom(&self.fd, &mut self.buffer[..], flags | RecvFlags::TRUNC) {
                Ok((length, whole, from)) => {
                    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    // Any process may write to us; only the kernel has port 0.
                    if from.is_none_or(|from| from.pid() != 0) {
                        continue;
                    }
                    if whole > length {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    return Ok(length);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An acknowledgement or an error; `None`: something else.
fn outcome(message: &Message<'_>) -> Option<Result<(), Errno>> {
    let kind = i32::from(message.kind);
    if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
        return None;
    }
    let code = ne32(message.payload).unwrap_or_default().cast_signed();
    Some(if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code.saturating_neg())) })
}
