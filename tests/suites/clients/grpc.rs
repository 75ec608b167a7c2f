//! Google's gRPC library for Python, client and server, over HTTP/2 with and without TLS.

use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{App, Config, DEADLINE, Gateway, Program, eventually, python};

use crate::front::{Front, HOST, await_probe};
use crate::script::{ScriptServer, client, path};

const SCHEMES: [&str; 2] = ["http", "https"];

fn app(server: &ScriptServer) -> App {
    App::new("echo").host(HOST).h2_endpoint("v1", "c1", server.address)
}

fn start() -> (Front, ScriptServer) {
    let server = ScriptServer::start("grpc_server.py", &[]);
    (Front::start(Config::new().app(&app(&server))), server)
}

/// What the client is told: what to do, where to go, and whom to trust.
fn arguments(front: &Front, scheme: &str, scenario: &str, authority: &str) -> Vec<String> {
    let port = front.address(scheme).port().to_string();
    let mut arguments = vec![scenario.to_owned(), port, authority.to_owned()];
    if scheme == "https" {
        arguments.push(front.certificate());
    }
    arguments
}

#[track_caller]
fn play_as(front: &Front, scheme: &str, scenario: &str, authority: &str) -> Value {
    client("grpc_client.py", &arguments(front, scheme, scenario, authority))
}

#[track_caller]
fn play(front: &Front, scheme: &str, scenario: &str) -> Value {
    play_as(front, scheme, scenario, HOST)
}

#[test]
fn a_call_carries_its_message_and_its_metadata_both_ways() {
    let (front, _server) = start();
    for scheme in SCHEMES {
        let report = play(&front, scheme, "unary");
        assert_eq!((&report["reply"], &report["code"]), (&json!("hello"), &json!("OK")), "{report}");
        assert_eq!(report["head"]["x-a"], "1", "{report}");
        // Every byte but 255, in the base64 that the client script writes for them.
        let all = report["head"]["x-b-bin"].as_str().unwrap_or_default();
        assert!(all.starts_with("AAECAwQFBgcICQoL") && all.ends_with("/P3+"), "{report}");
        assert_eq!(report["trailing"], json!({"y-c": "3", "y-d-bin": "/wA="}), "{report}");
        assert_eq!(play(&front, scheme, "empty"), json!({"reply": ""}));
    }
}

#[test]
fn streams_of_every_direction_keep_each_message() {
    let (front, _server) = start();
    for scheme in SCHEMES {
        assert_eq!(play(&front, scheme, "server_stream"), json!({"same": true}));
        let sent = json!({"messages": 2000, "bytes": 1999 * 2000 / 2});
        assert_eq!(play(&front, scheme, "client_stream"), sent);
    }
}

#[test]
fn a_thousand_messages_go_to_and_fro_one_by_one() {
    let (front, _server) = start();
    for scheme in SCHEMES {
        assert_eq!(play(&front, scheme, "bidi"), json!({"same": 1000, "rest": 0, "code": "OK"}));
    }
}

#[test]
fn messages_of_four_mebibytes_come_back_as_they_were() {
    let (front, _server) = start();
    for scheme in SCHEMES {
        assert_eq!(play(&front, scheme, "large"), json!({"same": true}));
    }
}

#[test]
fn three_hundred_calls_at_once_are_not_mixed_up() {
    let (front, _server) = start();
    for scheme in SCHEMES {
        assert_eq!(play(&front, scheme, "many"), json!({"same": 300}));
    }
}

#[test]
fn a_deadline_is_the_clients_and_the_server_learns_of_it() {
    let (front, server) = start();
    for scheme in SCHEMES {
        let report = play(&front, scheme, "deadline");
        assert_eq!(report["code"], "DEADLINE_EXCEEDED", "{report}");
        let seconds = report["seconds"].as_f64().expect("the client measured");
        assert!((1.9..10.0).contains(&seconds), "{report}");
        // grpc-timeout came through: the server knows how long its client waits.
        server.wait_for_event("the server knew the deadline", |event| {
            event["event"] == "begun"
                && event["left"].as_f64().is_some_and(|left| (0.0..=2.0).contains(&left))
        });
        let is_end = |event: &Value| event["call"] == "deadline" && event["event"] == "ended";
        server.wait_for_event("the server's call has ended", is_end);
    }
}

#[test]
fn a_call_that_its_client_cancels_is_cancelled_at_the_server() {
    let (front, server) = start();
    for scheme in SCHEMES {
        let report = play(&front, scheme, "cancel");
        assert_eq!(report, json!({"first": "begun", "cancelled": true, "code": "CANCELLED"}));
    }
    eventually(DEADLINE, "both calls have ended at the server", || {
        let lines = server.program.lines();
        lines.iter().filter(|line| line.contains("cancel") && line.contains("ended")).count() == 2
    });
}

