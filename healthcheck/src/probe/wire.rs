//! Bytes to and fro on a connection of its own, until the deadline.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout_at;
use topology::Protocol;

use super::{Deadline, ProbeError, ProbeStream, Way, connect};

pub(super) struct Wire {
    stream: ProbeStream,
    deadline: Deadline,
}

impl Wire {
    pub(super) async fn open(way: Way<'_>) -> Result<Self, ProbeError> {
        let socket = connect(way.address, way.deadline).await?;
        let stream = ProbeStream::secure(socket, way.tls, Protocol::Tcp, way.deadline).await?;
        Ok(Self { stream, deadline: way.deadline })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), ProbeError> {
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        settle(timeout_at(self.deadline.at, sending).await, self.deadline)
    }

    pub(super) async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ProbeError> {
        let reading = timeout_at(self.deadline.at, self.stream.read_exact(bytes));
        settle(reading.await, self.deadline).map(drop)
    }

    /// What stands before the next CR LF; `None` where that is more than `most` bytes. What comes after is lost.
    pub(super) async fn line(&mut self, most: usize) -> Result<Option<Vec<u8>>, ProbeError> {
        let mut read = Vec::with_capacity(64);
        loop {
            if let Some(end) = read.windows(2).position(|pair| pair == b"\r\n").filter(|end| *end <= most) {
                read.truncate(end);
                return Ok(Some(read));
            }
            if read.len() >= most + 2 {
                return Ok(None);
            }
            let mut part = [0; 64];
            let count =
                settle(timeout_at(self.deadline.at, self.stream.read(&mut part)).await, self.deadline)?;
            if count == 0 {
                return Err(ProbeError::Reset("connection closed".into()));
            }
            read.extend_from_slice(&part[..count]);
        }
    }
}

fn settle<T, E>(result: Result<io::Result<T>, E>, deadline: Deadline) -> Result<T, ProbeError> {
    match result {
        Err(_elapsed) => Err(ProbeError::Timeout(deadline.granted)),
        Ok(Err(error)) => Err(ProbeError::Reset(error.into())),
        Ok(Ok(value)) => Ok(value),
    }
}
