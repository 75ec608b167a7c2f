//! The layout in a real etcd, written by clients that are not ours: its own command, and curl at its JSON
//! gateway.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::{
    Config, CuttableProxy, DEADLINE, Endpoint, EtcdServer, Gateway, Load, eventually, finish, sluice,
};

const HOST: &str = "shop.apps.test";
/// The first probe after a recovery, and the backoff before it.
const RECOVERY: Duration = Duration::from_secs(30);
/// The gateway's leases last 4 s; after this, an unseen one has expired.
const BEYOND_SESSION: Duration = Duration::from_secs(6);

fn path(instance: &str) -> String {
    format!("/caas/service/address/shop/v1/{instance}")
}

fn register(server: &EtcdServer, instance: &str, endpoint: &Endpoint) {
    server.ctl(&["put", &path(instance), &endpoint.address().to_string()]);
}

fn unregister(server: &EtcdServer, instance: &str) {
    server.ctl(&["del", &path(instance)]);
}

/// A gateway on an etcd with one endpoint that answers.
fn serving(endpoint: &Endpoint) -> (EtcdServer, Gateway) {
    let server = EtcdServer::start();
    let gateway = Gateway::start(&Config::new().etcd(&server.address().to_string()));
    register(&server, "c1", endpoint);
    answers_from(&gateway, &["a"]);
    (server, gateway)
}

fn is_connected(gateway: &Gateway) -> bool {
    gateway.metrics().sum("sluice_registry_connected", &[]) == Some(1.0)
}

/// Waits until ten requests in a row are answered by `ids` and by all of them.
#[track_caller]
fn answers_from(gateway: &Gateway, ids: &[&str]) {
    let mut client = gateway.connect();
    eventually(RECOVERY, &format!("exactly {ids:?} answer"), || {
        let answers: Vec<String> = (0..10).map(|_| client.get(HOST, "/").text()).collect();
        answers.iter().all(|answer| ids.contains(&answer.as_str()))
            && ids.iter().all(|id| answers.iter().any(|answer| answer == id))
    });
}

