//! Traces: carried through, and told to a collector that reads OpenTelemetry's own definitions.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use tests::{App, Config, DEADLINE, Endpoint, Gateway, Reply, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Reads what it is sent, strictly.
struct Collector {
    endpoint: Endpoint,
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    fn start() -> Self {
        let received: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = received.clone();
        let endpoint = Endpoint::behaving("collector", move |request| {
            let is_ours = request.target == "/v1/traces" && request.method == "POST";
            let kind = request.fields.get("content-type");
            match ExportTraceServiceRequest::decode(&request.body[..]) {
                Ok(message) if is_ours && kind == Some("application/x-protobuf") => {
                    kept.lock().expect("no test panics with it").push(message);
                    Reply::Answer(
                        200,
                        vec![("content-type", "application/x-protobuf".to_owned())],
                        Vec::new(),
                    )
                }
                _ => Reply::Answer(400, Vec::new(), Vec::new()),
            }
        });
        Self { endpoint, received }
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().expect("no test panics with it");
        let resources = received.iter().flat_map(|message| &message.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The resource that the first message names.
    fn resource(&self) -> Vec<KeyValue> {
        let received = self.received.lock().expect("no test panics with it");
        received[0].resource_spans[0].resource.clone().expect("it says who it is").attributes
    }
}

fn config(collector: SocketAddr, sample: &str, endpoints: &[&Endpoint]) -> Config {
    let app = endpoints.iter().enumerate().fold(App::new("all").host("*"), |app, (at, endpoint)| {
        app.endpoint("v1", &format!("c{at}"), endpoint.address())
    });
    let section = format!(
        "[gateway.tracing]\nendpoint = \"http://{collector}\"\nsample = {sample}\nservice_name = \"edge\""
    );
    Config::new().app(&app).section(&section).access_log("access.log", "json")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|pair| pair.key == key);
    let value = found.next()?.value.clone()?.value?;
    assert!(found.next().is_none(), "{key} is there twice");
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    })
}

#[track_caller]
fn assert_attributes(span: &Span, wanted: &[(&str, &str)]) {
    for (key, value) in wanted {
        assert_eq!(attribute(&span.attributes, key).as_deref(), Some(*value), "{key} of {span:?}");
    }
}

#[test]
fn a_request_is_a_span_and_so_is_each_attempt() {
    let collector = Collector::start();
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = said.clone();
    let hear = move |request: &tests::Request| {
        let parent = request.fields.get("traceparent").expect("it is there once").to_owned();
        heard.lock().expect("no test panics with it").push(parent);
    };
    let hear_too = hear.clone();
    let good = Endpoint::behaving("good", move |request| {
        hear(request);
        Reply::ok("well")
    });
    let bad = Endpoint::behaving("bad", move |request| {
        hear_too(request);
        Reply::Reset
    });
    let config = config(collector.endpoint.address(), "1.0", &[&bad, &good]);
    let gateway = Gateway::start(&config.trusting("127.0.0.1"));
    let mut count = 0;
    while bad.requests() == 0 || good.requests() < 2 {
        count += 1;
        let mut client = gateway.connect();
        client.send(format!(
            "GET /a?b=c HTTP/1.1\r\nHost: Shop.test:81\r\nUser-Agent: probe\r\nX-Forwarded-For: 198.51.100.9\r\n\
             traceparent: 00-{TRACE}-{CALLER}-01\r\ntracestate: a=1\r\n\r\n"
        ));
        assert_eq!(client.receive().status, 200);
    }
    assert_eq!(good.last().fields.get("tracestate"), Some("a=1"));
    let of_kind = |kind: SpanKind| -> Vec<Span> {
        collector.spans().into_iter().filter(|span| span.kind == kind as i32).collect()
    };
    let asked = (bad.requests() + good.requests()) as usize;
    eventually(DEADLINE, "every attempt is told", || of_kind(SpanKind::Client).len() >= asked);
    let (requests, attempts) = (of_kind(SpanKind::Server), of_kind(SpanKind::Client));
    assert_eq!((requests.len(), attempts.len()), (count, asked));
    assert_eq!(attribute(&collector.resource(), "service.name").as_deref(), Some("edge"));
    assert_eq!(attribute(&collector.resource(), "service.instance.id").as_deref(), Some("gw-test"));
    for request in &requests {
        assert_eq!((hex(&request.trace_id).as_str(), hex(&request.parent_span_id).as_str()), (TRACE, CALLER));
        assert_eq!(request.name, "GET");
        assert!(request.end_time_unix_nano >= request.start_time_unix_nano);
        assert_attributes(
            request,
            &[
                ("http.request.method", "GET"),
                ("url.path", "/a"),
                ("url.query", "b=c"),
                ("url.scheme", "http"),
                ("server.address", "Shop.test"),
                ("server.port", "81"),
                ("client.address", "198.51.100.9"),
                ("network.peer.address", "127.0.0.1"),
                ("network.protocol.version", "1.1"),
                ("user_agent.original", "probe"),
                ("http.response.status_code", "200"),
                ("sluice.app", "all"),
            ],
        );
        assert_eq!(attribute(&request.attributes, "error.type"), None);
    }
    let failed = attempts.iter().find(|span| span.status.is_some()).expect("one attempt failed");
    assert_eq!(failed.status.as_ref().map(|status| status.code), Some(StatusCode::Error as i32));
    assert_attributes(
        failed,
        &[
            ("error.type", "upstream_reset"),
            ("sluice.instance", "c0"),
            ("url.full", &format!("http://{}/a", bad.address())),
        ],
    );
    let after = attempts
        .iter()
        .find(|span| span.parent_span_id == failed.parent_span_id && span.span_id != failed.span_id);
    let after = after.expect("another attempt followed, of the same request");
    assert_attributes(after, &[("http.request.resend_count", "1"), ("sluice.instance", "c1")]);
    // Each endpoint was called by the span of its own attempt.
    let mut called: Vec<_> = said.lock().expect("no test panics with it").clone();
    let mut told: Vec<_> =
        attempts.iter().map(|span| format!("00-{TRACE}-{}-01", hex(&span.span_id))).collect();
    called.sort();
    told.sort();
    assert_eq!(called, told);
    let log = || std::fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    eventually(DEADLINE, "the log names the trace", || {
        log().matches(&format!("\"trace\":\"{TRACE}\"")).count() == count
    });
    let exported = || gateway.metrics().count("sluice_trace_exported_spans_total", &[]);
    eventually(DEADLINE, "they are counted", || exported() == (count + asked) as u64);
}

