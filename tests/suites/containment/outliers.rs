//! Endpoints that serve badly are ejected, and return by themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, Load, RawClient, Reply, comes_true, eventually};

use crate::{HOST, Patient, ask_until_ejected, ejections, is_ejected, refusing, report};

/// For as long as a test takes, for good.
const FOR_GOOD: &str = r#"outliers = { ejection = "1h" }"#;

fn shop(patient: &Patient, good: &Endpoint) -> App {
    let app = App::new("shop").host(HOST);
    app.endpoint("v1", "bad", patient.address()).endpoint("v1", "good", good.address())
}

fn unavailable() -> Reply {
    Reply::Answer(503, Vec::new(), Vec::new())
}

#[test]
fn an_endpoint_that_resets_is_ejected_and_says_why() {
    let (patient, good) = (Patient::with(|| Reply::Reset), Endpoint::start("good"));
    let gateway = Gateway::start(&Config::new().app(&shop(&patient, &good).line(FOR_GOOD)));
    let mut client = gateway.connect();
    eventually(DEADLINE, "the endpoint is ejected", || {
        assert_eq!(client.get(HOST, "/").text(), "good", "another endpoint answers");
        is_ejected(&gateway, patient.address())
    });
    let before = patient.endpoint.requests();
    assert!((1..=8).contains(&before), "{before} requests: five in a row, and those that were under way");
    for _ in 0..50 {
        assert_eq!(client.get(HOST, "/").text(), "good");
    }
    assert_eq!(patient.endpoint.requests(), before, "an ejected endpoint was asked");
    let why = report(&gateway, patient.address())["why"].to_string();
    assert!(why.contains("ejected until 2") && why.contains("5 requests in a row"), "{why}");
    assert!(why.contains("upstream_reset"), "{why}");
    let metrics = gateway.metrics();
    let states = [("app", "shop"), ("state", "ejected")];
    assert_eq!(metrics.sum("sluice_endpoints", &states), Some(1.0), "{}", metrics.text());
    assert_eq!(ejections(&gateway, "failures"), 1);
}

#[test]
fn an_endpoint_that_was_cured_returns_by_itself() {
    let (patient, good) = (Patient::with(|| Reply::Reset), Endpoint::start("good"));
    let app = shop(&patient, &good).line(r#"outliers = { ejection = "300ms" }"#);
    let gateway = Gateway::start(&Config::new().app(&app));
    ask_until_ejected(&gateway, patient.address());
    patient.cure();
    let mut client = gateway.connect();
    eventually(DEADLINE, "it answers again", || client.get(HOST, "/").text() == "patient");
    let answers: Vec<_> = (0..20).map(|_| client.get(HOST, "/").text()).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "patient").count(), 10, "{answers:?}");
}

