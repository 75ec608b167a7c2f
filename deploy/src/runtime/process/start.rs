//! Starts an instance: what is wanted is written down before anything is started.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::shim::{Answer, Order};
use super::state::{Folder, Found, Record};
use super::{ProcessRuntime, Shared, state, strays, time, user};
use crate::runtime::{Fault, InstanceSpec, InstanceStatus, RuntimeError};

/// A shim answers within milliseconds, on a busy machine within a second.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// Where nobody says: enough to see what happened in the last hours, little enough for a hundred
/// instances on a small disk.
const KEEP_BYTES: u64 = 10 << 20;
/// Where a command is looked for when neither the spec nor our own environment says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn start(
    runtime: &ProcessRuntime,
    spec: &InstanceSpec,
) -> Result<InstanceStatus, RuntimeError> {
    let id = &spec.id;
    let found = runtime.find(id, "start").await?;
    if !matches!(found, Found::Nothing | Found::Created(_)) {
        return found.status(id).ok_or_else(|| runtime.error(Fault::Failed, id, "start", "it is gone again"));
    }
    let prepare = spec.clone();
    let prepared =
        runtime.on_disk(format!("start {id}"), move |shared| prepare_order(shared, &prepare)).await;
    let answered = match prepared {
        Ok(order) => run_shim(runtime, spec, &order).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(()) => {}
        Err(error) if error.may_have_happened => return Err(error),
        Err(error) => {
            let id = id.clone();
            runtime.on_disk(format!("start {id}"), move |shared| super::stop::forget(shared, &id)).await?;
            return Err(error);
        }
    }
    let status = runtime.find(id, "start").await?.status(id);
    status.ok_or_else(|| runtime.error(Fault::Failed, id, "start", "it was removed meanwhile"))
}

fn prepare_order(shared: &Shared, spec: &InstanceSpec) -> Result<Order, RuntimeError> {
    let doing = format!("start {}", spec.id);
    let invalid = |reason: String| shared.error(Fault::InvalidSpec, doing.clone(), reason);
    let io = |error| shared.io(&doing, error);
    let order = check(shared, spec).map_err(invalid)?;
    if let Some(driver) = &spec.log.driver {
        let reason = format!("log.driver: a process's output goes to files, not to `{driver}`; leave it out");
        return Err(shared.error(Fault::Unsupported, doing, reason));
    }
    let address = SocketAddr::new(spec.port.address, spec.port.host_port);
    check_port(shared, &doing, address)?;
    let folder = shared.folder(&spec.id);
    folder.create().map_err(io)?;
    let (working_dir, user) = (order.working_dir.clone(), order.user);
    let record = Record { address, working_dir, user, created_at: order.created_at };
    folder.write_record(&record).map_err(io)?;
    write_files(&folder, spec, user).map_err(io)?;
    let name = super::cgroup_name(&shared.config.state, &spec.id);
    let cgroup =
        shared.cgroups.create(&name, &spec.resources).map_err(|error| shared.limit(&doing, error))?;
    if let Some(lacking) = cgroup.unsupported(&spec.resources) {
        tracing::warn!(instance = %spec.id, "runs without a limit that its spec asks for: {lacking}");
    }
    Ok(Order {
        entrances: cgroup.entrances(),
        cgroups: cgroup.folders(),
        oom_counter: cgroup.oom_counter(),
        own_cgroup: shared.cgroups.shims(),
        ..order
    })
}

/// What the spec alone says, or the field that is wrong.
fn check(shared: &Shared, spec: &InstanceSpec) -> Result<Order, String> {
    if spec.command.first().is_none_or(String::is_empty) {
        return Err("command: a process needs one, as it has no image to say what to run".to_owned());
    }
    let nul = |text: &str| text.contains('\0');
    if spec.command.iter().any(|word| nul(word)) {
        return Err("command: no word of it may contain a NUL".to_owned());
    }
    for (name, value) in &spec.environment {
        if name.is_empty() || name.contains('=') || nul(name) || nul(value) {
            return Err(format!("environment: `{}` cannot be a variable", name.escape_default()));
        }
    }
    if spec.port.host_port == 0 {
        return Err("port.host_port: 0 is no port".to_owned());
    }
    for volume in &spec.volumes {
        if volume.source != volume.target || volume.read_only {
            return Err(format!(
                "volumes: `{}`: a process sees the machine's folders where they are and as they are; name the \
                 same source and target, not read-only",
                volume.target
            ));
        }
    }
    for file in &spec.files {
        relative(&file.path)
            .ok_or_else(|| format!("files: `{}` is not absolute or leaves the root", file.path))?;
    }
    let user = spec.user.as_deref().map(user::parse).transpose().map_err(|error| format!("user: {error}"))?;
    let working_dir = spec.working_dir.clone().unwrap_or_else(|| PathBuf::from("/"));
    if !working_dir.is_absolute() || !working_dir.is_dir() {
        return Err(format!("working_dir: {} is not an absolute path to a folder", working_dir.display()));
    }
    let folder = shared.folder(&spec.id);
    Ok(Order {
        command: spec.command.clone(),
        environment: environment(spec, &folder).into_iter().collect(),
        folder: folder.path,
        created_at: time::micros_now(),
        working_dir,
        user,
        keep: spec.log.keep.unwrap_or(KEEP_BYTES),
        entrances: Vec::new(),
        cgroups: Vec::new(),
        oom_counter: None,
        own_cgroup: None,
    })
}