#[track_caller]
fn curl(server: &EtcdServer, call: &str, body: &str) {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--data", body])
        .arg(format!("http://{}/v3/{call}", server.address()));
    let report = finish(&mut command, "", DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
}

/// What etcd's JSON has for bytes.
fn base64(text: &str) -> String {
    let report = finish(Command::new("base64").arg("--wrap=0"), text, DEADLINE);
    report.stdout
}

#[test]
fn an_address_gets_traffic_until_it_is_deleted() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let (server, gateway) = serving(&a);
    let (key, value) = (base64(&path("c2")), base64(&b.address().to_string()));
    curl(&server, "kv/put", &format!(r#"{{"key": "{key}", "value": "{value}"}}"#));
    answers_from(&gateway, &["a", "b"]);
    unregister(&server, "c1");
    answers_from(&gateway, &["b"]);
    let before = a.requests();
    answers_from(&gateway, &["b"]);
    assert_eq!(a.requests(), before, "a deleted endpoint was asked");
    curl(&server, "kv/deleterange", &format!(r#"{{"key": "{key}"}}"#));
    eventually(DEADLINE, "the app is gone", || gateway.get(HOST, "/").status == 404);
}

#[test]
fn a_leased_address_goes_with_its_lease() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let (server, gateway) = serving(&a);
    let granted = server.ctl(&["lease", "grant", "3"]);
    let lease = granted.split_whitespace().nth(1).expect("etcdctl says which");
    server.ctl(&["put", "--lease", lease, &path("c2"), &b.address().to_string()]);
    answers_from(&gateway, &["a", "b"]);
    // Nobody keeps it alive.
    answers_from(&gateway, &["a"]);
}

#[test]
fn a_bad_value_harms_only_itself_and_a_spec_names_hosts() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let (server, gateway) = serving(&a);
    for (at, bad) in ["10.0.0.1", "nowhere:80", "{", "", "10.0.0.1:99999"].into_iter().enumerate() {
        server.ctl(&["put", &path(&format!("bad{at}")), bad]);
    }
    register(&server, "c2", &b);
    answers_from(&gateway, &["a", "b"]);
    eventually(DEADLINE, "every bad key is counted", || {
        gateway.metrics().sum("sluice_config_rejects", &[("app", "shop")]) == Some(5.0)
    });
    server.ctl(&["put", "/caas/app/shop", r#"{"hosts": ["shop.example.test"]}"#]);
    let status = |host| gateway.get(host, "/").status;
    eventually(DEADLINE, "the named host answers", || status("shop.example.test") == 200);
    server.ctl(&["put", "/caas/app/shop", r#"{"hostz": []}"#]);
    eventually(DEADLINE, "the reject is visible", || {
        gateway.admin_json("/v1/apps").to_string().contains("hostz")
    });
    assert_eq!(status("shop.example.test"), 200);
}

#[test]
fn an_outage_fails_no_request_and_what_was_written_meanwhile_is_seen() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let server = EtcdServer::start();
    let link = CuttableProxy::to(server.address());
    let gateway = Gateway::start(&Config::new().etcd(&link.address().to_string()));
    register(&server, "c1", &a);
    answers_from(&gateway, &["a"]);
    let load = Load::start(gateway.web(), HOST, 2);
    link.cut();
    let cut = Instant::now();
    eventually(DEADLINE, "the metric says disconnected", || !is_connected(&gateway));
    register(&server, "c2", &b);
    unregister(&server, "c1");
    // The history that would tell is gone, and so is the gateway's lease.
    server.ctl(&["compact", &server.revision().to_string()]);
    eventually(BEYOND_SESSION * 2, "the lease has expired", || cut.elapsed() > BEYOND_SESSION);
    assert_eq!(gateway.get(HOST, "/").text(), "a");
    link.restore();
    answers_from(&gateway, &["b"]);
    assert!(is_connected(&gateway));
    load.stop().assert_undisturbed();
}

#[test]
fn a_killed_server_fails_no_request() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let (mut server, gateway) = serving(&a);
    let load = Load::start(gateway.web(), HOST, 2);
    let revision = gateway.metrics().sum("sluice_registry_revision", &[]);
    server.kill();
    eventually(DEADLINE, "the metric says disconnected", || !is_connected(&gateway));
    let table = gateway.admin_json("/v1/table");
    assert_eq!(table["registry"], "lost");
    assert!(table["registry_error"].as_str().is_some_and(|why| why.contains("127.0.0.1")), "{table}");
    assert_eq!(gateway.get(HOST, "/").text(), "a");
    server.restart();
    register(&server, "c2", &b);
    answers_from(&gateway, &["a", "b"]);
    assert!(gateway.metrics().sum("sluice_registry_revision", &[]) > revision);
    load.stop().assert_undisturbed();
}

#[test]
fn a_server_that_hangs_fails_no_request() {
    let a = Endpoint::start("a");
    let (server, gateway) = serving(&a);
    let load = Load::start(gateway.web(), HOST, 2);
    server.pause();
    eventually(DEADLINE, "the metric says disconnected", || !is_connected(&gateway));
    server.resume();
    eventually(RECOVERY, "the metric says connected", || is_connected(&gateway));
    load.stop().assert_undisturbed();
}

#[test]
fn a_gateway_that_starts_without_its_registry_says_why_and_finds_it_later() {
    let a = Endpoint::start("a");
    let mut server = EtcdServer::start();
    register(&server, "c1", &a);
    server.kill();
    let gateway = Gateway::start(&Config::new().etcd(&server.address().to_string()));
    assert!(!is_connected(&gateway));
    let table = gateway.admin_json("/v1/table");
    assert_eq!(table["registry"], "connecting");
    assert!(table["registry_error"].as_str().is_some_and(|why| why.contains("cannot connect")), "{table}");
    server.restart();
    answers_from(&gateway, &["a"]);
}

/// What `sluice secret` prints.
#[track_caller]
fn secret(arguments: &[&str], input: &str) -> String {
    let report = finish(sluice().arg("secret").args(arguments), input, DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    report.stdout
}

fn put_keys(path: &Path, lines: &str) {
    fs::write(path, lines).expect("the folder is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the folder is ours");
}

#[test]
fn a_sealed_spec_is_served_at_its_own_place_and_tells_nobody_what_is_in_it() {
    let a = Endpoint::start("a");
    let server = EtcdServer::start();
    let file = server.folder().join("registry.keys");
    let (old, new) = (secret(&["new-key", "old"], ""), secret(&["new-key", "new"], ""));
    put_keys(&file, &old);
    let text = file.to_str().expect("temporary paths are text");
    let seal = |key: &str, value: &str| secret(&["encrypt", "--key-file", text, "--key", key], value);
    let config = format!(
        "kind = \"etcd\"\nservers = [\"{}\"]\nsession_timeout = \"4s\"\nkey_file = \"{text}\"\n",
        server.address()
    );
    let gateway = Gateway::start(&Config::new().registry(&config));
    register(&server, "c1", &a);
    answers_from(&gateway, &["a"]);

    let sealed = seal("app/shop", r#"{"hosts": ["sealed.test"]}"#);
    assert!(!sealed.contains("sealed.test"));
    assert_eq!(
        secret(&["decrypt", "--key-file", text, "--key", "app/shop"], &sealed),
        r#"{"hosts": ["sealed.test"]}"#
    );
    server.ctl(&["put", "/caas/app/shop", sealed.trim()]);
    let status = |host| gateway.get(host, "/").status;
    eventually(DEADLINE, "the sealed host answers", || status("sealed.test") == 200);

    // Another key first, which the gateway finds when it is asked for it.
    put_keys(&file, &format!("{new}{old}"));
    let sealed = seal("app/shop", r#"{"hosts": ["newer.test"]}"#);
    assert!(sealed.contains(":new:"), "{sealed}");
    server.ctl(&["put", "/caas/app/shop", sealed.trim()]);
    eventually(DEADLINE, "the newer host answers", || status("newer.test") == 200);

    // Copied from elsewhere, or wrong inside: the last good spec stays, and nothing of it is told.
    for (bad, told) in [
        (seal("app/other", r#"{"hosts": ["moved.test"]}"#), "moved here"),
        (seal("app/shop", r#"{"hosts": ["newer.test"], "hostz": ["whisper"]}"#), "wrong at: hostz"),
    ] {
        server.ctl(&["put", "/caas/app/shop", bad.trim()]);
        eventually(DEADLINE, told, || gateway.admin_json("/v1/apps").to_string().contains(told));
        assert_eq!(status("newer.test"), 200);
    }
    assert!(!gateway.output().contains("whisper") && !gateway.output().contains("moved.test"));
}
