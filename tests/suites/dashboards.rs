//! The dashboards and alerts that we ship, asked of a real Prometheus that scrapes a real gateway under load.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::{
    App, Config, DEADLINE, Endpoint, Gateway, Load, Prometheus, certificate, comes_true, dig, finish, ports,
    sluice,
};

fn conf(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf").join(path)
}

/// One query of a panel.
struct Query {
    panel: String,
    expression: String,
}

fn dashboard(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("the file is there");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(conf("grafana")).expect("the folder is there").flatten();
    let files: Vec<_> = files.map(|file| (file.path(), dashboard(&file.path()))).collect();
    assert_eq!(files.len(), 5);
    files
}

fn queries(board: &Value) -> Vec<Query> {
    let panels = board["panels"].as_array().expect("a dashboard has panels");
    let of_panel = |panel: &Value| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let panel = panel["title"].as_str().expect("panels have titles").to_owned();
        targets.into_iter().map(move |target| Query {
            panel: panel.clone(),
            expression: target["expr"].as_str().expect("a target has an expression").to_owned(),
        })
    };
    panels.iter().flat_map(of_panel).collect()
}

/// Every word that begins with `sluice_` in what is asked.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("sluice_")).map(str::to_owned).collect()
}

/// Panels of what does not happen here.
const EMPTY: [&str; 23] = [
    "5xx by version",
    "Accepted and refused",
    "Apps with none left",
    "Conflicts",
    "Drained by an operator",
    "Ejections",
    "Given up under load",
    "Grants missing",
    "HTTP/2 floods and penalties",
    "Hand-overs",
    "Hosts that would not do",
    "Messages refused",
    "Retries and hedges",
    "Rollouts under way",
    "Steps",
    "TLS handshakes that failed",
    "Takeovers, p99",
    "Tunnels",
    "Under way and waiting",
    "Updates of another server",
    "Waits for a restart",
    "What is left of leases",
    "Who holds",
];

/// A gateway that answers names and has been asked for one, and that has an app which does not start.
fn with_deploys() -> Gateway {
    let ports = ports();
    let config = Config::new()
        .section(&format!("[deploy]\naddress = \"127.0.0.1:0\"\nstate = \"instances\"\nports = {ports:?}"))
        .section(
            "[dns]\nlisten = [\"127.0.0.1:0\"]\nzone = \"apps.test\"\nhostmaster = \"dns@example.com\"\n\
             addresses = [\"192.0.2.10\"]\n[[dns.nameserver]]\nname = \"ns.example.com\"",
        );
    let gateway = Gateway::start(&config);
    let project = tempfile::tempdir().expect("a folder can be made");
    let file = "id = \"late\"\n[versions.v1]\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\n";
    fs::write(project.path().join("sluice.toml"), file).expect("the folder is ours");
    let mut deploy = sluice();
    deploy.args(["deploy", ".", "--wait"]).current_dir(project.path());
    deploy.env("SLUICE_DEPLOY", format!("http://{}", gateway.deploy()));
    let report = finish(&mut deploy, "", DEADLINE * 4);
    assert_eq!(report.code, Some(3), "{}", report.text());
    assert!(dig(gateway.dns(), &["late.apps.test", "A"]).contains("status:"));
    gateway
}

