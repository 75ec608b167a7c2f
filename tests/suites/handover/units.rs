//! The units that we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::{Config, DEADLINE, Finished, finish};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/systemd").join(name);
    fs::read_to_string(path).expect("the unit is in the repository")
}

/// The values of `key`, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// What systemd says of the units, with this binary in the place of the installed one.
fn verify(service: &str, folder: &TempDir) -> Finished {
    let binary: PathBuf = tests::sluice().get_program().into();
    let here = service.replace("/usr/bin/sluice", &binary.display().to_string());
    for (name, text) in [("sluice.service", here), ("sluice.socket", shipped("sluice.socket"))] {
        fs::write(folder.path().join(name), text).expect("the folder is ours");
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]);
    command.arg(folder.path().join("sluice.service")).arg(folder.path().join("sluice.socket"));
    finish(&mut command, "", DEADLINE)
}

#[test]
fn systemd_finds_no_mistake_in_the_units() {
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let service = shipped("sluice.service");
    let verified = verify(&service, &folder);
    assert_eq!((verified.code, verified.text().trim()), (Some(0), ""));
    // It would find one.
    let wrong = service.replace("RestrictRealtime=", "RestrictRealTime=");
    assert!(verify(&wrong, &folder).text().contains("RestrictRealTime"));
}

#[test]
fn the_units_run_the_binary_as_it_is() {
    let service = shipped("sluice.service");
    for key in ["ExecStartPre", "ExecStart", "ExecReload"] {
        let [line] = values(&service, key)[..] else { panic!("one {key}") };
        let words: Vec<_> = line.split(' ').collect();
        let ["/usr/bin/sluice", verb, "--config", "/etc/sluice/sluice.toml"] = words[..] else {
            panic!("{key}: {line}")
        };
        // A verb that there is: what it lacks is the file.
        let ended = finish(tests::sluice().args([verb, "--config", "/nowhere/sluice.toml"]), "", DEADLINE);
        assert!(ended.text().contains("/nowhere/sluice.toml"), "{verb}: {}", ended.text());
    }
    assert_eq!(values(&service, "Type"), ["notify"]);
    assert_eq!(values(&service, "NotifyAccess"), ["main"]);
    // The paths in the comments are those that the unit provides.
    let lines = service.lines().filter_map(|line| line.strip_prefix("# ["));
    let said: Vec<_> = lines.filter(|line| line.contains(" = \"/")).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    let socket = shipped("sluice.socket");
    let listener = |key: &str| values(&socket, key)[0].to_owned();
    let quoted = format!("name = \"{}\"", listener("FileDescriptorName"));
    assert!(
        socket.contains(&quoted) && socket.contains(&format!("address = \"{}\"", listener("ListenStream")))
    );
    assert_eq!(Config::WEB, listener("FileDescriptorName"));
}
