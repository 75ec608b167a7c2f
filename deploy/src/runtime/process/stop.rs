//! Ends instances, and forgets them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::time::Instant;

use super::shim::{ASK_TO_END, KILL};
use super::state::{End, Folder, Found};
use super::{ProcessRuntime, REMOVED, Shared, state};
use crate::runtime::{Fault, InstanceRef, InstanceStatus, RuntimeError};

/// The kernel needs as long to end a process that holds much memory.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// How often an instance without a handle is looked at: one whose shim is just starting, or ending.
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn stop(
    runtime: &ProcessRuntime,
    id: &InstanceRef,
    grace: Duration,
) -> Result<Option<InstanceStatus>, RuntimeError> {
    if let Some(status) = not_running(runtime, id).await? {
        return Ok(status);
    }
    if grace > Duration::ZERO {
        tell(runtime, id, ASK_TO_END).await?;
        if let Some(status) = ended_within(runtime, id, grace).await? {
            return Ok(status);
        }
    }
    tell(runtime, id, KILL).await?;
    if let Some(status) = ended_within(runtime, id, KILL_DEADLINE).await? {
        return Ok(status);
    }
    // The shim itself does not answer: stopped by somebody, or waiting for a disk.
    force(runtime, id).await?;
    if let Some(status) = ended_within(runtime, id, KILL_DEADLINE).await? {
        return Ok(status);
    }
    let mut error =
        runtime.error(Fault::Timeout, id, "stop", "its processes do not die when they are killed");
    error.may_have_happened = true;
    Err(error)
}

pub(super) async fn remove(runtime: &ProcessRuntime, id: &InstanceRef) -> Result<(), RuntimeError> {
    let _ended = stop(runtime, id, Duration::ZERO).await?;
    let turn = runtime.shared.turn(id);
    let _mine = turn.lock().await;
    let id = id.clone();
    runtime.on_disk(format!("remove {id}"), move |shared| forget(shared, &id)).await
}

pub(super) async fn wait(
    runtime: &ProcessRuntime,
    id: &InstanceRef,
    at_most: Duration,
) -> Result<Option<InstanceStatus>, RuntimeError> {
    if let Some(status) = ended_within(runtime, id, at_most).await? {
        return Ok(status);
    }
    Ok(runtime.find(id, "wait for").await?.status(id))
}

/// Outer `None`: it runs. An instance that was never started is as one that ended.
async fn not_running(
    runtime: &ProcessRuntime,
    id: &InstanceRef,
) -> Result<Option<Option<InstanceStatus>>, RuntimeError> {
    let found = runtime.find(id, "stop").await?;
    Ok(match found {
        Found::Nothing => Some(None),
        Found::Ended(..) => Some(found.status(id)),
        Found::Created(_) => Some(end_created(runtime, id).await?),
        Found::Running(..) | Found::Abandoned(..) => None,
    })
}

/// So that a start that is still under way finds that it is too late.
async fn end_created(
    runtime: &ProcessRuntime,
    id: &InstanceRef,
) -> Result<Option<InstanceStatus>, RuntimeError> {
    let turn = runtime.shared.turn(id);
    let _mine = turn.lock().await;
    let of = id.clone();
    let end = move |shared: &Shared| {
        let folder = shared.folder(&of);
        let write = || -> io::Result<Found> {
            if let Some(_lock) = folder.hold()?
                && folder.read_record()?.is_some()
                && folder.read_shim()?.is_none()
                && folder.read_end()?.is_none()
            {
                folder.write_end(&End::unseen("stopped before it was started"))?;
            }
            folder.find()
        };
        write().map_err(|error| shared.io(&format!("stop {of}"), error))
    };
    Ok(runtime.on_disk(format!("stop {id}"), end).await?.status(id))
}

