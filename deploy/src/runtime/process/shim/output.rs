//! Keeps what the command writes: the last so many bytes of it, in two files.
//!
//! A line in a file is `MICROSECONDS STREAM PART TEXT`: when it was read, `o` or `e`, and `F` where the
//! line ends there or `P` where it goes on in the next of that stream.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::runtime::process::logs::{CURRENT, PREVIOUS};
use crate::runtime::process::state::create_folder;
use crate::runtime::process::time;

/// Longer lines are cut: what is remembered of one that never ends is bounded.
pub(super) const MAX_LINE_BYTES: usize = 16 << 10;
/// What a pipe holds at most, unless somebody made it larger.
const READ_BYTES: usize = 64 << 10;
/// The largest pipe that the kernel gives to anybody by default is 1 MiB.
const MAX_LAST_READS: usize = 64;
pub(super) struct Output {
    file: File,
    folder: PathBuf,
    written: u64,
    /// Of one file: half of what is kept.
    capacity: u64,
    /// Bytes that could not be written, since the disk was full.
    lost: usize,
    streams: Vec<Stream>,
    buffer: Vec<u8>,
}

struct Stream {
    letter: char,
    pipe: OwnedFd,
    line: Vec<u8>,
}

impl Output {
    pub(super) fn open(folder: &Path, keep: u64) -> io::Result<Self> {
        create_folder(folder)?;
        let file = create(&folder.join(CURRENT))?;
        let capacity = (keep / 2).max(MAX_LINE_BYTES as u64);
        let (streams, buffer) = (Vec::new(), vec![0; READ_BYTES]);
        Ok(Self { file, folder: folder.to_owned(), written: 0, capacity, lost: 0, streams, buffer })
    }

    pub(super) fn take(&mut self, child: &mut Child) -> io::Result<()> {
        let out = child.stdout.take().map(OwnedFd::from);
        let error = child.stderr.take().map(OwnedFd::from);
        for (letter, pipe) in [('o', out), ('e', error)] {
            let pipe = pipe.ok_or(io::ErrorKind::BrokenPipe)?;
            rustix::io::ioctl_fionbio(&pipe, true)?;
            self.streams.push(Stream { letter, pipe, line: Vec::new() });
        }
        Ok(())
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|stream| stream.pipe.as_fd())
    }

    /// Takes what one read of each stream gives; the rest is there the next time. Returns whether there
    /// was anything.
    pub(super) fn drain(&mut self) -> bool {
        let (mut text, mut any) = (Vec::new(), false);
        let buffer = &mut self.buffer;
        self.streams.retain_mut(|stream| match rustix::io::read(&stream.pipe, &mut *buffer) {
            Ok(count @ 1..) => {
                stream.add(&buffer[..count], &mut text);
                any = true;
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
            Ok(0) | Err(_) => {
                stream.end(&mut text);
                false
            }
        });
        self.write(&text);
        any
    }

    /// Takes what is left, and lines that never ended. Whoever could still write is dead, so that a pipe
    /// holds what it can at most; should somebody have escaped, there is a bound.
    pub(super) fn finish(&mut self) {
        let mut rounds = 0;
        while rounds < MAX_LAST_READS && self.drain() {
            rounds += 1;
        }
        let mut text = Vec::new();
        for stream in &mut self.streams {
            stream.end(&mut text);
        }
        self.write(&text);
        let _kept_in_memory = self.file.sync_all();
    }

    /// A full disk costs output, never the instance.
    fn write(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if self.lost > 0 {
            let note = format!("{} e F ({} bytes of output were lost)\n", time::micros_now(), self.lost);
            if self.file.write_all(note.as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        if self.written > 0 && self.written + text.len() as u64 > self.capacity {
            self.rotate();
        }
        match self.file.write_all(text) {
            Ok(()) => self.written += text.len() as u64,
            Err(_) => self.lost = self.lost.saturating_add(text.len()),
        }
    }

    fn rotate(&mut self) {
        let current = self.folder.join(CURRENT);
        let moved = fs::rename(&current, self.folder.join(PREVIOUS)).and_then(|()| create(&current));
        if let Ok(file) = moved {
            self.file = file;
            self.written = 0;
        }
    }
}

impl Stream {
    fn add(&mut self, mut bytes: &[u8], text: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], text);
            self.put('F', text);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, text);
    }

    fn extend(&mut self, mut bytes: &[u8], text: &mut Vec<u8>) {
        while self.line.len() + bytes.len() > MAX_LINE_BYTES {
            let (now, later) = bytes.split_at(MAX_LINE_BYTES - self.line.len());
            self.line.extend_from_slice(now);
            self.put('P', text);
            bytes = later;
        }
        self.line.extend_from_slice(bytes);
    }

    fn end(&mut self, text: &mut Vec<u8>) {
        if !self.line.is_empty() {
            self.put('F', text);
        }
    }

    fn put(&mut self, part: char, text: &mut Vec<u8>) {
        let head = format!("{} {} {part} ", time::micros_now(), self.letter);
        text.extend_from_slice(head.as_bytes());
        text.append(&mut self.line);
        text.push(b'\n');
    }
}

/// Appended to, so that a reader who follows sees whole writes.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
