//! `sluice check`, and starts that it would have refused.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tests::{Config, DEADLINE, Endpoint, Finished, Gateway, certificate, finish, sluice};

use crate::folder;

const GOOD: &str = r#"[registry]
kind = "embedded"
path = "registry"

[gateway]
base_domain = "apps.test"

[[gateway.listener]]
name = "web"
address = "127.0.0.1:8080"
protocol = "http"

[admin]
address = "127.0.0.1:9901"

[apps]
files = ["apps/*.toml"]
"#;

const GOOD_APP: &str = r#"id = "shop"
hosts = ["shop.test"]

[[endpoint]]
version = "v1"
instance = "c1"
address = "127.0.0.1:9001"
"#;

fn run(verb: &str, folder: &Path) -> Finished {
    let config = folder.join("sluice.toml");
    finish(sluice().args([verb, "--config"]).arg(config), "", DEADLINE)
}

/// Asserts that one line of the report names the place, the key and what was probably meant.
#[track_caller]
fn assert_reported(report: &Finished, place: &str, words: &[&str]) {
    let text = report.text();
    let told = text.lines().any(|line| line.contains(place) && words.iter().all(|word| line.contains(word)));
    assert!(told, "no line has {place:?} and {words:?}:\n{text}");
}

#[test]
fn a_good_configuration_passes_the_check() {
    let folder = folder(&[("sluice.toml", GOOD), ("apps/shop.toml", GOOD_APP)]);
    let report = run("check", folder.path());
    assert_eq!(report.code, Some(0), "{}", report.text());
    // A check leaves nothing behind.
    assert!(!folder.path().join("registry").exists());
}

#[test]
fn a_check_reports_all_mistakes_with_file_line_key_and_the_nearest_key() {
    let config = GOOD
        .replace("base_domain", "base_domian")
        .replace("protocol = \"http\"", "protocol = \"htpp\"")
        .replace("127.0.0.1:9901", "127.0.0.1:99019");
    let app = GOOD_APP.replace("hosts", "hostz").replace("127.0.0.1:9001", "127.0.0.1");
    let folder =
        folder(&[("sluice.toml", &config), ("apps/shop.toml", &app), ("apps/other.toml", "id = \"a/b\"\n")]);
    let report = run("check", folder.path());
    assert_eq!(report.code, Some(1), "{}", report.text());
    assert_reported(&report, "sluice.toml:6", &["base_domian", "base_domain"]);
    assert_reported(&report, "sluice.toml:11", &["protocol", "htpp"]);
    assert_reported(&report, "sluice.toml:14", &["address"]);
    assert_reported(&report, "shop.toml:2", &["hostz", "hosts"]);
    assert_reported(&report, "shop.toml:7", &["address"]);
    assert_reported(&report, "other.toml:1", &["id"]);
}

#[test]
fn a_check_reports_what_no_single_key_is_to_blame_for() {
    let twice = format!(
        "{GOOD}\n[[gateway.listener]]\nname = \"web\"\naddress = \"127.0.0.1:8080\"\nprotocol = \"http\"\n"
    );
    let folder = folder(&[("sluice.toml", &twice)]);
    let report = run("check", folder.path());
    assert_eq!(report.code, Some(1), "{}", report.text());
    assert_reported(&report, "sluice.toml:", &["web"]);
}

#[test]
fn a_file_that_is_no_toml_is_reported_with_its_line() {
    let folder = folder(&[("sluice.toml", "[registry]\nkind = \n")]);
    let report = run("check", folder.path());
    assert_eq!(report.code, Some(1), "{}", report.text());
    assert_reported(&report, "sluice.toml:2", &[]);
}

#[test]
fn a_missing_configuration_is_reported_by_name() {
    let folder = folder(&[]);
    for verb in ["check", "run"] {
        let report = run(verb, folder.path());
        assert_eq!(report.code, Some(1), "{}", report.text());
        assert!(report.stderr.contains("sluice.toml"), "{}", report.text());
    }
}

#[test]
fn a_gateway_does_not_start_with_a_bad_configuration() {
    let folder = folder(&[("sluice.toml", &GOOD.replace("base_domain", "base_domian"))]);
    let report = run("run", folder.path());
    assert_eq!(report.code, Some(1), "{}", report.text());
    assert_reported(&report, "sluice.toml:6", &["base_domian", "base_domain"]);
}

