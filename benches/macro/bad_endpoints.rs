//! An app beside another one whose endpoints do everything wrong that endpoints can do.
//!
//! The calm app's load runs alone, then beside the sick app, then beside it after its cure. Said is what the
//! calm app's clients saw, how long each bad endpoint was asked before it was ejected, and how long after
//! its cure it was back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use benches::clock::millis;
use benches::load::Plan;
use benches::record::Record;
use serde_json::json;
use tests::{App, Config, Endpoint, Gateway, RawClient, Reply, yields};

use crate::stretches::{self, Stretch};

const CALM: &str = "calm.test";
const SICK: &str = "sick.test";
const CONNECTIONS: u32 = 16;
/// Of the calm app: far below what the machine carries, so that a wait shows.
const RATE: u32 = 1_000;
/// Of the sick app, each asking again as soon as there is an answer, and at most so often.
const CALLERS: usize = 16;
const CALL_PAUSE: Duration = Duration::from_millis(10);
/// An answer that has not come after this and a second of grace will not come.
const CALL: &str =
    "GET / HTTP/1.1\r\nHost: sick.test\r\nContent-Type: application/grpc\r\ngrpc-timeout: 100m\r\n\r\n";
/// The usual latency of the sick app's good endpoints, and ten times that.
const USUAL: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// How long the calm app is alone, and how long it is beside the other one, sick and cured.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

/// One that can be cured.
struct Patient {
    name: &'static str,
    address: SocketAddr,
    ill: Arc<AtomicBool>,
    /// `None`: nobody listens while it is ill.
    endpoint: Option<Endpoint>,
}

impl Patient {
    fn new(name: &'static str, symptom: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        let ill = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&ill);
        let endpoint = Endpoint::behaving(name, move |_| {
            if state.load(Ordering::Acquire) {
                return symptom();
            }
            thread::sleep(USUAL);
            Reply::ok(name)
        });
        Self { name, address: endpoint.address(), ill, endpoint: Some(endpoint) }
    }

    fn refusing() -> Self {
        let Self { ill, address, endpoint, .. } = Self::new("refuses", || Reply::Close);
        drop(endpoint);
        Self { name: "refuses", address, ill, endpoint: None }
    }

    fn cure(&mut self) {
        self.ill.store(false, Ordering::Release);
        if self.endpoint.is_none() {
            self.endpoint = Some(Endpoint::start_at(self.name, self.address));
        }
    }
}

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let settings_line = json!({
        "seconds": settings.seconds, "connections": CONNECTIONS, "requests_per_second": RATE,
        "callers": CALLERS, "usual_ms": USUAL.as_millis(), "slow_ms": SLOW.as_millis(),
    });
    let mut record = Record::start("bad_endpoints", &settings_line);
    let mut patients = patients();
    let goods: Vec<_> = (0..5).map(|_| good()).collect();
    let calm = Endpoint::start("calm");
    let gateway = Gateway::start(&config(&patients, &goods, &calm));
    let plan =
        Plan { address: gateway.web(), hosts: vec![CALM.to_owned()], connections: CONNECTIONS, rate: RATE };
    let stretch = Duration::from_secs(settings.seconds);
    let load = plan.start();
    thread::sleep(stretch);
    let sick = load.elapsed();
    let callers = Callers::start(gateway.web());
    let ejected = moments(&gateway, &patients, |report| report["state"] == "ejected");
    thread::sleep(stretch.saturating_sub(load.elapsed() - sick));
    let cured = load.elapsed();
    patients.iter_mut().for_each(Patient::cure);
    let returned = moments(&gateway, &patients, |report| report["state"] != "ejected");
    thread::sleep(stretch.saturating_sub(load.elapsed() - cured));
    let end = load.elapsed();
    drop(callers);
    let report = load.stop();
    let reasons = reasons(&gateway);
    drop(gateway);
    let verdict = stretches::tell(
        &mut record,
        &report,
        &[
            Stretch { name: "alone", time: Duration::ZERO..sick },
            Stretch { name: "beside bad endpoints", time: sick..cured },
            Stretch { name: "after their cure", time: cured..end },
        ],
    );
    say(&mut record, &patients, &ejected, &returned, &reasons);
    record.finish()?;
    verdict.check()
}

