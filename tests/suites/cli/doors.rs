//! How a gateway is reached, by whom, and what the shell is told.

use std::os::unix::fs::PermissionsExt as _;

use tests::{Config, DEADLINE, Gateway, HeldPort, eventually, finish, sluice};

use crate::ask::{at, command, shown};
use crate::pki::Authority;

#[test]
fn nobody_there_ends_with_2_and_a_wrong_command_with_1() {
    let closed = HeldPort::tcp();
    let admin = format!("http://{}", closed.address());
    for arguments in [&["status"][..], &["routes", "ls"], &["endpoints", "drain", "a/b/c"]] {
        let said = at(&admin, arguments);
        assert_eq!(said.code, Some(2), "{}", said.text());
        assert!(said.stderr.contains(&admin), "{}", said.stderr);
    }
    let said = at(&admin, &["status", "-o", "json"]);
    let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!((said.code, &error["error"]["code"]), (Some(2), &2.into()));
    for arguments in [&["routes"][..], &["routes", "lst"], &["status", "-o", "xml"], &["endpoints", "drain"]]
    {
        assert_eq!(at(&admin, arguments).code, Some(1), "{arguments:?}");
    }
    for url in ["127.0.0.1:9901", "ftp://x", "http://", "http://a@b"] {
        let said = at(url, &["status"]);
        assert_eq!(said.code, Some(1), "{url}");
        assert!(said.stderr.contains("write http://127.0.0.1:9901"), "{}", said.stderr);
    }
    // Something else that answers is no gateway.
    let other = tests::Endpoint::start("other");
    assert_eq!(at(&format!("http://{}", other.address()), &["status"]).code, Some(2));
}

#[test]
fn every_shell_is_told_how_to_complete() {
    for (shell, word) in [("bash", "complete"), ("zsh", "#compdef sluice"), ("fish", "complete -c sluice")] {
        let script = at("", &["completion", shell]);
        assert_eq!(script.code, Some(0), "{}", script.text());
        for wanted in [word, "explain", "rollback", "maintenance", "token-file"] {
            assert!(script.stdout.contains(wanted), "{shell}: {wanted}");
        }
    }
    let help = at("", &["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_unix_socket_is_a_door() {
    let gateway = Gateway::start(&Config::new().admin("socket = \"admin.sock\""));
    let admin = format!("unix:{}", gateway.folder().join("admin.sock").display());
    let said = at(&admin, &["status"]);
    assert_eq!(said.code, Some(0), "{}", said.text());
    let app = gateway.folder().join("shop.toml");
    std::fs::write(&app, "id = \"shop\"\nhosts = [\"shop.test\"]\n").unwrap();
    let said = at(&admin, &["routes", "apply", app.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}", said.text());
    assert!(shown(&gateway, 0, &["routes", "history"]).contains("unix:"));
}

#[test]
fn over_tls_a_token_or_a_certificate_says_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let put = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let authority = Authority::new();
    put("admin.pem", &authority.issue("localhost"));
    put("client.pem", &authority.issue("ops.test"));
    put("ca.crt", &authority.pem());
    let made = finish(sluice().args(["token", "new", "alice", "--role", "read"]), "", DEADLINE);
    put("token", &made.stdout);
    put("tokens", made.stderr.lines().last().unwrap());
    std::fs::set_permissions(path("tokens"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let [certificate, ca, tokens] = ["admin.pem", "ca.crt", "tokens"].map(path);
    let config = Config::new()
        .admin(&format!(
            "tls = {{ certificates = [{certificate:?}], client_ca = {ca:?}, client_auth = \"optional\" }}"
        ))
        .admin(&format!("tokens = {tokens:?}"));
    let gateway = Gateway::start_with_tls_admin(&config);
    let admin = format!("https://localhost:{}", gateway.admin().port());
    let code = |arguments: &[&str]| {
        let said = at(&admin, arguments);
        (said.code, said.text())
    };
    let (client, token) = (path("client.pem"), path("token"));
    eventually(DEADLINE, "it serves", || code(&["status", "--ca", &ca, "--cert", &client]).0 == Some(0));
    let nobody = code(&["status", "--ca", &ca]);
    assert!(nobody.0 == Some(1) && nobody.1.contains("(401)"), "{}", nobody.1);
    let by_file = code(&["status", "--ca", &ca, "--token-file", &token]);
    assert_eq!(by_file.0, Some(0), "{}", by_file.1);
    let mut by_name = command(&admin, &["routes", "ls", "--ca", &ca]);
    by_name.env("SLUICE_TOKEN", made.stdout.trim());
    assert_eq!(finish(&mut by_name, "", DEADLINE).code, Some(0));
    // A reader changes nothing.
    let said = code(&["endpoints", "drain", "shop/v1/c1", "--ca", &ca, "--token-file", &token]);
    assert!(said.0 == Some(1) && said.1.contains("(403)"), "{}", said.1);
    let said = code(&["endpoints", "drain", "shop/v1/c1", "--ca", &ca, "--cert", &client]);
    assert_eq!(said.0, Some(0), "{}", said.1);
    // Whom the gateway's certificate does not prove, and files that hold something else.
    let strange = path("strange.crt");
    put("strange.crt", &Authority::new().pem());
    assert_eq!(code(&["status", "--ca", &strange]).0, Some(2));
    for wrong in [["--ca", &tokens], ["--cert", &ca], ["--token-file", "/nowhere"]] {
        assert_eq!(code(&[&["status"], &wrong[..]].concat()).0, Some(1), "{wrong:?}");
    }
}
