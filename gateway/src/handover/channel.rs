//! One connection between two processes: messages, and descriptors beside them (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::message::{HEAD_BYTES, MAX_FDS, Message, MessageError};

#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Between two messages or within one.
    #[error("the other process has gone")]
    Closed,
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("a message came with {given} descriptors and not with {announced}")]
    Descriptors { announced: usize, given: usize },
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl Channel {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// # Errors
    /// When the descriptor is no stream socket that the runtime takes.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream).map(Self::new)
    }

    /// The same connection for somebody else.
    pub fn share(&self) -> io::Result<OwnedFd> {
        use std::os::fd::AsFd;
        self.stream.as_fd().try_clone_to_owned()
    }

    pub async fn send(&self, message: &Message) -> Result<(), ChannelError> {
        self.send_with(message, &[]).await
    }

    /// `descriptors` are at most [`MAX_FDS`].
    pub async fn send_with(
        &self,
        message: &Message,
        mut descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let bytes = message.encode()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let attempt = || send_some(&self.stream, rest, descriptors);
            let sent = self.stream.async_io(Interest::WRITABLE, attempt).await?;
            rest = &rest[sent..];
            // They went with the first byte.
            descriptors = &[];
        }
        Ok(())
    }

    /// As much as the other side has room for, at once: for news that nobody has to read.
    pub fn try_send(&self, message: &Message) -> Result<(), ChannelError> {
        let bytes = message.encode()?;
        match self.stream.try_write(&bytes) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            // Half a message would make nonsense of all that follow.
            Ok(_) => Err(ChannelError::Closed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next message, which comes without descriptors.
    pub async fn receive(&self) -> Result<Message, ChannelError> {
        let (message, descriptors) = self.receive_with().await?;
        match descriptors.len() {
            0 => Ok(message),
            given => Err(ChannelError::Descriptors { announced: 0, given }),
        }
    }

    /// The next message and its descriptors. What is not used of them is closed.
    pub async fn receive_with(&self) -> Result<(Message, Vec<OwnedFd>), ChannelError> {
        let mut descriptors = Vec::new();
        let mut head = [0; HEAD_BYTES];
        self.fill(&mut head, &mut descriptors).await?;
        let mut body = vec![0; Message::body_length(head)?];
        self.fill(&mut body, &mut descriptors).await?;
        Ok((Message::decode(&body)?, descriptors))
    }

    async fn fill(&self, mut buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<(), ChannelError> {
        while !buffer.is_empty() {
            let attempt = || receive_some(&self.stream, buffer, descriptors);
            let count = self.stream.async_io(Interest::READABLE, attempt).await?;
            if count == 0 {
                return Err(ChannelError::Closed);
            }
            buffer = &mut buffer[count..];
        }
        Ok(())
    }
}

fn send_some(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8], into: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            into.extend(descriptors);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || into.len() > MAX_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than a message may have"));
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[tokio::test]
    async fn descriptors_arrive_with_their_message() {
        let (one, other) = pair();
        let (mut inner, outer) = std::os::unix::net::UnixStream::pair().unwrap();
        let descriptors = vec![outer.as_fd(); MAX_FDS];
        one.send_with(&Message::Sockets { count: MAX_FDS }, &descriptors).await.unwrap();
        one.send(&Message::Yours).await.unwrap();
        let (message, mut received) = other.receive_with().await.unwrap();
        assert_eq!((message, received.len()), (Message::Sockets { count: MAX_FDS }, MAX_FDS));
        assert_eq!(other.receive().await.unwrap(), Message::Yours);
        drop(outer);
        inner.write_all(b"x").unwrap();
        let mut last = std::os::unix::net::UnixStream::from(received.pop().unwrap());
        let mut byte = [0];
        last.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    #[tokio::test]
    async fn descriptors_that_nobody_announced_are_refused() {
        let (one, other) = pair();
        let (_inner, outer) = std::os::unix::net::UnixStream::pair().unwrap();
        one.send_with(&Message::Yours, &[outer.as_fd()]).await.unwrap();
        let refused = other.receive().await.unwrap_err();
        assert!(matches!(refused, ChannelError::Descriptors { announced: 0, given: 1 }), "{refused:?}");
    }

    #[tokio::test]
    async fn a_peer_that_goes_away_is_gone_wherever_it_stops() {
        let bytes = Message::Refused { why: "x".into() }.encode().unwrap();
        for length in 0..bytes.len() {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(&bytes[..length]).await.unwrap();
            drop(one);
            let gone = Channel::new(other).receive().await.unwrap_err();
            assert!(matches!(gone, ChannelError::Closed), "after {length}: {gone:?}");
        }
    }

    #[tokio::test]
    async fn news_for_nobody_holds_nobody_up() {
        let (one, _other) = pair();
        one.stream.writable().await.unwrap();
        for _ in 0..100_000 {
            if one.try_send(&Message::Draining { connections: 1 }).is_err() {
                break;
            }
        }
    }
}