#[test]
fn a_stranger_decides_on_his_trace_and_not_on_what_is_recorded() {
    let (collector, endpoint) = (Collector::start(), Endpoint::start("c1"));
    let gateway = Gateway::start(&config(collector.endpoint.address(), "0", &[&endpoint]));
    let told = |fields: &str| {
        let mut client = gateway.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.receive().status, 200);
        let fields = endpoint.last().fields;
        let parent = fields.get("traceparent").expect("there is always one").to_owned();
        (parent, fields.get("tracestate").map(str::to_owned))
    };
    let valid = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n");
    let (parent, state) = told(&format!("{valid}tracestate: a=1\r\n"));
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"), "{parent}");
    assert!(!parent.contains(CALLER) && state.as_deref() == Some("a=1"), "{parent}");
    // A state that breaks a rule ends here, its parent goes on.
    let (parent, state) = told(&format!("{valid}tracestate: A=1\r\n"));
    assert!(parent.contains(TRACE) && state.is_none(), "{parent}");
    for broken in ["", &format!("{valid}{valid}"), &valid.to_uppercase(), &valid.replace("00-4", "ff-4")] {
        let (parent, state) = told(&format!("{broken}tracestate: a=1\r\n"));
        assert!(parent.len() == 55 && !parent.contains(TRACE) && state.is_none(), "{broken}: {parent}");
    }
    assert!(collector.spans().is_empty());
}

#[test]
fn what_is_not_traced_is_passed_on_as_it_came() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()));
    let mut client = gateway.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nTraceParent: whatever\r\ntraceparent: again\r\ntracestate: X\r\n\r\n",
    );
    assert_eq!(client.receive().status, 200);
    let fields = endpoint.last().fields;
    assert_eq!((fields.all("traceparent"), fields.all("tracestate")), (vec!["whatever", "again"], vec!["X"]));
}

#[test]
fn a_collector_that_is_away_or_silent_costs_spans_and_no_request() {
    let endpoint = Endpoint::start("c1");
    let silent = Endpoint::behaving("collector", |_| Reply::Hang);
    let away = Endpoint::start("away");
    away.stop();
    for collector in [&away, &silent] {
        let mut gateway = Gateway::start(&config(collector.address(), "1.0", &[&endpoint]));
        for _ in 0..20 {
            assert_eq!(gateway.get("a", "/").status, 200);
        }
        if collector.address() == away.address() {
            eventually(DEADLINE, "that is seen", || {
                gateway.metrics().count("sluice_trace_export_failures_total", &[]) > 0
            });
        } else {
            eventually(DEADLINE, "it was asked", || silent.requests() > 0);
        }
        // The end does not wait for it either.
        gateway.signal(rustix::process::Signal::TERM);
        assert!(gateway.wait(DEADLINE).success());
    }
}
