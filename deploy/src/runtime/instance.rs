//! What a runtime is told of an instance, and what it tells.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use topology::{AppId, InstanceId, VersionId};

/// Which instance: never an address, a port or a process number, which are used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceRef {
    pub app: AppId,
    pub version: VersionId,
    pub instance: InstanceId,
}

impl fmt::Display for InstanceRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.app, self.version, self.instance)
    }
}

/// A name that no other instance of no other scope has, which people can read too: 120 characters at
/// most, of those that ids have.
pub(super) fn unique_name(scope: &str, id: &InstanceRef) -> String {
    let short = |name: &str| name.chars().take(48).collect::<String>();
    let whole = format!("{scope}\0{id}");
    // FNV-1a: the same in every version of Sluice, which a standard hasher does not promise.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = whole.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{}-{}-{hash:016x}", short(id.app.as_str()), short(id.instance.as_str()))
}

/// What to run.
#[derive(Clone)]
pub struct InstanceSpec {
    pub id: InstanceRef,
    /// What a container is made of; a process runtime has no use for it.
    pub image: Option<Image>,
    /// Program and arguments. May be empty where the image says what it runs.
    pub command: Vec<String>,
    /// All that the instance sees beside `PORT` and what the image sets; values may be secret, and are
    /// never written to disk by us nor logged.
    pub environment: BTreeMap<String, String>,
    /// Where the command starts, in the instance's own view of files.
    pub working_dir: Option<PathBuf>,
    /// User, or `user:group`, by name or number; default: the image's, or ours.
    pub user: Option<String>,
    pub port: PortBinding,
    pub resources: Resources,
    pub volumes: Vec<Volume>,
    /// Written before the command starts: configuration and secrets.
    pub files: Vec<InjectedFile>,
    pub log: LogOptions,
    /// On top of ours, on containers.
    pub labels: BTreeMap<String, String>,
}

/// The name an image is pulled by: `registry/repository:tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Host and port; `None`: what the engine takes for its default.
    pub registry: Option<String>,
    /// By custom the app's id.
    pub repository: String,
    /// By custom the version; `sha256:…` names a digest.
    pub tag: String,
}

impl Image {
    /// `registry/repository:tag`, or `@` before a digest.
    pub fn reference(&self) -> String {
        let registry = self.registry.as_ref().map(|registry| format!("{registry}/")).unwrap_or_default();
        let separator = if self.tag.contains(':') { '@' } else { ':' };
        format!("{registry}{}{separator}{}", self.repository, self.tag)
    }
}

/// Where an instance is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortBinding {
    /// The host's address that the port is published on.
    pub address: IpAddr,
    /// From the host's range, claimed by whoever calls; never 0.
    pub host_port: u16,
    /// What the instance listens on inside, and finds in `PORT`. Processes listen on `host_port`.
    pub container_port: u16,
}

/// What an instance may use. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// In bytes; swap is not given on top.
    pub memory: Option<u64>,
    /// A share of the processors when there are too few, in Docker's terms: 1024 is the usual.
    pub cpu_shares: Option<u32>,
    /// Time of processors at most, in thousandths of one: 1500 is one and a half.
    pub cpu_millis: Option<u32>,
    /// Processes and threads at most.
    pub pids: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// A folder of the host, or the name of a volume of the engine.
    pub source: String,
    /// Absolute, in the instance's view.
    pub target: String,
    pub read_only: bool,
}

/// A file that only the instance's user may read.
#[derive(Clone, PartialEq, Eq)]
pub struct InjectedFile {
    /// Absolute. For a process it is taken below the folder that it finds in `SLUICE_FILES`, as it has
    /// no root of its own.
    pub path: String,
    pub content: Bytes,
}

/// Where output goes and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// The engine's log driver and its options; `None`: bounded files, which [`logs`] can read.
    ///
    /// [`logs`]: super::Runtime::logs
    pub driver: Option<String>,
    pub options: BTreeMap<String, String>,
    /// In bytes, of all that is kept; `None`: 10 MiB.
    pub keep: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceStatus {
    pub id: InstanceRef,
    pub state: InstanceState,
    /// Why, in words: `ended with code 3`, `killed by signal 9`, `outgrew its memory limit of 64 MiB`.
    pub reason: String,
    /// Where it is reached, as its spec had it.
    pub address: Option<SocketAddr>,
    /// The engine's name for it: a container id, or a process number. For people.
    pub runtime_id: String,
    pub started_at: Option<SystemTime>,
    pub ended_at: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// It is being made; a start that was cut off leaves it so, and a repeated start goes on from here.
    Created,
    Running,
    Exited {
        /// `None` when a signal killed it, or nobody saw how it ended.
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// The kernel killed it as it outgrew its memory limit.
    OutOfMemory,
    /// The host cannot say, see the reason. Neither running nor ended may be concluded.
    Unknown,
}

impl InstanceState {
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Exited { .. } | Self::OutOfMemory)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRequest {
    pub follow: bool,
    pub since: Option<SystemTime>,
    /// Only the last lines; `None`: all that is kept.
    pub tail: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub at: SystemTime,
    pub source: LogSource,
    /// Without its line end; a line beyond 16 KiB comes in pieces.
    pub text: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    Out,
    Error,
}

#[derive(Clone)]
pub struct ExecRequest {
    pub command: Vec<String>,
    /// On top of the instance's own.
    pub environment: BTreeMap<String, String>,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    pub end: ExecEnd,
    /// Both streams as they came, 64 KiB at most.
    pub output: Bytes,
    pub truncated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEnd {
    Exited(i32),
    Signalled(i32),
    /// A process is killed then; in a container, whose engine has no call for it, it goes on unseen.
    TimedOut,
}

/// What a host has, and what it cannot do.
#[derive(Debug, Clone, PartialEq)]
pub struct HostFacts {
    /// `Docker 20.10.24`, `process`.
    pub runtime: String,
    pub cpus: u32,
    /// In bytes.
    pub memory: u64,
    /// In bytes, as the host's kernel has it; `None` where the host does not tell: count what was given
    /// out.
    pub memory_available: Option<u64>,
    /// Runnable tasks over the last minute; `None` where the host does not tell.
    pub load: Option<f64>,
    /// What of [`Resources`] this host cannot hold instances to and why, and whatever else its operator
    /// should know.
    pub limitations: Vec<String>,
}