/// Outer `None`: it still runs. Looks at it once at least.
async fn ended_within(
    runtime: &ProcessRuntime,
    id: &InstanceRef,
    at_most: Duration,
) -> Result<Option<Option<InstanceStatus>>, RuntimeError> {
    let until = Instant::now() + at_most;
    loop {
        let found = runtime.find(id, "wait for").await?;
        match &found {
            Found::Nothing => return Ok(Some(None)),
            Found::Ended(..) => return Ok(Some(found.status(id))),
            Found::Running(_, shim) => {
                let shim = shim.as_ref().map(|shim| shim.shim.clone());
                let end = async {
                    match shim.and_then(|shim| shim.open()) {
                        Some(handle) => wait_for(handle).await,
                        None => tokio::time::sleep(POLL).await,
                    }
                };
                if tokio::time::timeout_at(until, end).await.is_err() {
                    return Ok(None);
                }
            }
            Found::Created(_) | Found::Abandoned(..) => {
                if Instant::now() >= until {
                    return Ok(None);
                }
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// Until the process has ended, or a moment when the system does not tell.
async fn wait_for(process: std::os::fd::OwnedFd) {
    match crate::runtime::child::watch(process) {
        Ok(ended) => drop(ended.readable().await),
        Err(_) => tokio::time::sleep(POLL).await,
    }
}

/// One that is gone is told nothing: what it wrote is found by whoever looks next.
async fn tell(runtime: &ProcessRuntime, id: &InstanceRef, word: u8) -> Result<(), RuntimeError> {
    let of = id.clone();
    let tell = move |shared: &Shared| {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let control = shared.folder(&of).control();
        let told = fs::OpenOptions::new().write(true).custom_flags(flags).open(control);
        match told.and_then(|mut control| control.write_all(&[word])) {
            Err(error) if !is_gone(&error) => Err(shared.io(&format!("stop {of}"), error)),
            _told_or_gone => Ok(()),
        }
    };
    runtime.on_disk(format!("stop {id}"), tell).await
}

/// Nobody reads the pipe, there is none any more, or it is full of what nobody reads.
fn is_gone(error: &io::Error) -> bool {
    let nobody = [rustix::io::Errno::NXIO, rustix::io::Errno::PIPE].map(rustix::io::Errno::raw_os_error);
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock)
        || error.raw_os_error().is_some_and(|errno| nobody.contains(&errno))
}

async fn force(runtime: &ProcessRuntime, id: &InstanceRef) -> Result<(), RuntimeError> {
    let of = id.clone();
    let force = move |shared: &Shared| {
        let folder = shared.folder(&of);
        if let Ok(Some(shim)) = folder.read_shim() {
            shared.kill_processes(&of, &folder, &shim);
        }
        Ok(())
    };
    runtime.on_disk(format!("stop {id}"), force).await
}

/// Takes away an instance that does not run: its cgroup, then its folder. The folder is moved away in
/// one step, so that no half of it is found.
pub(super) fn forget(shared: &Shared, id: &InstanceRef) -> Result<(), RuntimeError> {
    let doing = format!("remove {id}");
    let folder = shared.folder(id);
    let io = |error| shared.io(&doing, error);
    if !folder.path.exists() {
        return Ok(());
    }
    let Some(_lock) = folder.hold().map_err(io)? else {
        return Err(shared.error(Fault::Conflict, doing, "it was started again meanwhile"));
    };
    shared.cgroup(id).remove().map_err(io)?;
    move_away(shared, &folder).map_err(io)?;
    // The folders of the version and the app go with their last instance.
    for parent in folder.path.ancestors().skip(1).take(2) {
        let _others_are_there = fs::remove_dir(parent);
    }
    Ok(())
}

fn move_away(shared: &Shared, folder: &Folder) -> io::Result<()> {
    let removed = shared.config.state.join(REMOVED);
    state::create_folder(&removed)?;
    let name = format!("{}-{}", std::process::id(), super::time::micros_now());
    let place = removed.join(name);
    fs::rename(&folder.path, &place)?;
    fs::remove_dir_all(place)
}
