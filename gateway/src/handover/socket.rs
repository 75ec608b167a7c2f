//! The private socket: who may make it, and who may speak on it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{Mode, fchmod};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{Pid, Uid, geteuid};

/// Who waits while one hand-over goes on: those that only ask.
const BACKLOG: i32 = 16;
const OTHERS_WRITE: u32 = 0o022;

/// Opens the socket at `path`, for this user alone. One that nobody serves any more is replaced.
///
/// # Errors
/// When the folder is one where others can put files, or when another process answers there.
pub fn open(path: &Path) -> anyhow::Result<UnixListener> {
    let doing = || format!("cannot open the hand-over socket {}", path.display());
    check_folder(path).with_context(doing)?;
    remove_dead(path).with_context(doing)?;
    listening(path).with_context(doing)
}

/// A connection to whoever serves `path`; `None` when nobody does.
///
/// # Errors
/// When others could have put the socket there, or who is there is somebody else's process or cannot be reached.
pub fn connect(path: &Path) -> anyhow::Result<Option<UnixStream>> {
    let doing = || format!("cannot connect to the hand-over socket {}", path.display());
    if let Err(error) = std::fs::symlink_metadata(path)
        && is_nobody(&error)
    {
        return Ok(None);
    }
    check_folder(path).with_context(doing)?;
    check_socket(path).with_context(doing)?;
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(doing),
    };
    check_peer(&stream).with_context(doing)?;
    stream.set_nonblocking(true).with_context(doing)?;
    Ok(Some(stream))
}

/// Which process is at the other end; of a listener's connection the one that opened the listener.
///
/// # Errors
/// When it is neither this user's nor root's.
pub fn check_peer(stream: &impl AsFd) -> anyhow::Result<Pid> {
    let peer = socket_peercred(stream).context("cannot tell who is there")?;
    let ours = geteuid();
    ensure!(
        peer.uid == ours || peer.uid == Uid::ROOT || ours == Uid::ROOT,
        "process {} is of user {}, and we are of user {}",
        peer.pid.as_raw_nonzero(),
        peer.uid.as_raw(),
        ours.as_raw()
    );
    Ok(peer.pid)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// That is ours alone, as [`open`] makes it.
fn check_socket(path: &Path) -> anyhow::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    ensure!(metadata.file_type().is_socket(), "there is a file that is no socket");
    ensure!(
        metadata.mode() & OTHERS_WRITE == 0,
        "others can connect to it too: its mode is {:04o}, and Sluice makes it 0600; remove it once nobody serves there",
        metadata.mode() & 0o7777
    );
    ensure_ours(metadata.uid(), "the socket")
}

/// Where others can write they could put a socket of their own in our place.
fn check_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().context("it has no folder")?;
    let shown = folder.display();
    let metadata = std::fs::metadata(folder).with_context(|| format!("the folder {shown} cannot be read"))?;
    ensure!(metadata.is_dir(), "{shown} is no folder");
    ensure!(
        metadata.mode() & OTHERS_WRITE == 0,
        "others than its owner can write to the folder {shown}, whose mode is {:04o}; use one such as /run/sluice with mode 0755 or 0700",
        metadata.mode() & 0o7777
    );
    ensure_ours(metadata.uid(), &format!("the folder {shown}"))
}

fn ensure_ours(owner: u32, what: &str) -> anyhow::Result<()> {
    ensure!(
        owner == geteuid().as_raw() || owner == 0,
        "{what} belongs to user {owner}, who is neither root nor we; give it to the user that Sluice runs as"
    );
    Ok(())
}

fn remove_dead(path: &Path) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(metadata) => ensure!(metadata.file_type().is_socket(), "there is a file that is no socket"),
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "a running gateway answers there; `sluice upgrade` or `sluice run --takeover` takes over from it"
        ),
        Err(error) if is_nobody(&error) => Ok(std::fs::remove_file(path)?),
        Err(error) => Err(error.into()),
    }
}

fn listening(path: &Path) -> anyhow::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before it has a name: there is no moment at which others may connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_for_this_user_alone_and_replaces_only_what_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        assert!(connect(&path).unwrap().is_none());
        let listener = open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let stream = connect(&path).unwrap().unwrap();
        assert_eq!(check_peer(&stream).unwrap(), rustix::process::getpid());
        let error = format!("{:#}", open(&path).unwrap_err());
        assert!(error.contains("a running gateway answers there"), "{error}");
        drop(listener);
        assert!(connect(&path).unwrap().is_none());
        open(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "notes").unwrap();
        let error = format!("{:#}", open(&path).unwrap_err());
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused_by_both_sides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        let set_mode =
            |mode| std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
        let _listener = open(&path).unwrap();
        for mode in [0o1777, 0o770, 0o775, 0o707] {
            set_mode(mode);
            for error in [open(&path).err(), connect(&path).err()] {
                let error = format!("{:#}", error.expect("it is refused"));
                assert!(error.contains("can write to the folder") && error.contains("0755"), "{error}");
            }
        }
        set_mode(0o755);
        assert!(connect(&path).unwrap().is_some());
    }

    #[test]
    fn a_socket_that_others_may_use_or_that_is_none_is_not_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.sock");
        let _listener = open(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).unwrap();
        let error = format!("{:#}", connect(&path).unwrap_err());
        assert!(error.contains("its mode is 0660"), "{error}");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let error = format!("{:#}", connect(&link).unwrap_err());
        assert!(error.contains("no socket"), "{error}");
    }
}
