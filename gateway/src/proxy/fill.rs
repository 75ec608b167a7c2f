//! Reading into buffers that are lent only while there is something to read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::worker::{Buffer, Buffers};

/// Room before what is read, for a chunk's size line: 16 digits, CR LF.
pub const PREFIX_ROOM: usize = 18;

/// Reads into a buffer of its own; none is held while there is nothing to read. `None`: the source has ended.
pub fn poll_fill<S>(
    context: &mut Context<'_>,
    source: &mut S,
    buffers: &Buffers,
    large: bool,
) -> Poll<io::Result<Option<Buffer>>>
where
    S: AsyncRead + Unpin,
{
    let buffer = if large { buffers.take_large(PREFIX_ROOM) } else { buffers.take(PREFIX_ROOM) };
    poll_fill_up_to(context, source, buffer, usize::MAX, buffers)
}

/// As [`poll_fill`], into `buffer`, at most `limit` bytes.
pub fn poll_fill_up_to<S>(
    context: &mut Context<'_>,
    source: &mut S,
    mut buffer: Buffer,
    limit: usize,
    buffers: &Buffers,
) -> Poll<io::Result<Option<Buffer>>>
where
    S: AsyncRead + Unpin,
{
    let polled = poll_more_up_to(context, source, &mut buffer, limit);
    if let Poll::Ready(Ok(read)) = polled
        && read > 0
    {
        return Poll::Ready(Ok(Some(buffer)));
    }
    buffers.put(buffer);
    polled.map_ok(|_| None)
}

/// Reads what fits behind what `buffer` holds.
pub fn poll_more<S>(context: &mut Context<'_>, source: &mut S, buffer: &mut Buffer) -> Poll<io::Result<usize>>
where
    S: AsyncRead + Unpin,
{
    poll_more_up_to(context, source, buffer, usize::MAX)
}

/// As [`poll_more`], at most `limit` bytes.
pub fn poll_more_up_to<S>(
    context: &mut Context<'_>,
    source: &mut S,
    buffer: &mut Buffer,
    limit: usize,
) -> Poll<io::Result<usize>>
where
    S: AsyncRead + Unpin,
{
    let room = buffer.room();
    let limit = limit.min(room.len());
    let mut room = ReadBuf::new(&mut room[..limit]);
    ready!(Pin::new(source).poll_read(context, &mut room))?;
    let read = room.filled().len();
    buffer.end += read;
    Poll::Ready(Ok(read))
}
