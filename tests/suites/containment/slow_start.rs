//! New and returned endpoints get their share little by little.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::{HOST, Patient, ask_until_ejected, report};

const REQUESTS: usize = 60;

/// How many of [`REQUESTS`] `id` answers.
fn answered_by(gateway: &Gateway, id: &str) -> usize {
    let mut client = gateway.connect();
    (0..REQUESTS).filter(|_| client.get(HOST, "/").text() == id).count()
}

fn percent(gateway: &Gateway, endpoint: &Endpoint) -> u64 {
    report(gateway, endpoint.address())["weight_percent"].as_u64().expect("a share of its weight")
}

#[test]
fn a_new_endpoint_gets_little_at_first_and_its_share_in_the_end() {
    let (old, new) = (Endpoint::start("old"), Endpoint::start("new"));
    let app = App::new("shop").host(HOST).line(r#"slow_start = "6s""#).endpoint("v1", "old", old.address());
    let gateway = Gateway::start(&Config::with_workers(1).app(&app));
    eventually(DEADLINE, "the old one has its whole weight", || percent(&gateway, &old) == 100);
    gateway.put_app(&app.endpoint("v1", "new", new.address()));
    eventually(DEADLINE, "the new one is asked", || gateway.get(HOST, "/").text() == "new");
    let answered = answered_by(&gateway, "new");
    let share = percent(&gateway, &new);
    // What it has of its weight at the end bounds what it had before.
    let most = REQUESTS as u64 * share / (100 + share) + 2;
    assert!(share < 90, "the machine was too slow to see anything: {share} %");
    assert!(answered as u64 <= most, "{answered} of {REQUESTS} with {share} % of its weight");
    eventually(DEADLINE, "the new one has its whole weight", || percent(&gateway, &new) == 100);
    eventually(DEADLINE, "both get half", || answered_by(&gateway, "new") == REQUESTS / 2);
}

#[test]
fn an_endpoint_that_returns_begins_anew() {
    let (patient, good) = (Patient::with(|| tests::Reply::Reset), Endpoint::start("good"));
    let app = App::new("shop")
        .host(HOST)
        .line(r#"slow_start = "1h""#)
        .line(r#"outliers = { ejection = "1h" }"#)
        .probed()
        .endpoint("v1", "bad", patient.address())
        .endpoint("v1", "good", good.address());
    let gateway = Gateway::start(&Config::with_workers(1).app(&app));
    ask_until_ejected(&gateway, patient.address());
    let since = |endpoint: &Endpoint| {
        report(&gateway, endpoint.address())["serving_seconds"].as_f64().expect("a time")
    };
    assert!(report(&gateway, patient.address())["serving_seconds"].is_null(), "it does not serve");
    patient.endpoint.set_healthy(false);
    let is = |state: &str| report(&gateway, patient.address())["state"] == state;
    eventually(DEADLINE, "it is down", || is("down"));
    patient.cure();
    patient.endpoint.set_healthy(true);
    eventually(DEADLINE, "it is up", || is("up"));
    assert!(since(&patient.endpoint) < since(&good), "it has served for less time than the other one");
}