#[test]
fn a_status_of_the_server_reaches_the_client_with_its_details() {
    let (front, _server) = start();
    for scheme in SCHEMES {
        let report = play(&front, scheme, "fail");
        assert_eq!(report["code"], "FAILED_PRECONDITION", "{report}");
        assert_eq!(report["details"], "not like this: 100 % \u{fc}\n");
        // Trailers alone are a response's head too, and gain its date.
        let mut trailing = report["trailing"].clone();
        assert!(trailing.as_object_mut().is_some_and(|fields| fields.remove("date").is_some()), "{report}");
        assert_eq!(trailing, json!({"grpc-status-details-bin": "CAVkZXRhaWxz", "y-after": "all"}));
        let report = play(&front, scheme, "fail_late");
        assert_eq!((&report["first"], &report["code"]), (&json!("first"), &json!("DATA_LOSS")), "{report}");
        assert_eq!(report["details"], "after the first message");
    }
}

#[test]
fn health_can_be_asked_for_and_watched() {
    let (front, _server) = start();
    for scheme in SCHEMES {
        // SERVING, as the message of grpc.health.v1 has it.
        let serving = json!({"server": "0801", "service": "0801", "unknown": "NOT_FOUND", "watched": "0801"});
        assert_eq!(play(&front, scheme, "health"), serving);
    }
}

/// A unary call and a stream that both get `code` from the gateway, and its reason in their details.
#[track_caller]
fn assert_refused(report: &Value, code: &str, reasons: &[&str]) {
    for kind in ["unary", "stream"] {
        assert_eq!(report[kind]["code"], code, "{report}");
        let details = report[kind]["details"].as_str().unwrap_or_default();
        assert!(reasons.contains(&details), "{report}");
        assert_eq!(report[kind]["trailing"]["x-sluice-reason"], details, "{report}");
    }
}

#[test]
fn what_the_gateway_refuses_is_a_status_that_clients_understand() {
    let (front, mut server) = start();
    let unknown = play_as(&front, "http", "ask", "other.test");
    assert_refused(&unknown, "UNIMPLEMENTED", &["unknown_host"]);
    server.program.kill();
    for scheme in SCHEMES {
        // The first call after the end may meet the connection that has just broken.
        let gone = play(&front, scheme, "ask");
        assert_refused(&gone, "UNAVAILABLE", &["connect_failed", "upstream_reset"]);
    }
    front.gateway.put_app(&App::new("echo").host(HOST));
    eventually(DEADLINE, "the app has no endpoint", || {
        front.gateway.get(HOST, "/").reason() == Some("no_endpoint")
    });
    for scheme in SCHEMES {
        assert_refused(&play(&front, scheme, "ask"), "UNAVAILABLE", &["no_endpoint"]);
    }
}

#[test]
fn a_call_under_way_outlives_the_order_to_stop() {
    for scheme in SCHEMES {
        let (mut front, _server) = start();
        let mut command = python(&path("grpc_client.py"));
        let mut staying = Program::start(command.args(arguments(&front, scheme, "stay", HOST)));
        let mut ask = |line: &str| {
            staying.say(line);
            staying.wait_for_line("the answer comes", |answer| (answer == line).then_some(()));
        };
        ask("before");
        front.gateway.signal(Signal::TERM);
        let address = front.address(scheme);
        eventually(DEADLINE, "nobody else is let in", || TcpStream::connect(address).is_err());
        ask("after");
        assert!(front.gateway.exited().is_none());
        staying.say("end");
        staying.wait_for_line("the call ends well", |line| line.contains("\"OK\"").then_some(()));
        assert!(front.gateway.wait(DEADLINE).success());
    }
}

#[test]
fn probes_ask_for_health_as_clients_do() {
    let server = ScriptServer::start("grpc_server.py", &[]);
    let probed = |service: &str| {
        app(&server).probed().health(r#"kind = "grpc""#).health(&format!("service = {service:?}"))
    };
    let gateway = Gateway::start(&Config::new().app(&probed("")));
    await_probe(&gateway, "pass", "up");
    gateway.put_app(&probed("test.Down"));
    assert_eq!(await_probe(&gateway, "not_serving", "down"), "answered NOT_SERVING");
    gateway.put_app(&probed("test.Echo"));
    await_probe(&gateway, "pass", "up");
    gateway.put_app(&probed("test.Other"));
    let error = await_probe(&gateway, "unknown_service", "down");
    assert!(error.starts_with("knows no service \"test.Other\" (NOT_FOUND)"), "{error}");
    let bare = ScriptServer::start("grpc_server.py", &["without-health"]);
    gateway.put_app(&app(&bare).probed().health(r#"kind = "grpc""#));
    let error = await_probe(&gateway, "unimplemented", "down");
    assert!(error.contains("UNIMPLEMENTED") && error.contains("kind = \"tcp\""), "{error}");
    gateway.put_app(&app(&bare).probed().health(r#"kind = "tcp""#));
    await_probe(&gateway, "pass", "up");
}