#[test]
fn one_failure_after_its_return_ejects_an_endpoint_again() {
    let (patient, good) = (Patient::with(|| Reply::Reset), Endpoint::start("good"));
    let app = shop(&patient, &good).line(r#"outliers = { ejection = "100ms" }"#);
    let gateway = Gateway::start(&Config::new().app(&app));
    let mut client = gateway.connect();
    eventually(DEADLINE, "it is ejected for the fourth time", || {
        assert_eq!(client.get(HOST, "/").status, 200);
        ejections(&gateway, "failures") >= 4
    });
    // Without probation it would be five for each. Some are under way when the judge hears of it.
    let asked = patient.endpoint.requests();
    assert!((8..=14).contains(&asked), "{asked} requests for four ejections");
}

#[test]
fn answers_of_a_gateway_in_trouble_eject_and_other_errors_do_not() {
    let (patient, good) = (Patient::with(unavailable), Endpoint::start("good"));
    let gateway = Gateway::start(&Config::new().app(&shop(&patient, &good).line(FOR_GOOD)));
    ask_until_ejected(&gateway, patient.address());
    let why = report(&gateway, patient.address())["why"].to_string();
    assert!(why.contains("10 gateway errors in a row"), "{why}");
    assert_eq!((ejections(&gateway, "gateway_errors"), ejections(&gateway, "failures")), (1, 0));

    let broken = Patient::with(|| Reply::Answer(500, Vec::new(), Vec::new()));
    let gateway = Gateway::start(&Config::new().app(&shop(&broken, &good).line(FOR_GOOD)));
    let mut client = gateway.connect();
    for _ in 0..60 {
        client.get(HOST, "/");
    }
    assert_eq!(broken.endpoint.requests(), 30, "a 500 is the app's own affair");
}

#[test]
fn successes_in_between_keep_an_endpoint() {
    let count = AtomicU64::new(0);
    let flaky = Patient::with(move || match count.fetch_add(1, Ordering::AcqRel) % 5 {
        4 => Reply::ok("well"),
        _ => Reply::Reset,
    });
    let good = Endpoint::start("good");
    // Whether a reset is tried elsewhere plays no part: four in a row are not five.
    let gateway = Gateway::start(&Config::with_workers(1).app(&shop(&flaky, &good).line(FOR_GOOD)));
    let mut client = gateway.connect();
    for _ in 0..60 {
        client.get(HOST, "/");
    }
    assert_eq!(ejections(&gateway, "failures"), 0);
    assert!(flaky.endpoint.requests() >= 25, "{}", flaky.endpoint.requests());
}

#[test]
fn half_of_the_endpoints_stay_and_so_does_the_only_one() {
    let patients: Vec<_> = (0..4).map(|_| Patient::with(|| Reply::Reset)).collect();
    let app = App::new("shop").host(HOST).line(FOR_GOOD);
    let app = patients
        .iter()
        .enumerate()
        .fold(app, |app, (at, patient)| app.endpoint("v1", &format!("c{at}"), patient.address()));
    let lonely = Patient::with(|| Reply::Reset);
    let single = App::new("single").host("single.test").endpoint("v1", "c1", lonely.address());
    let gateway = Gateway::start(&Config::new().app(&app).app(&single));
    let mut client = gateway.connect();
    let out = || patients.iter().filter(|patient| is_ejected(&gateway, patient.address())).count();
    eventually(DEADLINE, "two are out", || {
        assert_eq!(client.get(HOST, "/").reason(), Some("upstream_reset"));
        out() == 2
    });
    for _ in 0..40 {
        assert_eq!(client.get(HOST, "/").reason(), Some("upstream_reset"), "somebody is still asked");
        assert_eq!(client.get("single.test", "/").reason(), Some("upstream_reset"));
    }
    assert_eq!(out(), 2);
    assert!(!is_ejected(&gateway, lonely.address()) && lonely.endpoint.requests() >= 40);
}

#[test]
fn an_ejection_survives_a_change_of_the_app() {
    let (patient, good) = (Patient::with(|| Reply::Reset), Endpoint::start("good"));
    let app = shop(&patient, &good).line(FOR_GOOD);
    let gateway = Gateway::start(&Config::new().app(&app));
    ask_until_ejected(&gateway, patient.address());
    let before = patient.endpoint.requests();
    gateway.put_app(&app.clone().host("more.test"));
    eventually(DEADLINE, "the change is live", || gateway.get("more.test", "/").status == 200);
    for _ in 0..20 {
        assert_eq!(gateway.get(HOST, "/").text(), "good");
    }
    assert_eq!(patient.endpoint.requests(), before);
    assert!(is_ejected(&gateway, patient.address()));
}

#[test]
fn a_life_that_probes_have_seen_begin_ends_an_ejection() {
    let (patient, good) = (Patient::with(|| Reply::Reset), Endpoint::start("good"));
    let gateway = Gateway::start(&Config::new().app(&shop(&patient, &good).line(FOR_GOOD).probed()));
    // Its ping says that it is well, which ends nothing.
    ask_until_ejected(&gateway, patient.address());
    let pings = patient.endpoint.pings();
    eventually(DEADLINE, "some more pings", || patient.endpoint.pings() > pings + 3);
    assert!(is_ejected(&gateway, patient.address()));
    patient.endpoint.set_healthy(false);
    let is = |state: &str| report(&gateway, patient.address())["state"] == state;
    eventually(DEADLINE, "its probes find it down", || is("down"));
    patient.cure();
    patient.endpoint.set_healthy(true);
    eventually(DEADLINE, "it is up", || is("up"));
    let mut client = gateway.connect();
    eventually(DEADLINE, "it answers", || client.get(HOST, "/").text() == "patient");
}

#[test]
fn an_endpoint_that_fails_more_often_than_the_others_is_found_by_comparison() {
    let count = AtomicU64::new(0);
    let patient = Patient::with(move || match count.fetch_add(1, Ordering::AcqRel) % 2 {
        0 => Reply::ok("well"),
        _ => Reply::Answer(500, Vec::new(), Vec::new()),
    });
    let goods: Vec<_> = (0..3).map(|_| Endpoint::start("good")).collect();
    let app = App::new("shop")
        .host(HOST)
        .line(r#"outliers = { interval = "300ms", ejection = "1h", success_rate = { min_requests = 5 } }"#);
    let app = goods
        .iter()
        .enumerate()
        .fold(app, |app, (at, good)| app.endpoint("v1", &format!("c{at}"), good.address()));
    let gateway = Gateway::start(&Config::new().app(&app.endpoint("v1", "bad", patient.address())));
    let load = Load::start(gateway.web(), HOST, 4);
    eventually(DEADLINE, "it is ejected", || is_ejected(&gateway, patient.address()));
    load.stop();
    assert!(ejections(&gateway, "success_rate") == 1, "{}", gateway.metrics().text());
    let why = report(&gateway, patient.address())["why"].to_string();
    assert!(why.contains("% succeed"), "{why}");
    assert!(goods.iter().all(|good| !is_ejected(&gateway, good.address())));
}

#[test]
fn an_endpoint_that_is_slower_than_the_others_is_found_by_comparison() {
    let slow = Patient::with(|| {
        std::thread::sleep(Duration::from_millis(200));
        Reply::ok("slow")
    });
    let goods: Vec<_> = (0..2).map(|_| Endpoint::start("good")).collect();
    let app = App::new("shop").host(HOST).line(
        r#"outliers = { interval = "500ms", ejection = "300ms", latency = { min_requests = 2, least = "100ms" } }"#,
    );
    let app = goods
        .iter()
        .enumerate()
        .fold(app, |app, (at, good)| app.endpoint("v1", &format!("c{at}"), good.address()));
    let gateway = Gateway::start(&Config::new().app(&app.endpoint("v1", "slow", slow.address())));
    let load = Load::start(gateway.web(), HOST, 4);
    eventually(DEADLINE, "it is ejected", || ejections(&gateway, "latency") > 0);
    slow.cure();
    let mut client = gateway.connect();
    eventually(DEADLINE, "it returns", || client.get(HOST, "/").text() == "patient");
    load.stop().assert_undisturbed();
}

#[test]
fn a_database_that_refuses_is_ejected() {
    let good = Endpoint::start("good");
    let bad = refusing();
    let app = App::new("shop").line(FOR_GOOD).tcp_endpoint("v1", "bad", bad).tcp_endpoint(
        "v1",
        "good",
        good.address(),
    );
    let config = Config::with_workers(1).app(&app);
    let gateway = Gateway::start(&config.listener("db", &[r#"protocol = "tcp""#, r#"app = "shop""#]));
    // A worker avoids who refused for a second, so the five take some seconds.
    eventually(DEADLINE, "it is ejected", || {
        assert_eq!(RawClient::connect(gateway.listener("db")).get(HOST, "/").text(), "good");
        is_ejected(&gateway, bad)
    });
}

#[test]
fn outliers_can_be_left_alone() {
    let (patient, good) = (Patient::with(unavailable), Endpoint::start("good"));
    let app = shop(&patient, &good).line("outliers = { enabled = false }");
    let gateway = Gateway::start(&Config::new().app(&app));
    let mut client = gateway.connect();
    for _ in 0..60 {
        client.get(HOST, "/");
    }
    assert_eq!(patient.endpoint.requests(), 30);
    assert!(!comes_true(Duration::from_millis(200), || is_ejected(&gateway, patient.address())));
}
