//! The socket and TLS.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tests::{Config, DEADLINE, Finished, Gateway, certificate, eventually, finish, sluice};

use crate::pki::Authority;

fn curl(arguments: &[&str]) -> Finished {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*"]).args(arguments);
    finish(&mut command, "", DEADLINE)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn the_socket_is_its_owners_and_stays_through_a_hand_over() {
    let mut gateway = Gateway::start(&Config::new().handover().admin("socket = \"admin.sock\""));
    let path = gateway.folder().join("admin.sock");
    let ask = |arguments: &[&str]| {
        let mut all = vec!["--unix-socket", path.to_str().unwrap()];
        all.extend(arguments);
        curl(&all)
    };
    assert_eq!(mode(&path), 0o600);
    let put = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", "{\"hosts\":[\"a.test\"]}"];
    let made = ask(&[&put[..], &["http://sluice/v1/config/apps/shop"]].concat());
    assert!(made.stdout.contains("\"revision\":1"), "{}", made.text());
    let history = ask(&["http://sluice/v1/history"]).stdout;
    assert!(history.contains("\"author\":\"unix:"), "{history}");
    drop(gateway.hand_over());
    eventually(DEADLINE, "the newer process answers there", || {
        ask(&["http://sluice/v1/process"]).stdout.contains("\"generation\":2")
    });
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn tls_lets_in_tokens_and_certificates_and_nobody_else() {
    // As a gateway that listens on the outside would be, on a port that is known before.
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("admin.pem", &certificate(folder.path(), "gw.test"));
    let (ours, others) = (Authority::new(), Authority::new());
    put("client.pem", &ours.issue("ops.test"));
    put("stranger.pem", &others.issue("ops.test"));
    put("ca.crt", &ours.pem());
    let report = finish(sluice().args(["token", "new", "alice", "--role", "read"]), "", DEADLINE);
    let token = report.stdout.trim().to_owned();
    put("tokens", report.stderr.lines().last().unwrap());
    std::fs::set_permissions(folder.path().join("tokens"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let outer = folder.path().display().to_string();
    let config = Config::new()
        .admin("socket = \"admin.sock\"")
        .admin(&format!("tls = {{ certificates = [\"{outer}/admin.pem\"], client_ca = \"{outer}/ca.crt\", client_auth = \"optional\" }}"))
        .admin(&format!("tokens = \"{outer}/tokens\""));
    let gateway = Gateway::start_with_tls_admin(&config);
    let port = gateway.admin().port();
    let (authority, url) = (folder.path().join("gw.test.crt"), format!("https://gw.test:{port}/v1/config"));
    let ask = |arguments: &[&str]| {
        let resolve = format!("gw.test:{port}:127.0.0.1");
        let mut all =
            vec!["--resolve", &resolve, "--cacert", authority.to_str().unwrap(), "-w", " %{http_code}"];
        all.extend(arguments);
        all.push(&url);
        curl(&all)
    };
    assert!(ask(&[]).stdout.ends_with(" 401"), "{}", ask(&[]).text());
    let bearer = format!("Authorization: Bearer {token}");
    assert!(ask(&["-H", &bearer]).stdout.ends_with(" 200"), "{}", ask(&["-H", &bearer]).text());
    let client = |name: &str| folder.path().join(name).display().to_string();
    let shown = ask(&["--cert", &client("client.pem")]);
    assert!(shown.stdout.ends_with(" 200"), "{}", shown.text());
    // The list itself takes no POST: what is asked first is `apply`.
    let body = "{\"entries\":{\"app/shop\":{}}}";
    let (certificate, apply) = (client("client.pem"), format!("{url}/apply"));
    let made = ask(&["--cert", &certificate, "-H", "Content-Type: application/json", "-d", body, &apply]);
    assert!(made.stdout.contains("\"revision\":1"), "{}", made.text());
    let stranger = ask(&["--cert", &client("stranger.pem")]);
    assert!(!stranger.stdout.ends_with(" 200"), "{}", stranger.text());
    let history = curl(&[
        "--unix-socket",
        gateway.folder().join("admin.sock").to_str().unwrap(),
        "http://sluice/v1/history",
    ]);
    assert!(history.stdout.contains("\"author\":\"ops.test\""), "{}", history.text());
    // In clear text there is nothing.
    let plain = curl(&[&format!("http://127.0.0.1:{port}/v1/config")]);
    assert_ne!(plain.code, Some(0), "{}", plain.text());
    assert!(gateway.output().contains("admin request refused"));
}
