use topology::{HttpProbeSettings, ProbeKind, ProbeMethod};

use super::*;
use crate::spec::parse_app_file;

fn app(health: &str) -> String {
    format!("id = \"a\"\n[health]\n{health}")
}

fn read(health: &str) -> HealthSettings {
    let app = parse_app_file("a.toml", &app(health)).unwrap();
    (**app.spec.health.as_ref().unwrap()).clone()
}

fn mistake_of(health: &str) -> String {
    parse_app_file("a.toml", &app(health)).expect_err(health).to_string()
}

#[test]
fn every_kind_is_read_with_what_belongs_to_it() {
    for (text, wanted) in [
        ("", ProbeKind::Native),
        ("kind = \"http\"", ProbeKind::Http),
        ("kind = \"tcp\"", ProbeKind::Tcp),
        ("kind = \"grpc\"", ProbeKind::Grpc { service: "".into() }),
        ("kind = \"grpc\"\nservice = \"shop.v1.Cart\"", ProbeKind::Grpc { service: "shop.v1.Cart".into() }),
        ("kind = \"mysql\"", ProbeKind::MySql { user: "sluice_probe".into() }),
        ("kind = \"mysql\"\nuser = \"monitor\"", ProbeKind::MySql { user: "monitor".into() }),
        ("kind = \"redis\"", ProbeKind::Redis),
    ] {
        assert_eq!(read(text).kind, wanted, "{text}");
    }
}

#[test]
fn a_request_and_its_answer_are_read() {
    let health = read(
        r#"
        method = "POST"
        path = "/up"
        host = "shop.example.com"
        headers = { X-Probe = "1", accept = "text/plain" }
        status = ["200-299", "401", 418]
        body = "fine"
        "#,
    );
    let mut http = health.http.clone();
    http.headers.sort();
    let wanted = HttpProbeSettings {
        method: ProbeMethod::Post,
        host: Some("shop.example.com".into()),
        headers: vec![("accept".into(), "text/plain".into()), ("x-probe".into(), "1".into())],
        status: vec![(200, 299), (401, 401), (418, 418)],
        body: Some("fine".into()),
    };
    assert_eq!(http, wanted);
    let accepted: Vec<u16> = (100..600).filter(|status| http.accepts(*status)).collect();
    assert_eq!(
        (accepted.len(), accepted[0], accepted[99], &accepted[100..]),
        (102, 200, 299, &[401, 418][..])
    );
}

#[test]
fn endpoints_that_are_down_have_an_interval_of_their_own() {
    let health = read("interval = \"10s\"");
    assert_eq!(health.unhealthy_interval, Duration::from_secs(10));
    let health = read("interval = \"10s\"\nunhealthy_interval = \"500ms\"");
    assert_eq!(
        (health.interval, health.unhealthy_interval, health.timeout),
        (Duration::from_secs(10), Duration::from_millis(500), Duration::from_millis(500)),
        "the default timeout fits into both"
    );
}

#[test]
fn what_follows_a_failure_and_the_panic_threshold_are_read() {
    for (word, wanted) in ON_FAILURE {
        assert_eq!(read(&format!("on_failure = {word:?}")).on_failure, wanted);
        assert_eq!(wanted.as_str(), word);
    }
    assert_eq!((read("").panic_threshold, read("panic_threshold = 50").panic_threshold), (0, 50));
}

#[test]
fn mistakes_name_the_key_and_what_to_write() {
    for (text, wanted) in [
        (
            "kind = \"htp\"",
            "health.kind: \"htp\" is none of http, tcp, grpc, mysql, redis; did you mean \"http\"?",
        ),
        ("method = \"get\"", "health.method: \"get\" is none of GET, HEAD, OPTIONS, POST"),
        ("method = \"HEAD\"\nbody = \"x\"", "health.body: answers to HEAD have none"),
        ("status = []", "health.status: is empty; write which pass"),
        ("status = [\"2xx\"]", "health.status[0]: \"2xx\" is no final status; write one from 200 to 599"),
        ("status = [100]", "health.status[0]: \"100\" is no final status"),
        ("status = [\"299-200\"]", "health.status[0]: \"299-200\" is no final status"),
        ("status = [true]", "health.status[0]: must be a string or an integer, not true"),
        ("host = \"a b\"", "health.host: \"a b\" is no host"),
        ("headers = { Host = \"a\" }", "health.headers.Host: is set with health.host"),
        ("headers = { \"a b\" = \"a\" }", "is no field name"),
        ("headers = { a = \"a\\r\\nb: c\" }", "health.headers.a: is no field's value"),
        ("body = \"\"", "health.body: has 0 bytes; write 1 to 256"),
        ("service = \"a\"", "health.service: is for kind = \"grpc\"; remove it, or write that kind"),
        ("kind = \"redis\"\npath = \"/\"", "health.path: is for kind = \"http\""),
        ("kind = \"grpc\"\nuser = \"a\"", "health.user: is for kind = \"mysql\""),
        ("kind = \"grpc\"\nservice = \"a b\"", "health.service: is no service's name"),
        ("kind = \"mysql\"\nuser = \"\"", "health.user: is no user's name"),
        (
            "unhealthy_interval = \"500ms\"\ntimeout = \"1s\"",
            "health.timeout: 1s is longer than the unhealthy_interval of 500ms",
        ),
        ("panic_threshold = 101", "health.panic_threshold: must be an integer from 0 to 100"),
        ("on_failure = \"reboot\"", "health.on_failure: \"reboot\" is none of eject, restart, stop"),
    ] {
        let mistake = mistake_of(text);
        assert!(mistake.contains(wanted), "{text}\n{mistake}\n{wanted}");
    }
    let headers: Vec<_> = (0..17).map(|at| format!("h{at} = \"\"")).collect();
    let mistake = mistake_of(&format!("headers = {{ {} }}", headers.join(", ")));
    assert!(mistake.contains("health.headers: has 17 fields; the limit is 16"), "{mistake}");
}
