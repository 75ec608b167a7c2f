//! What clients are told by the gateway itself, and apps that are closed for a while.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::{curl, field, status};

const PROTOCOLS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const PROGRAM: &str = "Accept: application/json, text/plain, */*";

fn body(answer: &str) -> &str {
    answer.split_once("\n\n").map(|(_, body)| body).unwrap_or_default()
}

#[test]
fn browsers_programs_and_terminals_are_told_in_their_own_way() {
    let endpoint = Endpoint::start("c1");
    let lines = "[filters.error_pages]\ntitle = \"Fish & <Chips>\"\ntext = \"Call us.\"\ntexts = { 502 = \"Soon <b>back</b>.\" }";
    let gateway = Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line(lines)));
    endpoint.stop();
    for protocol in PROTOCOLS {
        let page = curl(&gateway, "/", &[protocol, "-H", BROWSER]);
        assert_eq!((status(&page), field(&page, "content-type")), (502, vec!["text/html; charset=utf-8"]));
        for part in
            ["<h1>502 Bad Gateway</h1>", "Fish &amp; &lt;Chips&gt;", "Soon &lt;b&gt;back", "connect_failed"]
        {
            assert!(body(&page).contains(part), "{part}: {page}");
        }
        assert_eq!(field(&page, "x-sluice-reason"), ["connect_failed"]);
        let told = curl(&gateway, "/", &[protocol, "-H", PROGRAM]);
        assert_eq!(field(&told, "content-type"), ["application/problem+json"]);
        let told: serde_json::Value = serde_json::from_str(body(&told)).expect("it is JSON");
        assert_eq!((&told["status"], &told["reason"]), (&502.into(), &"connect_failed".into()));
        assert_eq!((&told["title"], &told["detail"]), (&"Bad Gateway".into(), &"Soon <b>back</b>.".into()));
        assert_eq!(told["request_id"].as_str().map(str::len), Some(32));
        let line = curl(&gateway, "/", &[protocol]);
        assert_eq!(body(&line), "502 Bad Gateway: connect_failed\nSoon <b>back</b>.\n");
        let head = curl(&gateway, "/", &[protocol, "--head", "-H", BROWSER]);
        assert_eq!((status(&head), body(&head)), (502, ""));
        assert_eq!(field(&head, "content-type"), ["text/html; charset=utf-8"]);
        // Before the app's own way of speaking is known there is ours.
        let unknown = curl(&gateway, "/../x", &[protocol, "-H", BROWSER]);
        assert_eq!(
            (status(&unknown), field(&unknown, "content-type")),
            (400, vec!["text/plain; charset=utf-8"])
        );
    }
}

#[test]
fn a_refusal_by_a_match_is_told_in_the_apps_way_too() {
    let endpoint = Endpoint::start("c1");
    let lines = "[filters.error_pages]\n[[match]]\nname = \"no\"\npath = [\"/no\"]\nrefuse = true";
    let gateway = Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line(lines)));
    let page = curl(&gateway, "/no", &["-H", BROWSER]);
    assert_eq!((status(&page), field(&page, "content-type")), (404, vec!["text/html; charset=utf-8"]));
    assert!(body(&page).contains("match_refused"), "{page}");
}

#[test]
fn a_closed_app_says_until_when_and_lets_some_through() {
    let endpoint = Endpoint::start("c1");
    let lines =
        "[filters.maintenance]\nallow = [\"10.0.0.0/8\"]\nretry_after = \"5m\"\ntext = \"Back at <noon>.\"";
    let config = Config::new().trusting("127.0.0.1");
    let app = App::everything(endpoint.address());
    let gateway = Gateway::start(&config.app(&app.clone().line(lines)));
    for protocol in PROTOCOLS {
        let page = curl(&gateway, "/", &[protocol, "-H", BROWSER]);
        assert_eq!((status(&page), field(&page, "retry-after")), (503, vec!["300"]));
        assert!(
            body(&page).contains("Back at &lt;noon&gt;.") && body(&page).contains("maintenance"),
            "{page}"
        );
        let told = curl(&gateway, "/", &[protocol, "-X", "POST", "-d", "x", "-H", PROGRAM]);
        assert_eq!((status(&told), field(&told, "x-sluice-reason")), (503, vec!["maintenance"]));
        let ours = curl(&gateway, "/", &[protocol, "-H", "X-Forwarded-For: 10.1.2.3"]);
        assert_eq!((status(&ours), body(&ours)), (200, "c1"));
        // gRPC clients look at their own status.
        if protocol == PROTOCOLS[1] {
            let call =
                curl(&gateway, "/a/B", &[protocol, "-X", "POST", "-H", "Content-Type: application/grpc"]);
            assert_eq!(
                (field(&call, "grpc-status"), field(&call, "grpc-message")),
                (vec!["14"], vec!["maintenance"])
            );
        }
    }
    assert_eq!(endpoint.requests(), 2);
    gateway.put_app(&app.line(&lines.replace("allow", "enabled = false\nallow")));
    tests::eventually(tests::DEADLINE, "it is open again", || status(&curl(&gateway, "/", &[])) == 200);
}

#[test]
fn faults_hit_their_share_and_say_that_they_are_on_purpose() {
    let endpoint = Endpoint::start("c1");
    let lines = "[[match]]\nname = \"testers\"\nheader = { name = \"X-Test\" }\n\
                 [[filters.faults]]\nmatch = [\"testers\"]\npercent = 100\nabort = 418\n\
                 [[filters.faults]]\npercent = 25\nabort = 503\n\
                 [[filters.faults]]\npercent = 100\ndelay = \"10ms\"";
    let gateway =
        Gateway::start(&Config::with_workers(1).app(&App::everything(endpoint.address()).line(lines)));
    for protocol in PROTOCOLS {
        let teapot = curl(&gateway, "/", &[protocol, "-H", "X-Test: 1"]);
        assert_eq!((status(&teapot), field(&teapot, "x-sluice-reason")), (418, vec!["fault_injected"]));
        assert_eq!(field(&teapot, "x-sluice-fault"), ["abort"]);
    }
    let mut client = gateway.connect();
    let mut counts = [0, 0];
    for _ in 0..20 {
        let answer = client.get("any.test", "/");
        match answer.status {
            200 => {
                assert_eq!(answer.fields.get("x-sluice-fault"), Some("delay"));
                counts[0] += 1;
            }
            503 => {
                assert_eq!(answer.reason(), Some("fault_injected"));
                counts[1] += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!((3..=7).contains(&counts[1]), "{counts:?}");
    assert_eq!(endpoint.requests(), counts[0]);
    let injected = [("app", "all"), ("reason", "fault_injected")];
    // A request is counted once its answer has gone.
    eventually(DEADLINE, "all are counted", || {
        gateway.metrics().count("sluice_requests_total", &injected) == counts[1] + 2
    });
}

#[test]
fn a_delay_is_waited_for() {
    let endpoint = Endpoint::start("c1");
    let lines = "[[filters.faults]]\npercent = 100\ndelay = \"700ms\"";
    let gateway = Gateway::start(&Config::new().app(&App::everything(endpoint.address()).line(lines)));
    let start = std::time::Instant::now();
    assert_eq!(gateway.get("any.test", "/").status, 200);
    assert!(start.elapsed().as_millis() >= 700, "never early: {:?}", start.elapsed());
}