/// Ours first, so that the spec can say otherwise; but the mark and the port are facts.
fn environment(spec: &InstanceSpec, folder: &Folder) -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned());
    let mut environment = BTreeMap::from([("PATH".to_owned(), path)]);
    environment.extend(spec.environment.clone());
    let facts = [
        ("PORT", spec.port.host_port.to_string()),
        ("SLUICE_ADDRESS", spec.port.address.to_string()),
        ("SLUICE_APP", spec.id.app.to_string()),
        ("SLUICE_VERSION", spec.id.version.to_string()),
        ("SLUICE_INSTANCE", spec.id.instance.to_string()),
        ("SLUICE_FILES", folder.files().display().to_string()),
        (strays::MARK, folder.path.display().to_string()),
    ];
    environment.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    environment
}

/// Whoever comes between this and the command's own listening is found by its probes; whoever was here
/// before is named at once.
fn check_port(shared: &Shared, doing: &str, address: SocketAddr) -> Result<(), RuntimeError> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let (fault, reason) = match error.kind() {
        io::ErrorKind::AddrInUse => (Fault::PortTaken, format!("somebody else listens on {address}")),
        io::ErrorKind::AddrNotAvailable => {
            (Fault::InvalidSpec, format!("port.address: {} is no address of this machine", address.ip()))
        }
        _ => (Fault::Failed, format!("cannot listen on {address}: {error}")),
    };
    Err(RuntimeError { source: Some(Box::new(error)), ..shared.error(fault, doing.to_owned(), reason) })
}

fn write_files(folder: &Folder, spec: &InstanceSpec, user: Option<(u32, u32)>) -> io::Result<()> {
    let root = folder.files();
    let own = |path: &Path| match user {
        Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
        None => Ok(()),
    };
    state::create_folder(&root)?;
    for file in &spec.files {
        let path = root.join(relative(&file.path).ok_or(io::ErrorKind::InvalidInput)?);
        state::create_folder(path.parent().unwrap_or(&root))?;
        let mut written = state::create_file(&path)?;
        written.write_all(&file.content)?;
        own(&path)?;
    }
    Ok(())
}

/// An absolute path without its root, unless it leads out of it.
fn relative(path: &str) -> Option<PathBuf> {
    let path = Path::new(path).strip_prefix("/").ok()?;
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    (inside && path.file_name().is_some()).then(|| path.to_owned())
}

async fn run_shim(runtime: &ProcessRuntime, spec: &InstanceSpec, order: &Order) -> Result<(), RuntimeError> {
    let id = &spec.id;
    let answer = tokio::time::timeout(ANSWER_DEADLINE, ask_shim(runtime, order)).await;
    let may_have = |error: RuntimeError| RuntimeError { may_have_happened: true, ..error };
    let (fault, reason) = match answer {
        Err(_) => {
            let reason = "its supervisor did not answer in time";
            return Err(may_have(runtime.error(Fault::Timeout, id, "start", reason)));
        }
        Ok(Err(error)) => {
            let reason = format!("cannot run its supervisor: {error}");
            return Err(may_have(runtime.error(Fault::Failed, id, "start", reason)));
        }
        // Another Sluice on this folder was quicker.
        Ok(Ok(Answer::Started | Answer::Held)) => return Ok(()),
        Ok(Ok(Answer::NoSuchCommand(reason))) => (Fault::CommandNotFound, reason),
        Ok(Ok(Answer::OutOfResources(reason))) => (Fault::OutOfResources, reason),
        Ok(Ok(Answer::Failed(reason))) => (Fault::Failed, reason),
    };
    Err(runtime.error(fault, id, "start", reason))
}

/// Once the order is given the shim needs nobody: that we go away stops nothing.
async fn ask_shim(runtime: &ProcessRuntime, order: &Order) -> io::Result<Answer> {
    let text = serde_json::to_vec(order)?;
    let shim = &runtime.shared.config.shim;
    let mut command = Command::new(&shim.program);
    command
        .args(&shim.arguments)
        .env_clear()
        .envs(shim.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    stdin.write_all(&text).await?;
    drop(stdin);
    let mut lines = BufReader::new(stdout.take(MAX_ANSWER_BYTES)).lines();
    while let Some(line) = lines.next_line().await? {
        if let Ok(answer) = serde_json::from_str(&line) {
            return Ok(answer);
        }
    }
    Err(io::Error::other("it ended without an answer"))
}
