//! Everything that an endpoint can do wrong, at once, beside an app that must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, Load, RawClient, Reply, eventually};

use crate::{HOST, Patient, report};

const CALM: &str = "calm.test";
/// Of the sick app's clients. Their requests are calls with a deadline, so that one without an answer ends
/// while a test waits.
const CLIENTS: usize = 16;
const CALL: &str =
    "GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/grpc\r\ngrpc-timeout: 100m\r\n\r\n";

/// Asks the sick app until it is dropped, whatever comes back.
struct Callers {
    stopped: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Callers {
    fn start(gateway: &Gateway) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let call = |_| {
            let (stopped, address) = (Arc::clone(&stopped), gateway.web());
            thread::spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    let mut client = RawClient::connect(address);
                    client.send(CALL);
                    client.try_receive("GET").ok();
                }
            })
        };
        let threads = (0..CLIENTS).map(call).collect();
        Self { stopped, threads }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[test]
fn the_bad_ones_are_told_apart_ejected_and_return_and_nobody_else_notices() {
    let hanging = Patient::with(|| Reply::Hang);
    let cutting =
        Patient::with(|| Reply::RawThenReset(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf".to_vec()));
    let garbling = Patient::with(|| Reply::RawThenClose(b"220 smtp.test ready\r\n\r\n".to_vec()));
    let slow = Patient::with(|| {
        thread::sleep(Duration::from_millis(300));
        Reply::ok("slow")
    });
    let refusing = Endpoint::start("refusing");
    let address = refusing.address();
    drop(refusing);
    let goods: Vec<_> = (0..3).map(|_| Endpoint::start("good")).collect();
    let app = App::new("shop")
        .host(HOST)
        .line("limits = { in_flight = 40, in_flight_per_endpoint = 5, queue = 20 }")
        .line(
            r#"outliers = { ejection = "400ms", max_ejection = "800ms", max_ejected_percent = 70, interval = "500ms", latency = { min_requests = 2, least = "100ms" } }"#,
        )
        .endpoint("v1", "hanging", hanging.address())
        .endpoint("v1", "cutting", cutting.address())
        .endpoint("v1", "garbling", garbling.address())
        .endpoint("v1", "slow", slow.address())
        .endpoint("v1", "refusing", address);
    let app = goods
        .iter()
        .enumerate()
        .fold(app, |app, (at, good)| app.endpoint("v1", &format!("good{at}"), good.address()));
    let good = Endpoint::start("calm");
    let calm = App::new("calm").host(CALM).endpoint("v1", "c1", good.address());
    let gateway = Gateway::start(&Config::new().app(&app).app(&calm));
    let load = Load::start(gateway.web(), CALM, 4);
    let callers = Callers::start(&gateway);

    // Each of them has been out at some time, and for what it does.
    let wanted = [
        (hanging.address(), "upstream_timeout"),
        (cutting.address(), "upstream_truncated"),
        (garbling.address(), "upstream_bad_response"),
        (slow.address(), "answers in"),
        (address, "connect_failed"),
    ];
    for (address, word) in wanted {
        eventually(DEADLINE, word, || {
            let report = report(&gateway, address);
            report["state"] == "ejected" && report["why"].to_string().contains(word)
        });
    }
    let metrics = gateway.metrics();
    for reason in ["upstream_timeout", "upstream_truncated", "upstream_bad_response"] {
        let labels = [("app", "shop"), ("reason", reason)];
        assert!(metrics.count("sluice_requests_total", &labels) > 0, "{reason}: {}", metrics.text());
    }
    assert_eq!(metrics.count("sluice_requests_total", &[("app", "calm"), ("status", "5xx")]), 0);
    assert!(goods.iter().all(|good| report(&gateway, good.address())["state"] != "ejected"));

    for patient in [&hanging, &cutting, &garbling, &slow] {
        patient.cure();
    }
    let _back = Endpoint::start_at("back", address);
    let mut client = gateway.connect();
    for (address, _) in wanted {
        eventually(DEADLINE, "it has returned", || report(&gateway, address)["state"] != "ejected");
    }
    eventually(DEADLINE, "all answer", || {
        let answers: Vec<_> = (0..40).map(|_| client.get(HOST, "/").text()).collect();
        answers.iter().filter(|answer| *answer == "patient").count() == 20
            && answers.iter().any(|answer| answer == "back")
    });
    drop(callers);
    load.stop().assert_undisturbed();
    let is_empty = || gateway.metrics().count("sluice_in_flight", &[("app", "shop")]) == 0;
    eventually(DEADLINE, "every place was given back", is_empty);
}
