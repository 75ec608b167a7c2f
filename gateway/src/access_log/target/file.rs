//! A file that is moved away when it is large enough.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::access_log::status::Status;

/// `access.log` becomes `access.log.1`, which was moved to `access.log.2` before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Before a file grows beyond it.
    pub bytes: u64,
    /// How many there are beside the one that is written.
    pub keep: u32,
}

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotation: Option<Rotation>,
    file: File,
    bytes: u64,
}

impl LogFile {
    pub fn open(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let (file, bytes) = append(path)?;
        Ok(Self { path: path.to_owned(), rotation, file, bytes })
    }

    /// # Errors
    /// With what was not written. What was may end within a line.
    pub fn write<'l>(&mut self, lines: &'l [u8], status: &Status) -> Result<(), (io::Error, &'l [u8])> {
        if let Some(rotation) = self.rotation
            && self.bytes > 0
            && self.bytes + lines.len() as u64 > rotation.bytes
        {
            match self.rotate(rotation) {
                Ok(()) => status.rotated(),
                // The file goes on growing, which loses nothing; the next batch tries again.
                Err(error) => status.failed("cannot rotate the access log", &error),
            }
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), rest)),
                Ok(count) => {
                    self.bytes += count as u64;
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((error, rest)),
            }
        }
        Ok(())
    }

    pub fn reopen(&mut self, status: &Status) {
        match append(&self.path) {
            Ok((file, bytes)) => (self.file, self.bytes) = (file, bytes),
            Err(error) => status.failed("cannot reopen the access log", &error),
        }
    }

    /// Every step is a rename, which happens as a whole or not at all, and the oldest name goes first: a
    /// rotation that is cut short leaves a gap among the names and loses no lines.
    fn rotate(&mut self, rotation: Rotation) -> io::Result<()> {
        if self.is_ours()? {
            for number in (1..rotation.keep).rev() {
                rename(&self.numbered(number), &self.numbered(number + 1))?;
            }
            match rotation.keep {
                0 => fs::remove_file(&self.path)?,
                _ => rename(&self.path, &self.numbered(1))?,
            }
        }
        (self.file, self.bytes) = append(&self.path)?;
        Ok(())
    }

    /// Whether the name still stands for the file that is written; else somebody has rotated it, another
    /// process of ours or logrotate, and what bears the name now is not ours to move.
    fn is_ours(&self) -> io::Result<bool> {
        let written = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (written.dev(), written.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name: OsString = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// A name that nobody bears yet is no mistake.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn log(&self, bytes: u64, keep: u32) -> LogFile {
            LogFile::open(&self.0.path().join("a.log"), Some(Rotation { bytes, keep })).unwrap()
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn write(log: &mut LogFile, status: &Status, line: &str) {
        log.write(line.as_bytes(), status).map_err(|(error, _)| error).unwrap();
    }

    #[test]
    fn files_move_up_before_they_grow_too_large_and_the_oldest_goes() {
        let (folder, status) = (Folder::new(), Status::default());
        let mut log = folder.log(10, 2);
        for number in 1..=7 {
            write(&mut log, &status, &format!("line{number}\n"));
        }
        // One line of six bytes each: two would be more than ten.
        assert_eq!(folder.names(), ["a.log", "a.log.1", "a.log.2"]);
        let read = ["a.log", "a.log.1", "a.log.2"].map(|name| folder.read(name));
        assert_eq!(read, ["line7\n", "line6\n", "line5\n"]);
        assert_eq!(status.rotations(), 6);
        // What was there before counts.
        let mut again = folder.log(10, 2);
        write(&mut again, &status, "line8\n");
        assert_eq!(folder.read("a.log.1"), "line7\n");
    }

    #[test]
    fn what_is_larger_than_a_file_may_be_gets_one_of_its_own() {
        let (folder, status) = (Folder::new(), Status::default());
        let mut log = folder.log(4, 0);
        write(&mut log, &status, "first line\n");
        write(&mut log, &status, "second line\n");
        assert_eq!((folder.names(), folder.read("a.log")), (vec!["a.log".into()], "second line\n".into()));
    }

    #[test]
    fn a_file_that_somebody_else_moved_is_left_to_him() {
        let (folder, status) = (Folder::new(), Status::default());
        let mut log = folder.log(10, 3);
        write(&mut log, &status, "line1\n");
        let path = folder.0.path().join("a.log");
        fs::rename(&path, folder.0.path().join("moved")).unwrap();
        fs::write(&path, "another's\n").unwrap();
        write(&mut log, &status, "line2\n");
        assert_eq!(folder.names(), ["a.log", "moved"]);
        assert_eq!(
            (folder.read("a.log"), folder.read("moved")),
            ("another's\nline2\n".into(), "line1\n".into())
        );
    }

    #[test]
    fn a_rotation_that_fails_loses_no_line() {
        let (folder, status) = (Folder::new(), Status::default());
        let mut log = folder.log(10, 1);
        // A folder cannot be replaced by a file.
        fs::create_dir(folder.0.path().join("a.log.1")).unwrap();
        fs::write(folder.0.path().join("a.log.1/x"), "").unwrap();
        write(&mut log, &status, "line1\n");
        write(&mut log, &status, "line2\n");
        assert_eq!(folder.read("a.log"), "line1\nline2\n");
        assert_eq!((status.rotations(), status.errors()), (0, 1));
    }
}
