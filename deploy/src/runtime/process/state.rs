//! What is kept of each instance on disk, and what can be concluded from it.
//!
//! An instance is a folder, `{state}/{app}/{version}/{instance}`. Its parts, in the order in which they
//! come to be:
//!
//! | file | written by | says |
//! | --- | --- | --- |
//! | `record.json` | the runtime, before it starts anything | this instance is wanted here |
//! | `lock` | its shim, held as long as the shim lives | the instance is looked after |
//! | `shim.json` | its shim, before and after it starts the command | which processes these are |
//! | `control` | its shim: a named pipe | a byte asks the shim to end the instance |
//! | `end.json` | its shim, before it lets go of the lock | how it ended |
//!
//! Process numbers are used again; the lock is not: the kernel lets go of it when the shim ends, however
//! it ends. So whether an instance runs is asked of the lock, and numbers are only believed together
//! with the start time that the kernel has for them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::strays::Identity;
use crate::runtime::{InstanceRef, InstanceState, InstanceStatus};

/// Far beyond anything that we write: what is larger was not written by us.
const MAX_RECORD_BYTES: u64 = 1 << 20;
/// May be passed through, so that a user without rights can reach the files given to it; not listed.
const FOLDER_MODE: u32 = 0o711;
const FILE_MODE: u32 = 0o600;

/// Written before the shim is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) address: SocketAddr,
    pub(super) working_dir: PathBuf,
    pub(super) user: Option<(u32, u32)>,
    /// In microseconds since 1970. Also tells a start from one before the instance was removed.
    pub(super) created_at: i64,
}

/// Written by the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ShimRecord {
    pub(super) shim: Identity,
    pub(super) leader: Option<Identity>,
    pub(super) started_at: i64,
}

/// Written by the shim, or in the place of one that was killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    #[serde(default)]
    pub(super) out_of_memory: bool,
    pub(super) reason: String,
    pub(super) at: i64,
}

/// The lock of an instance, held by this process.
#[derive(Debug)]
pub(super) struct Held {
    _file: File,
    _alone: MutexGuard<'static, ()>,
}

/// A lock of this kind is lost when its process closes any descriptor of the same file: so nobody here
/// looks at a lock while somebody here may hold it.
static LOCKS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    LOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An instance's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

/// What there is of an instance.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// Wanted, and no shim has ever held it.
    Created(Record),
    Running(Record, Option<ShimRecord>),
    Ended(Record, Option<ShimRecord>, End),
    /// Its shim is gone without a word: killed, or the machine was restarted.
    Abandoned(Record, ShimRecord),
}

impl Folder {
    pub(super) fn of(state: &Path, id: &InstanceRef) -> Self {
        let path = state.join(id.app.as_str()).join(id.version.as_str()).join(id.instance.as_str());
        Self { path }
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    pub(super) fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(super) fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    pub(super) fn create(&self) -> io::Result<()> {
        create_folder(&self.path)
    }

    pub(super) fn write_record(&self, record: &Record) -> io::Result<()> {
        write_json(&self.path.join("record.json"), record)
    }

    pub(super) fn write_shim(&self, shim: &ShimRecord) -> io::Result<()> {
        write_json(&self.path.join("shim.json"), shim)
    }

    pub(super) fn write_end(&self, end: &End) -> io::Result<()> {
        write_json(&self.path.join("end.json"), end)
    }

    pub(super) fn read_record(&self) -> io::Result<Option<Record>> {
        read_json(&self.path.join("record.json"))
    }

    pub(super) fn read_end(&self) -> io::Result<Option<End>> {
        read_json(&self.path.join("end.json"))
    }

    pub(super) fn read_shim(&self) -> io::Result<Option<ShimRecord>> {
        read_json(&self.path.join("shim.json"))
    }

    /// The lock is asked before the files: what a shim writes, it writes before it lets go.
    pub(super) fn find(&self) -> io::Result<Found> {
        let held = self.is_held()?;
        let Some(record) = self.read_record()? else {
            return Ok(Found::Nothing);
        };
        let (shim, end) = (self.read_shim()?, self.read_end()?);
        Ok(match (held, end, shim) {
            (true, _, shim) => Found::Running(record, shim),
            (false, Some(end), shim) => Found::Ended(record, shim, end),
            (false, None, Some(shim)) => Found::Abandoned(record, shim),
            (false, None, None) => Found::Created(record),
        })
    }

    /// Whether another process holds the lock. Locks of this kind belong to a process, so that the
    /// shim's children have no part in it.
    pub(super) fn is_held(&self) -> io::Result<bool> {
        let _alone = alone();
        let file = match OpenOptions::new().read(true).write(true).open(self.lock()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(rustix::process::fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))?.is_some())
    }

    /// `None`: another process holds it. As long as it is held, nothing here may [`find`](Self::find).
    pub(super) fn hold(&self) -> io::Result<Option<Held>> {
        let alone = alone();
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(self.lock())?;
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Held { _file: file, _alone: alone })),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Found {
    pub(super) fn status(&self, id: &InstanceRef) -> Option<InstanceStatus> {
        let (record, shim) = match self {
            Self::Nothing => return None,
            Self::Created(record) => (record, None),
            Self::Running(record, shim) | Self::Ended(record, shim, _) => (record, shim.as_ref()),
            Self::Abandoned(record, shim) => (record, Some(shim)),
        };
        let (state, reason) = match self {
            Self::Running(_, Some(ShimRecord { leader: Some(_), .. })) => {
                (InstanceState::Running, "running".to_owned())
            }
            Self::Nothing | Self::Created(_) | Self::Running(..) => {
                (InstanceState::Created, "not started yet".to_owned())
            }
            Self::Ended(_, _, end) => (end.state(), end.reason.clone()),
            Self::Abandoned(..) => (InstanceState::Unknown, "its supervisor is gone".to_owned()),
        };
        let end = match self {
            Self::Ended(_, _, end) => Some(end),
            _ => None,
        };
        let leader = shim.and_then(|shim| shim.leader.as_ref());
        Some(InstanceStatus {
            id: id.clone(),
            state,
            reason,
            address: Some(record.address),
            runtime_id: leader.map(|leader| format!("process {}", leader.pid)).unwrap_or_default(),
            started_at: shim.map(|shim| super::time::from_micros(shim.started_at)),
            ended_at: end.map(|end| super::time::from_micros(end.at)),
        })
    }
}

impl End {
    pub(super) fn state(&self) -> InstanceState {
        if self.out_of_memory {
            return InstanceState::OutOfMemory;
        }
        InstanceState::Exited { code: self.code, signal: self.signal }
    }

    /// Of an instance whose shim was killed.
    pub(super) fn unseen(reason: &str) -> Self {
        Self {
            code: None,
            signal: None,
            out_of_memory: false,
            reason: reason.to_owned(),
            at: super::time::micros_now(),
        }
    }
}

pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Creates a file that only its owner may read.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
}

/// Whole or not at all, also when the machine stops.
fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = create_file(&next)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&next, path)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_RECORD_BYTES).read_to_end(&mut text)?;
    let read = serde_json::from_slice(&text);
    read.map(Some).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {error}", path.display()))
    })
}
