//! Clients that come back to their endpoint by a cookie.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, RawClient, Response, eventually, finish, sluice};

const HOST: &str = "shop.test";
const STICKY: &str = r#"sticky = { cookie = "at", max_age = "1h" }"#;
const KEYS: &str = "now BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
const OTHER_KEYS: &str = "next CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=\n";

fn named(names: &[&str]) -> Vec<Endpoint> {
    names.iter().map(|name| Endpoint::start(name)).collect()
}

/// Of one version; instances are named `c0`, `c1` and so on.
fn shop(endpoints: &[Endpoint]) -> App {
    shop_of(endpoints, "c")
}

/// As [`shop`], with other names before the number.
fn shop_of(endpoints: &[Endpoint], name: &str) -> App {
    let app = App::new("shop").host(HOST).line(STICKY);
    endpoints.iter().enumerate().fold(app, |app, (number, endpoint)| {
        app.endpoint("v1", &format!("{name}{number}"), endpoint.address())
    })
}

fn ask(gateway: &Gateway, cookie: &str) -> Response {
    let mut client = gateway.connect();
    ask_on(&mut client, cookie)
}

fn ask_on(client: &mut RawClient, cookie: &str) -> Response {
    let field = if cookie.is_empty() { String::new() } else { format!("Cookie: a=b; {cookie}\r\n") };
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{field}\r\n"));
    let response = client.receive();
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// `at=…`, as a response sets it.
fn cookie(response: &Response) -> Option<String> {
    let all = response.fields.all("set-cookie");
    assert!(all.len() <= 1, "{all:?}");
    all.first().map(|line| line.split(';').next().unwrap_or_default().to_owned())
}

/// Who answers, and the cookie that a new client then has.
fn begin(gateway: &Gateway) -> (String, String) {
    let response = ask(gateway, "");
    (response.text(), cookie(&response).expect("a new client gets a cookie"))
}

#[track_caller]
fn stays(gateway: &Gateway, cookie_then: &str, name: &str) {
    for _ in 0..6 {
        let response = ask(gateway, cookie_then);
        assert_eq!((response.text().as_str(), cookie(&response)), (name, None));
    }
}

fn say(gateway: &Gateway, state: &str, instance: &str) {
    let mut command = sluice();
    command.args(["endpoints", state, instance, "--wait"]);
    command.env("SLUICE_ADMIN", format!("http://{}", gateway.admin()));
    let report = finish(&mut command, "", DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
}

fn results(gateway: &Gateway, result: &str) -> u64 {
    gateway.metrics().count("sluice_sticky_requests_total", &[("app", "shop"), ("result", result)])
}

#[test]
fn a_client_stays_where_it_was_whatever_others_do() {
    let endpoints = named(&["c0", "c1", "c2"]);
    // Longer than what is in a cookie.
    let app = shop_of(&endpoints, "an-instance-whose-name-has-more-bytes-than-the-cookie-");
    let gateway = Gateway::start(&Config::new().app(&app));
    let response = ask(&gateway, "");
    let line = response.fields.get("set-cookie").expect("a new client gets a cookie").to_owned();
    assert!(line.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{line}");
    let (first, kept) = (response.text(), cookie(&response).unwrap());
    // No name is to be read in it: 24 bytes in base64, whatever it stands for.
    assert_eq!(kept.len(), "at=".len() + 32, "{line}");
    for _ in 0..5 {
        begin(&gateway);
        stays(&gateway, &kept, &first);
    }
    assert_eq!((results(&gateway, "began"), results(&gateway, "kept")), (6, 30));
    // It is passed on as it came.
    let position: usize = first[1..].parse().expect("a number");
    assert_eq!(endpoints[position].last().fields.get("cookie"), Some(&*format!("a=b; {kept}")));
    let app = &gateway.admin_json("/v1/apps?app=shop")["items"][0]["sticky"];
    assert_eq!(
        (&app["cookie"], &app["max_age_seconds"], &app["is_shared"]),
        (&"at".into(), &3600.into(), &false.into())
    );
}

#[test]
fn what_is_not_ours_is_nothing() {
    let endpoints = named(&["c0", "c1"]);
    let other =
        App::new("other").host("other.test").line(STICKY).endpoint("v1", "c0", endpoints[0].address());
    let config = Config::with_workers(1).app(&shop(&endpoints)).app(&other);
    let gateway = Gateway::start(&config);
    let foreign = gateway.get("other.test", "/");
    let foreign = cookie(&foreign).expect("a new client gets a cookie");
    let (_, own) = begin(&gateway);
    let forged = format!("at={}A", &own[3..own.len() - 1]);
    let long = format!("at={}", "A".repeat(4_000));
    for bad in ["at=", "at=c0", "at=v1/c0", &forged, &long, &foreign] {
        let response = ask(&gateway, bad);
        // The last character may have been that one.
        assert!(bad == own || cookie(&response).is_some(), "{bad}");
    }
    assert!(results(&gateway, "ignored") >= 5);
    // Ours among them is found.
    let response = ask(&gateway, &format!("at=x; {own}"));
    assert_eq!(cookie(&response), None);
}

#[test]
fn keys_of_a_file_are_good_on_every_gateway_and_after_a_restart() {
    let endpoints = named(&["c0", "c1", "c2", "c3"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("sticky.key");
    let config = |keys: &str| {
        std::fs::write(&path, keys).expect("the folder is ours");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("the file is ours");
        Config::new().app(&shop(&endpoints)).gateway(&format!("sticky_key_file = {path:?}"))
    };
    let one = Gateway::start(&config(KEYS));
    let sessions: Vec<_> = (0..4).map(|_| begin(&one)).collect();
    let other = Gateway::start(&config(KEYS));
    drop(one);
    sessions.iter().for_each(|(name, cookie)| stays(&other, cookie, name));
    drop(other);
    // A key that replaces it renews cookies, and moves nobody.
    let renewed = Gateway::start(&config(&format!("{OTHER_KEYS}{KEYS}")));
    for (name, former) in &sessions {
        let response = ask(&renewed, former);
        let new = cookie(&response).expect("it is signed anew");
        assert!(response.text() == *name && new != *former);
        stays(&renewed, &new, name);
    }
    drop(renewed);
    let without = Gateway::start(&config(OTHER_KEYS));
    assert!(cookie(&ask(&without, &sessions[0].1)).is_some());
}

#[test]
fn a_client_of_an_endpoint_that_is_out_goes_elsewhere_and_stays_there() {
    let endpoints = named(&["c0", "c1", "c2"]);
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoints).probed()));
    let (name, former) = begin(&gateway);
    let position: usize = name[1..].parse().expect("a number");
    let is = |state: &str| gateway.admin_json("/v1/endpoints?app=shop")["items"][position]["state"] == state;
    endpoints[position].set_healthy(false);
    eventually(DEADLINE, "it is down", || is("down"));
    let response = ask(&gateway, &former);
    let new = cookie(&response).expect("it is told where it is now");
    assert_ne!(response.text(), name);
    assert_eq!(results(&gateway, "moved"), 1);
    endpoints[position].set_healthy(true);
    eventually(DEADLINE, "it is up", || is("up"));
    stays(&gateway, &new, &response.text());
    // An endpoint that only refuses: the retry answers, and is what is remembered.
    let now: usize = response.text()[1..].parse().expect("a number");
    endpoints[now].stop();
    let response = ask(&gateway, &new);
    assert!(response.text() != format!("c{now}") && cookie(&response).is_some_and(|cookie| cookie != new));
}

#[test]
fn a_drained_endpoint_keeps_its_clients_and_gets_no_others() {
    let endpoints = named(&["c0", "c1"]);
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoints)));
    let (name, kept) = begin(&gateway);
    say(&gateway, "drain", &format!("shop/v1/{name}"));
    stays(&gateway, &kept, &name);
    for _ in 0..6 {
        assert_ne!(begin(&gateway).0, name);
    }
    say(&gateway, "maintenance", &format!("shop/v1/{name}"));
    let response = ask(&gateway, &kept);
    assert!(response.text() != name && cookie(&response).is_some());
}

