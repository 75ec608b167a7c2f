//! Reads what an instance wrote, out of the files that its shim keeps.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::state::{Folder, Found};
use super::{Shared, time};
use crate::runtime::{LogLine, LogRequest, LogSource, RuntimeError};

pub(super) const CURRENT: &str = "current";
pub(super) const PREVIOUS: &str = "previous";

/// How often a follower looks for more: no reader notices less, and a shim need not know who reads.
pub(super) const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// A line's text, and what stands before it.
const MAX_STORED_LINE: u64 = (16 << 10) + 64;
/// Lines handed over at once; the files are read on while these are taken.
const BATCH: usize = 1024;

/// Goes through an instance's files, oldest line first, and over to the next file when one is done.
pub(super) struct Reader {
    folder: Folder,
    since: Option<i64>,
    file: Option<BufReader<File>>,
    /// Of the file that is read: another one in its place means that this one is complete.
    inode: u64,
    /// A line that is not complete yet.
    partial: Vec<u8>,
    /// Where a file was read to its end, `CURRENT` is next.
    current: bool,
}

/// What a round of reading found.
pub(super) enum Step {
    Lines(Vec<LogLine>),
    /// Everything that there is was read; the instance runs.
    UpToDate,
    Ended,
}

impl Reader {
    pub(super) fn new(folder: Folder, request: &LogRequest) -> Self {
        let since = request.since.map(time::micros);
        Self { folder, since, file: None, inode: 0, partial: Vec::new(), current: false }
    }

    /// The last lines of what there is.
    pub(super) fn tail(&mut self, count: usize) -> io::Result<Vec<LogLine>> {
        let mut last = VecDeque::new();
        while let Step::Lines(lines) = self.step()? {
            last.extend(lines);
            let surplus = last.len().saturating_sub(count);
            last.drain(..surplus);
        }
        Ok(last.into())
    }

    pub(super) fn step(&mut self) -> io::Result<Step> {
        // Asked first: what is written before the end is there when it is read after the question.
        let over = !matches!(self.folder.find()?, Found::Running(..) | Found::Created(_));
        let mut lines = Vec::new();
        while lines.len() < BATCH {
            match self.line()? {
                Some(line) => lines.extend(line),
                None => break,
            }
        }
        Ok(match (lines.is_empty(), over) {
            (false, _) => Step::Lines(lines),
            (true, true) => Step::Ended,
            (true, false) => Step::UpToDate,
        })
    }

    /// `None`: there is no complete line now. `Some(None)`: one that was not asked for.
    fn line(&mut self) -> io::Result<Option<Option<LogLine>>> {
        loop {
            if self.file.is_none() && !self.open()? {
                return Ok(None);
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            let room = MAX_STORED_LINE.saturating_sub(self.partial.len() as u64).max(1);
            file.by_ref().take(room).read_until(b'\n', &mut self.partial)?;
            if self.partial.last() == Some(&b'\n') || self.partial.len() as u64 >= MAX_STORED_LINE {
                let stored = std::mem::take(&mut self.partial);
                let line = parse(&stored)
                    .filter(|line| self.since.is_none_or(|since| time::micros(line.at) >= since));
                return Ok(Some(line));
            }
            if self.current && !self.was_replaced()? {
                return Ok(None);
            }
            // A file that is not written any more and was read to its end.
            self.file = None;
            self.partial.clear();
            self.current = true;
        }
    }

    /// Whether there is a file to read.
    fn open(&mut self) -> io::Result<bool> {
        if !self.current {
            if self.open_named(PREVIOUS)? {
                return Ok(true);
            }
            self.current = true;
        }
        self.open_named(CURRENT)
    }

    fn open_named(&mut self, name: &str) -> io::Result<bool> {
        let Some(file) = open(&self.folder.logs().join(name))? else { return Ok(false) };
        self.inode = file.metadata()?.ino();
        self.file = Some(BufReader::new(file));
        Ok(true)
    }

    fn was_replaced(&self) -> io::Result<bool> {
        let now = inode(&self.folder.logs().join(CURRENT))?;
        // Between two files there is none for a moment; with the instance's removal, for good.
        Ok(now.is_some_and(|now| now != self.inode))
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `None`: not a line of ours.
fn parse(stored: &[u8]) -> Option<LogLine> {
    let stored = stored.strip_suffix(b"\n").unwrap_or(stored);
    let mut parts = stored.splitn(4, |byte| *byte == b' ');
    let at: i64 = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let source = match parts.next()? {
        b"o" => LogSource::Out,
        b"e" => LogSource::Error,
        _ => return None,
    };
    let _part = parts.next()?;
    Some(LogLine { at: time::from_micros(at), source, text: Bytes::copy_from_slice(parts.next()?) })
}

/// A stream of lines: what is read but not taken yet, and where the rest is.
pub(super) struct Source {
    /// `None` when it has failed: an error is the last item.
    reader: Option<Reader>,
    waiting: VecDeque<LogLine>,
    tail: Option<usize>,
    follow: bool,
    shared: Arc<Shared>,
    doing: String,
}

impl Source {
    pub(super) fn new(reader: Reader, request: &LogRequest, shared: Arc<Shared>, doing: String) -> Self {
        let tail = request.tail.map(|tail| tail as usize);
        Self { reader: Some(reader), waiting: VecDeque::new(), tail, follow: request.follow, shared, doing }
    }

    pub(super) async fn next(mut self) -> Option<(Result<LogLine, RuntimeError>, Self)> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Some((Ok(line), self));
            }
            let reader = self.reader.take()?;
            match read_on(reader, self.tail.take()).await {
                Ok((reader, Step::Lines(lines))) => {
                    self.reader = Some(reader);
                    self.waiting = lines.into();
                }
                Ok((reader, Step::UpToDate)) if self.follow => {
                    self.reader = Some(reader);
                    tokio::time::sleep(FOLLOW_INTERVAL).await;
                }
                Ok((_, Step::UpToDate | Step::Ended)) => return None,
                Err(error) => {
                    let error = self.shared.io(&self.doing, error);
                    return Some((Err(error), self));
                }
            }
        }
    }
}

async fn read_on(mut reader: Reader, tail: Option<usize>) -> io::Result<(Reader, Step)> {
    let read = tokio::task::spawn_blocking(move || {
        let step = match tail {
            Some(count) => Step::Lines(reader.tail(count)?),
            None => reader.step()?,
        };
        Ok((reader, step))
    });
    read.await.map_err(io::Error::other)?
}