#[test]
fn a_gateway_that_cannot_listen_says_where_and_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("a bound socket has an address").to_string();
    let config = GOOD.replace("127.0.0.1:8080", &address).replace("127.0.0.1:9901", "127.0.0.1:0");
    let folder = folder(&[("sluice.toml", &config)]);
    let report = run("run", folder.path());
    assert_eq!(report.code, Some(1), "{}", report.text());
    assert!(report.stderr.contains(&address), "{}", report.text());
}

#[test]
fn a_listener_that_believes_everybody_is_warned_of() {
    let config = GOOD.replace("protocol = \"http\"", "protocol = \"http\"\nproxy_protocol = \"required\"");
    let folder = folder(&[("sluice.toml", &config), ("apps/shop.toml", GOOD_APP)]);
    let report = run("check", folder.path());
    assert_eq!(report.code, Some(0), "{}", report.text());
    assert_reported(
        &report,
        "gateway.listener \"web\"",
        &["warning: ", "believes every peer", "gateway.trusted_proxies"],
    );
    let config = config.replace("[gateway]\n", "[gateway]\ntrusted_proxies = [\"10.0.0.0/8\"]\n");
    let folder = self::folder(&[("sluice.toml", &config), ("apps/shop.toml", GOOD_APP)]);
    assert!(!run("check", folder.path()).text().contains("warning"));
    let endpoint = Endpoint::start("c1");
    let lines = [r#"protocol = "http""#, r#"proxy_protocol = "optional""#];
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()).listener("far", &lines));
    assert!(gateway.output().contains("gateway.listener \\\"far\\\""), "{}", gateway.output());
}

#[test]
fn a_key_set_that_cannot_be_fetched_from_there_is_found_before_the_start() {
    let app = format!("{GOOD_APP}[filters.jwt]\njwks_url = \"http://127.0.0.1:1/keys\"\n");
    let folder = folder(&[("sluice.toml", GOOD), ("apps/shop.toml", &app)]);
    let report = run("check", folder.path());
    assert_eq!(report.code, Some(1), "{}", report.text());
    assert_reported(&report, "shop.toml", &["filters.jwt.jwks_url", "127.0.0.1", "gateway.jwks_networks"]);
    let config = GOOD.replace("[gateway]\n", "[gateway]\njwks_networks = [\"127.0.0.0/8\"]\n");
    let folder = self::folder(&[("sluice.toml", &config), ("apps/shop.toml", &app)]);
    assert_eq!(run("check", folder.path()).code, Some(0));
}

#[test]
fn the_registries_of_the_page_are_accepted_and_files_that_cannot_be_used_are_named() {
    const PAGE: &str = include_str!("../../../docs/registries.md");
    let rest = GOOD.split_once("\n\n").expect("the registry is a paragraph").1;
    let key = certificate(folder(&[]).path(), "gateway.test");
    let keys = finish(sluice().args(["secret", "new-key", "2026-11"]), "", DEADLINE).stdout;
    let mut pages = 0;
    for example in PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        pages += 1;
        let config = format!("{example}\n{rest}");
        let files = [
            ("sluice.toml", &*config),
            ("registry.password", "open sesame\n"),
            ("registry-ca.pem", &key),
            ("gateway.pem", &key),
            ("registry.keys", &keys),
        ];
        let good = folder(&files);
        let only_ours = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(good.path().join("registry.keys"), only_ours).expect("the folder is ours");
        let report = run("check", good.path());
        assert_eq!(report.code, Some(0), "{example}{}", report.text());

        let files =
            [("sluice.toml", &*config), ("registry.password", "\n"), ("registry-ca.pem", "nothing\n")];
        let broken = folder(&files);
        for verb in ["check", "run"] {
            let report = run(verb, broken.path());
            assert_eq!(report.code, Some(1), "{}", report.text());
            for (key, file) in [
                ("password_file", "registry.password"),
                ("tls", "registry-ca.pem"),
                ("key_file", "registry.keys"),
            ] {
                let told = verb == "check" && example.lines().any(|line| line.starts_with(key));
                if told {
                    assert_reported(&report, "sluice.toml", &[&format!("registry.{key}"), file]);
                }
            }
        }
    }
    assert!(pages >= 3, "the page has examples");
}
