//! `/v1/traffic`: what was asked of an app, by whom, and what became of it.

use serde_json::Value;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, Reply, eventually};

fn items(gateway: &Gateway, target: &str) -> Vec<Value> {
    let answer = gateway.admin_json(target);
    answer["items"].as_array().expect("a list").clone()
}

fn requests(gateway: &Gateway, app: &str) -> u64 {
    let items = items(gateway, &format!("/v1/traffic?app={app}"));
    items.iter().map(|item| item["requests"].as_u64().expect("a number")).sum()
}

#[test]
fn traffic_is_counted_by_status_path_and_client() {
    let endpoint = Endpoint::behaving("c1", |request| match request.target.as_str() {
        "/bad" => Reply::Answer(500, Vec::new(), b"no".to_vec()),
        _ => Reply::ok("well"),
    });
    let app =
        App::everything(endpoint.address()).line("statistics = { enabled = true }").line("upgrades = []");
    let gateway = Gateway::start(&Config::new().app(&app).trusting("127.0.0.1"));
    let mut client = gateway.connect();
    let mut ask = |target: &str, from: &str, fields: &str| {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n{fields}\r\n"));
        client.receive().status
    };
    for number in 0..20 {
        assert_eq!(ask(&format!("/often?{number}"), &format!("198.51.100.{number}"), ""), 200);
    }
    for _ in 0..5 {
        assert_eq!(ask("/bad", "203.0.113.7", ""), 500);
    }
    // It comes to no version.
    assert_eq!(ask("/never", "203.0.113.7", "Connection: upgrade\r\nUpgrade: websocket\r\n"), 403);
    eventually(DEADLINE, "all of it is counted", || requests(&gateway, "all") == 26);
    let found = items(&gateway, "/v1/traffic?app=all&minutes=10");
    let [refused, served] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&refused["version"], refused["requests"].as_u64()), (&Value::Null, Some(1)));
    assert_eq!(served["version"], "v1");
    assert_eq!((served["requests"].as_u64(), served["failures"].as_u64()), (Some(25), Some(5)));
    assert_eq!(served["statuses"], serde_json::json!({ "2xx": 20, "5xx": 5 }));
    assert_eq!(served["clients"], 21, "few are counted exactly");
    assert!(served["seconds"]["p50"].as_f64() > Some(0.0) && served["sent_bytes"].as_u64() > Some(25 * 4));
    let paths: Vec<_> = served["details"]["top_paths"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|path| (path["name"].as_str().expect("a name"), path["requests"].as_u64().expect("a number")))
        .collect();
    assert_eq!(paths, [("/often", 20), ("/bad", 5)]);
    let first = &served["details"]["top_clients"][0];
    assert_eq!((first["name"].as_str(), first["requests"].as_u64()), (Some("203.0.113.7"), Some(5)));
    let course = served["details"]["course"].as_array().expect("a list");
    assert_eq!(course.iter().filter_map(|step| step["requests"].as_u64()).sum::<u64>(), 25);
    // All apps: no details, which would be much.
    assert!(items(&gateway, "/v1/traffic").iter().all(|item| item.get("details").is_none()));
}

#[test]
fn only_apps_that_are_to_be_counted_are_and_that_can_change() {
    let endpoint = Endpoint::start("c1");
    let named = |id: &str| App::new(id).host(&format!("{id}.test")).endpoint("v1", "c1", endpoint.address());
    let config = Config::new()
        .app(&named("counted"))
        .app(&named("left").line("statistics = { enabled = false }"))
        .section("[gateway.statistics]\nenabled = true");
    let gateway = Gateway::start(&config);
    let ask = || ["left.test", "counted.test"].map(|host| gateway.get(host, "/").status);
    assert_eq!(ask(), [200, 200]);
    eventually(DEADLINE, "one is counted", || requests(&gateway, "counted") == 1);
    assert_eq!(requests(&gateway, "left"), 0);
    gateway.put_app(&named("left").line("statistics = { enabled = true }"));
    eventually(DEADLINE, "the other one is too", || {
        ask();
        requests(&gateway, "left") > 0
    });
    assert!(gateway.metrics().count("sluice_statistics_services", &[]) >= 2);
}

#[test]
fn without_being_asked_nothing_is_counted_and_a_bad_question_is_told_so() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    assert_eq!(gateway.get("a", "/").status, 200);
    eventually(DEADLINE, "it was a request", || gateway.metrics().count("sluice_requests_total", &[]) == 1);
    assert_eq!(requests(&gateway, "all"), 0);
    for bad in ["minutes=0", "minutes=11", "minutes=x", "app=%20", "since=1"] {
        assert_eq!(gateway.admin_get(&format!("/v1/traffic?{bad}")).status, 400, "{bad}");
    }
}
