//! What a shim is told, and what it answers.

use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::runtime::process::cgroup::OomCounter;

/// The kernel takes arguments and environments of 6 MiB at most, and escaping doubles some.
const MAX_ORDER_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
pub(in super::super) struct Order {
    pub(in super::super) folder: PathBuf,
    /// As in the record that this order belongs to.
    pub(in super::super) created_at: i64,
    /// Program and arguments; never empty.
    pub(in super::super) command: Vec<String>,
    /// All that the command finds.
    pub(in super::super) environment: Vec<(String, String)>,
    pub(in super::super) working_dir: PathBuf,
    pub(in super::super) user: Option<(u32, u32)>,
    /// Bytes of output to keep.
    pub(in super::super) keep: u64,
    /// Where the command's process writes its number to, each.
    pub(in super::super) entrances: Vec<PathBuf>,
    pub(in super::super) cgroups: Vec<PathBuf>,
    pub(in super::super) oom_counter: Option<OomCounter>,
    /// Where the shim writes its own.
    pub(in super::super) own_cgroup: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Answer {
    Started,
    /// Another shim has, or had, the instance.
    Held,
    NoSuchCommand(String),
    OutOfResources(String),
    Failed(String),
}

impl Order {
    pub(super) fn read(source: impl Read) -> io::Result<Self> {
        let mut text = Vec::new();
        source.take(MAX_ORDER_BYTES).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

impl Answer {
    pub(super) fn failed(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
                Self::OutOfResources(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}