#[test]
fn a_split_is_for_new_clients_and_a_version_without_a_share_keeps_nobody() {
    let endpoints = named(&["old0", "old1", "new0", "new1"]);
    let app = |split: &str, count: usize| {
        let app = App::new("shop").host(HOST).line(STICKY).line(split);
        let places = [("v1", "c0"), ("v1", "c1"), ("v2", "c0"), ("v2", "c1")];
        places.iter().zip(&endpoints).take(count).fold(app, |app, ((version, instance), endpoint)| {
            app.endpoint(version, instance, endpoint.address())
        })
    };
    let gateway = Gateway::start(&Config::with_workers(1).app(&app("split = { v1 = 90, v2 = 10 }", 4)));
    let new: Vec<_> = (0..100).map(|_| begin(&gateway)).collect();
    let canaries: Vec<_> = new.iter().filter(|(name, _)| name.starts_with("new")).collect();
    assert_eq!(canaries.len(), 10);
    let (name, kept) = canaries[0];
    stays(&gateway, kept, name);
    // Those who come back take nobody's turn.
    let new: Vec<_> = (0..100)
        .map(|_| {
            stays(&gateway, kept, name);
            begin(&gateway)
        })
        .collect();
    assert_eq!(new.iter().filter(|(name, _)| name.starts_with("new")).count(), 10);
    // Where its instance is gone, its version is not: it stays a canary.
    let (_, lost) = canaries.iter().find(|(name, _)| name == "new1").expect("both have been asked");
    gateway.put_app(&app("split = { v1 = 99, v2 = 1 }", 3));
    let places = || gateway.admin_json("/v1/apps?app=shop")["items"][0]["split"]["v2"] == 1;
    eventually(DEADLINE, "the change is in force", places);
    for _ in 0..6 {
        assert_eq!(ask(&gateway, lost).text(), "new0");
    }
    gateway.put_app(&app("split = { v1 = 100 }", 4));
    let moved = || ask(&gateway, kept).text().starts_with("old");
    eventually(DEADLINE, "the canary is over", moved);
}

