//! Certificates that the registry keeps.

use std::path::Path;

use serde_json::{Value, json};
use tests::{Config, DEADLINE, Endpoint, Finished, Gateway, certificate, curl, eventually, finish, sluice};

const REGISTRY: &str = "kind = \"embedded\"\npath = \"registry\"\nkey_file = \"keys\"\n";

/// A TLS listener, `secure`, with the registry's certificates and those in `tls`; the folder has what clients trust.
fn config(endpoint: &Endpoint, tls: &str) -> Config {
    let key = finish(sluice().args(["secret", "new-key", "k"]), "", DEADLINE).stdout;
    Config::in_front_of(endpoint.address())
        .registry(REGISTRY)
        .listener("secure", &["protocol = \"http\"", &format!("tls = {{ {tls} }}")])
        .file("keys", &key)
}

fn start(config: &Config) -> Gateway {
    Gateway::start_as(config, |command| {
        // Keys are read only from files that nobody else can read.
        use std::os::unix::fs::PermissionsExt as _;
        let config = std::path::PathBuf::from(command.get_args().last().expect("it names its configuration"));
        let owners = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(config.with_file_name("keys"), owners).expect("the file is ours");
        command
    })
}

fn command(gateway: &Gateway, words: &[&str]) -> Finished {
    let mut command = sluice();
    command.args(words).env("SLUICE_ADMIN", format!("http://{}", gateway.admin()));
    finish(&mut command, "", DEADLINE)
}

fn put(gateway: &Gateway, folder: &Path, name: &str, pem: &str) -> Finished {
    let file = folder.join(format!("{name}.pem"));
    std::fs::write(&file, pem).expect("the folder is ours");
    command(gateway, &["certificates", "put", name, file.to_str().expect("a path")])
}

/// Whether a client that trusts `{trusted}.crt` alone gets an answer for `host`.
fn believes(gateway: &Gateway, folder: &Path, host: &str, trusted: &str) -> bool {
    curl(gateway.listener("secure"), folder, host, trusted, &[]).code == Some(0)
}

fn json_of(gateway: &Gateway, target: &str) -> Value {
    serde_json::from_str(&gateway.admin_get(target).text()).expect("the API speaks JSON")
}

/// As `/v1/certificates` shows it.
fn shown(gateway: &Gateway, name: &str) -> Value {
    let view = json_of(gateway, "/v1/certificates");
    let listeners = view["listeners"].as_array().expect("there are some");
    let all = listeners.iter().filter(|one| one["listener"] == "secure");
    let mut found = all.flat_map(|one| one["certificates"].as_array().expect("a list"));
    found.find(|one| one["file"] == format!("certificate/{name}")).cloned().unwrap_or_default()
}

#[test]
fn a_certificate_that_is_put_is_served_replaced_and_removed_without_a_restart() {
    let (folder, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start("c1"));
    let gateway = start(&config(&endpoint, "registry = true"));
    let (one, other) = (certificate(folder.path(), "one.test"), certificate(folder.path(), "other.test"));
    assert!(!believes(&gateway, folder.path(), "one.test", "one.test"), "nobody has one yet");
    for (name, pem) in [("one", &one), ("other", &other)] {
        let said = put(&gateway, folder.path(), name, pem);
        assert_eq!((said.code, said.stdout.trim()), (Some(0), &*format!("certificate/{name}  create")));
    }
    for host in ["one.test", "other.test"] {
        eventually(DEADLINE, "it is served", || believes(&gateway, folder.path(), host, host));
    }
    // The same again is no change, though it is sealed anew.
    assert_eq!(put(&gateway, folder.path(), "one", &one).stdout.trim(), "certificate/one  as it was");
    // Another key and chain of the same name: what trusts the former one does not any more.
    let kept = folder.path().join("kept.crt");
    std::fs::copy(folder.path().join("one.test.crt"), &kept).unwrap();
    let renewed = certificate(folder.path(), "one.test");
    assert_eq!(put(&gateway, folder.path(), "one", &renewed).stdout.trim(), "certificate/one  update");
    eventually(DEADLINE, "the new one is served", || {
        believes(&gateway, folder.path(), "one.test", "one.test")
    });
    assert!(!believes(&gateway, folder.path(), "one.test", "kept"));
    let ls = command(&gateway, &["certificates", "ls"]);
    assert!(ls.stdout.contains("certificate/one") && ls.stdout.contains("in force"), "{}", ls.text());
    let expiry = gateway.metrics().text().to_owned();
    assert!(expiry.contains("certificate=\"certificate/other\""), "{expiry}");
    let gone = command(&gateway, &["certificates", "rm", "one", "--wait"]);
    assert_eq!(gone.code, Some(0), "{}", gone.text());
    eventually(DEADLINE, "it is gone", || !believes(&gateway, folder.path(), "one.test", "one.test"));
    assert!(believes(&gateway, folder.path(), "other.test", "other.test"));
}

