//! A tar archive of an instance's files, in the form of POSIX.1-1988 (ustar).

use bytes::{BufMut, Bytes, BytesMut};

use crate::runtime::InjectedFile;

const BLOCK: usize = 512;
/// Of a name's last part, and of what stands before it.
const MAX_NAME: usize = 100;
const MAX_PREFIX: usize = 155;

/// # Errors
/// What is wrong with the path, to be read after it.
pub(super) fn check(path: &str) -> Result<(), &'static str> {
    let Some(relative) = path.strip_prefix('/') else { return Err("is not absolute") };
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) || relative.contains('\0') {
        return Err("has parts that are no names");
    }
    split(relative).map(drop).ok_or("is too long")
}

/// Files of `user`, who alone may read them; without one, of root, and everybody in the container may.
pub(super) fn archive(files: &[InjectedFile], user: Option<(u32, u32)>) -> Bytes {
    let mut archive = BytesMut::new();
    for file in files {
        let Some((prefix, name)) = file.path.strip_prefix('/').and_then(split) else { continue };
        archive.put_slice(&header(prefix, name, file.content.len(), user));
        archive.put_slice(&file.content);
        archive.put_bytes(0, file.content.len().next_multiple_of(BLOCK) - file.content.len());
    }
    archive.put_bytes(0, 2 * BLOCK);
    archive.freeze()
}

fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= MAX_NAME {
        return Some(("", path));
    }
    let fits = |(at, _): &(usize, &str)| *at <= MAX_PREFIX && path.len() - at - 1 <= MAX_NAME;
    let (at, _) = path.match_indices('/').find(fits)?;
    Some((&path[..at], &path[at + 1..]))
}

fn header(prefix: &str, name: &str, size: usize, user: Option<(u32, u32)>) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    let (owner, group) = user.unwrap_or_default();
    let mode = if user.is_some() { 0o400 } else { 0o444 };
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0{owner:07o}\0{group:07o}\0").as_bytes());
    put(124, format!("{size:011o}\0{:011o}\0", 0).as_bytes());
    // While the sum is made its place is blank.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tar_reads_what_is_written() {
        let long = format!("/{}/{}", "folder/".repeat(15), "name");
        let long = long.replace("//", "/");
        let files = [
            InjectedFile { path: "/etc/app.conf".into(), content: Bytes::from("a = 1\n") },
            InjectedFile { path: long.clone(), content: Bytes::from(vec![b'x'; 1000]) },
        ];
        let folder = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-x", "--no-same-owner", "-C"]).arg(folder.path()).stdin(Stdio::piped());
        let mut tar = tar.spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&archive(&files, Some((1000, 1000)))).unwrap();
        assert!(tar.wait().unwrap().success());
        for file in &files {
            let found = folder.path().join(&file.path[1..]);
            assert_eq!(std::fs::read(&found).unwrap(), file.content);
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_or_do_not_fit_are_refused() {
        for bad in
            ["etc/x", "/", "/a/../b", "/a//b", "/a/", &format!("/{}", "x".repeat(101)), &"/x".repeat(200)]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("/run/secrets/key.pem").is_ok());
    }
}