#[test]
fn both_versions_of_http_have_sessions_and_https_keeps_the_cookie_to_itself() {
    let endpoints = named(&["c0", "c1", "c2"]);
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoints)).trusting("127.0.0.1"));
    let jar = gateway.folder().join("jar");
    let curl = |protocol: &str| {
        let mut command = Command::new("curl");
        let url = format!("http://{}/", gateway.web());
        command.args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            protocol,
            "--header",
            &format!("Host: {HOST}"),
        ]);
        let report =
            finish(command.arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar).arg(url), "", DEADLINE);
        assert_eq!(report.code, Some(0), "{}", report.text());
        report.stdout
    };
    let first = curl("--http2-prior-knowledge");
    for protocol in ["--http1.1", "--http2-prior-knowledge", "--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(curl(protocol), first);
    }
    let mut client = gateway.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-Proto: https\r\n\r\n"));
    let line = client.receive().fields.get("set-cookie").expect("a new client gets a cookie").to_owned();
    assert!(line.contains("; Secure"), "{line}");
}

#[test]
fn policies_and_limits_hold_for_those_who_come_back() {
    for policy in [r#"balance = "least_requests""#, r#"balance = { kind = "hash", key = "path" }"#] {
        let endpoints = named(&["c0", "c1", "c2"]);
        let app = shop(&endpoints).line(policy).line("limits = { in_flight_per_endpoint = 5 }");
        let gateway = Gateway::start(&Config::new().app(&app));
        let sessions: Vec<_> = (0..6).map(|_| begin(&gateway)).collect();
        sessions.iter().for_each(|(name, cookie)| stays(&gateway, cookie, name));
        let is_given_back = || {
            let view = gateway.admin_json("/v1/endpoints?app=shop");
            view["items"].as_array().expect("a list").iter().all(|endpoint| endpoint["in_flight"] == 0)
        };
        eventually(DEADLINE, "what is over is given back", is_given_back);
    }
}

#[test]
fn it_is_explained_and_the_lack_of_a_key_is_warned_of() {
    let endpoints = named(&["c0", "c1"]);
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoints)));
    let (name, kept) = begin(&gateway);
    let explain = |cookie: &str| {
        let query = format!("/v1/explain?url=http://{HOST}/&header=Cookie:%20{}", cookie.replace('=', "%3D"));
        gateway.admin_json(&query)["session"].clone()
    };
    let told = explain(&kept);
    assert_eq!((&told["endpoint"], &told["is_kept"]), (&format!("v1/{name}").into(), &true.into()), "{told}");
    say(&gateway, "maintenance", &format!("shop/v1/{name}"));
    let told = explain(&kept);
    assert_eq!((&told["is_kept"], &told["why"]), (&false.into(), &"operator: maintenance".into()), "{told}");
    let mut command = sluice();
    let report =
        finish(command.args(["check", "--config"]).arg(gateway.folder().join("sluice.toml")), "", DEADLINE);
    assert!(report.code == Some(0) && report.text().contains("gateway.sticky_key_file"), "{}", report.text());
}