#[test]
fn every_panel_has_something_to_show() {
    let (one, dead) = (Endpoint::start("c1"), Endpoint::start("c2"));
    dead.stop();
    let scratch = tempfile::tempdir().expect("a folder can be made");
    let shop = App::new("shop")
        .host("a")
        .line("filters.cors = { origins = [\"https://a.example\"] }")
        .line("match = [{ name = \"canary\", header = { name = \"X-Canary\" }, version = \"v1\" }]")
        .endpoint("v1", "c1", one.address())
        .endpoint("v1", "c2", dead.address())
        .health("interval = \"100ms\"")
        .health("timeout = \"100ms\"");
    let config = Config::new()
        .app(&shop)
        .file("apps/broken.toml", "id = \"broken\"\nhsots = []\n")
        .file("tls/a.pem", &certificate(scratch.path(), "a"))
        .listener("tls", &["protocol = \"http\"", "tls = { certificates = [\"tls/*.pem\"] }"]);
    let gateway = Gateway::start(&config);
    let load = Load::start(gateway.web(), "a", 2);
    assert_eq!(gateway.get("nobody.example", "/").status, 404);
    let mut stranger = gateway.connect();
    stranger.send(
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    );
    assert_eq!(stranger.receive().status, 403);
    let other = with_deploys();
    let prometheus = Prometheus::scraping(&[gateway.admin(), other.admin()]);
    let mut empty = BTreeSet::new();
    for (path, board) in dashboards() {
        for Query { panel, expression } in queries(&board) {
            let asked = expression
                .replace("$__rate_interval", "10s")
                .replace("$job", "sluice")
                .replace("$instance", ".*")
                .replace("$app", "shop");
            let mut last = Vec::new();
            // Rates need two scrapes.
            let has_any = || {
                last = prometheus
                    .query(&asked)
                    .unwrap_or_else(|why| panic!("{path:?}, {panel}: {why}\n{asked}"));
                !last.is_empty()
            };
            let patience = if EMPTY.contains(&panel.as_str()) { DEADLINE / 1_000 } else { DEADLINE };
            if !comes_true(patience, has_any) {
                empty.insert(panel);
            }
        }
    }
    let unexpected: Vec<_> = empty.iter().filter(|panel| !EMPTY.contains(&panel.as_str())).collect();
    assert!(unexpected.is_empty(), "nothing to show: {unexpected:?}");
    load.stop().assert_undisturbed();
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_exist() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/src");
    let mut known = BTreeSet::new();
    let mut folders = vec![sources];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the sources are there").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => known.extend(names(&fs::read_to_string(path).unwrap_or_default())),
            }
        }
    }
    let mut asked = names(&fs::read_to_string(conf("prometheus/sluice.rules.yml")).expect("it is there"));
    for (_, board) in dashboards() {
        asked.extend(queries(&board).iter().flat_map(|query| names(&query.expression)));
    }
    let unknown: Vec<_> =
        asked.iter().filter(|name| !known.contains(name.trim_end_matches("_bucket"))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn alerts_fire_as_they_should() {
    for arguments in [["check", "rules", "sluice.rules.yml"], ["test", "rules", "sluice.test.yml"]] {
        let mut promtool = Command::new("promtool");
        let report = finish(promtool.args(arguments).current_dir(conf("prometheus")), "", DEADLINE * 2);
        assert_eq!(report.code, Some(0), "{}", report.text());
    }
}

/// An alert whose expression matches no label that is ever scraped would never fire, and nobody would notice.
#[test]
fn an_app_without_endpoints_and_a_broken_file_are_alerted() {
    let endpoint = Endpoint::start("c1");
    endpoint.set_healthy(false);
    let app =
        App::new("shop").host("a").endpoint("v1", "c1", endpoint.address()).health("interval = \"100ms\"");
    let config = Config::new().app(&app).file("apps/broken.toml", "id = \"broken\"\nhsots = []\n");
    let gateway = Gateway::start(&config);
    let prometheus = Prometheus::scraping(&[gateway.admin()]);
    let rules = fs::read_to_string(conf("prometheus/sluice.rules.yml")).expect("it is there");
    let no_endpoint = "sum by (job, app) (sluice_endpoints)\n            unless sum by (job, app) (sluice_endpoints{state=~\"up|unknown\"}) > 0";
    for expression in [no_endpoint, "sluice_config_rejects > 0"] {
        assert!(rules.contains(expression), "the alert asks otherwise now: {expression}");
        let fires = || prometheus.query(expression).is_ok_and(|series| !series.is_empty());
        assert!(comes_true(DEADLINE, fires), "{expression}");
    }
}