#[test]
fn what_cannot_be_served_is_refused_before_it_is_written_and_keeps_nobody_from_service() {
    let (folder, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start("c1"));
    let pem = certificate(folder.path(), "file.test");
    let gateway = start(&config(&endpoint, "certificates = [\"file.pem\"]").file("file.pem", &pem));
    let one = certificate(folder.path(), "one.test");
    let chain = std::fs::read_to_string(folder.path().join("one.test.crt")).unwrap();
    let other = std::fs::read_to_string(folder.path().join("file.test.key")).unwrap();
    for (pem, wanted) in [
        (format!("{chain}{other}"), "the key is not the first certificate's"),
        (chain.clone(), "append the leaf's key"),
        ("nothing of the kind".to_owned(), "has no usable private key"),
    ] {
        let refused = put(&gateway, folder.path(), "one", &pem);
        assert_eq!(refused.code, Some(1), "{}", refused.text());
        assert!(
            refused.stderr.contains("certificate/one") && refused.stderr.contains(wanted),
            "{}",
            refused.text()
        );
    }
    assert_eq!(shown(&gateway, "one"), Value::Null);
    assert_eq!(put(&gateway, folder.path(), "one", &one).code, Some(0));
    eventually(DEADLINE, "it is served", || believes(&gateway, folder.path(), "one.test", "one.test"));
    assert!(believes(&gateway, folder.path(), "file.test", "file.test"));
    // Nobody reads a private key in the registry, nor through the API.
    let entry = json_of(&gateway, "/v1/config/certificates/one");
    assert!(entry["value"].as_str().is_some_and(|value| value.starts_with("sluice-sealed:")), "{entry}");
    let file = std::fs::read(gateway.folder().join("registry/registry.redb")).unwrap();
    assert!(!tests::contains(&file, b"PRIVATE KEY") && !tests::contains(&file, b"BEGIN CERTIFICATE"));
    assert_eq!(shown(&gateway, "one")["names"], json!(["one.test"]));
}

#[test]
fn a_listener_can_do_without_the_registrys_certificates() {
    let (folder, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start("c1"));
    let pem = certificate(folder.path(), "file.test");
    let config = config(&endpoint, "certificates = [\"file.pem\"], registry = false")
        .listener("other", &["protocol = \"http\"", "tls = { certificates = [\"file.pem\"] }"])
        .file("file.pem", &pem);
    let gateway = start(&config);
    let one = certificate(folder.path(), "one.test");
    assert_eq!(put(&gateway, folder.path(), "one", &one).code, Some(0));
    eventually(DEADLINE, "the other listener serves it", || {
        curl(gateway.listener("other"), folder.path(), "one.test", "one.test", &[]).code == Some(0)
    });
    assert!(!believes(&gateway, folder.path(), "one.test", "one.test"));
    assert_eq!(shown(&gateway, "one"), Value::Null);
}

#[test]
fn without_keys_nothing_is_sealed_and_without_either_source_nothing_is_started() {
    let (folder, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start("c1"));
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let one = certificate(folder.path(), "one.test");
    let refused = put(&gateway, folder.path(), "one", &one);
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert!(refused.stderr.contains("registry.key_file"), "{}", refused.text());
}
