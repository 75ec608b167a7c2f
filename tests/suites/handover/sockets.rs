//! Where the hand-over socket lies.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::process::Signal;
use tests::{Config, DEADLINE, Endpoint, Gateway, finish, sluice};

#[test]
fn it_is_for_one_user_and_stays_until_the_last_process_stops() {
    let endpoint = Endpoint::start("c1");
    let mut gateway = Gateway::start(&Config::in_front_of(endpoint.address()).handover());
    let path = gateway.folder().join("gw.sock");
    let mode = || fs::metadata(&path).expect("it is there").mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let inode = fs::metadata(&path).expect("it is there").ino();
    let mut former = gateway.hand_over();
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
    // The same one: nobody can find it missing.
    assert_eq!((mode(), fs::metadata(&path).expect("it is there").ino()), (0o600, inode));
    // The last process takes it away.
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn a_folder_that_everybody_can_write_to_is_refused() {
    let folder = tempfile::TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let open = folder.path().join("open");
    fs::create_dir(&open).expect("the folder is ours");
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).expect("the folder is ours");
    let config = "[registry]\npath = \"registry\"\n[gateway]\nid = \"g\"\nhandover = \"open/gw.sock\"\n\
                  [[gateway.listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n";
    let file = folder.path().join("sluice.toml");
    fs::write(&file, config).expect("the folder is ours");
    let ended = finish(sluice().args(["run", "--config"]).arg(&file), "", DEADLINE);
    assert_eq!(ended.code, Some(1));
    assert!(ended.text().contains("can write to the folder"), "{}", ended.text());
}