fn patients() -> Vec<Patient> {
    vec![
        Patient::new("never answers", || Reply::Hang),
        Patient::refusing(),
        Patient::new("resets in its body", || {
            Reply::RawThenReset(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf".to_vec())
        }),
        Patient::new("answers garbage", || Reply::RawThenClose(b"220 smtp.test ready\r\n\r\n".to_vec())),
        Patient::new("is ten times slower", || {
            thread::sleep(SLOW);
            Reply::ok("slow")
        }),
    ]
}

fn good() -> Endpoint {
    Endpoint::behaving("good", |_| {
        thread::sleep(USUAL);
        Reply::ok("good")
    })
}

fn config(patients: &[Patient], goods: &[Endpoint], calm: &Endpoint) -> Config {
    let mut sick = App::new("sick")
        .host(SICK)
        .line("limits = { in_flight = 64, in_flight_per_endpoint = 8, queue = 64 }")
        .line(r#"outliers = { interval = "2s", latency = { min_requests = 5 } }"#);
    for (at, patient) in patients.iter().enumerate() {
        sick = sick.endpoint("v1", &format!("bad{at}"), patient.address);
    }
    for (at, good) in goods.iter().enumerate() {
        sick = sick.endpoint("v1", &format!("good{at}"), good.address());
    }
    Config::new().app(&sick).app(&App::new("calm").host(CALM).endpoint("v1", "c1", calm.address()))
}

/// Clients of the sick app.
struct Callers {
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    fn start(address: SocketAddr) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let call = |_| {
            let stopped = Arc::clone(&stopped);
            thread::spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    let mut client = RawClient::connect(address);
                    client.send(CALL);
                    // Whatever comes back: it is counted by the gateway.
                    client.try_receive("GET").ok();
                    thread::sleep(CALL_PAUSE);
                }
            })
        };
        Self { threads: (0..CALLERS).map(call).collect(), stopped }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// When each patient's report first looked as wanted, from now on.
fn moments(
    gateway: &Gateway,
    patients: &[Patient],
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> Vec<Duration> {
    let began = Instant::now();
    let mut seen = vec![None; patients.len()];
    yields(PATIENCE, "every bad endpoint is where it should be", || {
        let all = gateway.admin_json("/v1/endpoints");
        for item in all["items"].as_array().into_iter().flatten() {
            let at = patients.iter().position(|patient| item["address"] == patient.address.to_string());
            if let Some(at) = at.filter(|at| seen[*at].is_none() && is_so(item)) {
                seen[at] = Some(began.elapsed());
            }
        }
        seen.iter().copied().collect::<Option<Vec<_>>>()
    })
}

/// What the sick app's failed requests were counted as.
fn reasons(gateway: &Gateway) -> Vec<(&'static str, u64)> {
    let metrics = gateway.metrics();
    let count = |reason| metrics.count("sluice_requests_total", &[("app", "sick"), ("reason", reason)]);
    let all = [
        "upstream_timeout",
        "upstream_truncated",
        "upstream_bad_response",
        "connect_failed",
        "app_overloaded",
        "queue_timeout",
    ];
    all.into_iter().map(|reason| (reason, count(reason))).collect()
}

fn say(
    record: &mut Record,
    patients: &[Patient],
    ejected: &[Duration],
    returned: &[Duration],
    reasons: &[(&str, u64)],
) {
    record.say("\n| endpoint that | ejected after ms | back after its cure, ms |");
    record.say("| --- | --- | --- |");
    for ((patient, ejected), returned) in patients.iter().zip(ejected).zip(returned) {
        let (ejected, returned) = (millis(*ejected), millis(*returned));
        record
            .line("endpoint", json!({"name": patient.name, "ejected_ms": ejected, "returned_ms": returned}));
        record.say(&format!("| {} | {ejected:.0} | {returned:.0} |", patient.name));
    }
    let counts: Vec<_> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    record.line("reasons", json!(reasons.iter().copied().collect::<std::collections::BTreeMap<_, _>>()));
    record.say(&format!("\nThe sick app's failed requests: {}.", counts.join(", ")));
}
