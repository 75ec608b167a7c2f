//! Chromium without a window: a page over HTTPS with HTTP/2, and a WebSocket within it.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{App, Config, DEADLINE, Endpoint, Gate, Reply, Request, eventually, finish};

use crate::front::{Front, HOST, run};
use crate::script::ScriptServer;

const PAGE: &str = include_str!("page.html");
/// A browser is several processes that take their time where every core is busy.
const BROWSER: Duration = Duration::from_secs(120);

/// Serves the page and what it asks for. One answer is held back until `reported` is open.
fn answer(request: &Request, reported: &Gate) -> Reply {
    let html = vec![("content-type", "text/html; charset=utf-8".to_owned())];
    match request.target.as_str() {
        "/" => Reply::Answer(200, html, PAGE.as_bytes().to_vec()),
        "/until-reported" => {
            reported.pass();
            Reply::Answer(204, Vec::new(), Vec::new())
        }
        "/reported" => {
            reported.open();
            Reply::ok("thanks")
        }
        "/upload" => Reply::ok(request.body.len().to_string()),
        path if path.starts_with("/echo/") => Reply::ok(path),
        _ => Reply::Answer(404, Vec::new(), Vec::new()),
    }
}

/// The hash of the certificate's public key, which is how Chromium is told to trust it.
fn fingerprint(front: &Front) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", "openssl x509 -in \"$1\" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64"]);
    let report = run(command.arg("sh").arg(front.certificate()), "");
    report.stdout.trim().to_owned()
}

fn chromium(front: &Front) -> Command {
    let mut command = Command::new("chromium");
    // Root has no sandbox, and containers have a small /dev/shm.
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]);
    // Nobody but us is to be talked to.
    command.args(["--disable-background-networking", "--disable-sync", "--disable-extensions"]);
    command.args(["--no-proxy-server", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", front.folder().join("profile").display()));
    command.arg(format!("--ignore-certificate-errors-spki-list={}", fingerprint(front)));
    command.arg(format!("--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND"));
    command.env("HOME", front.folder()).arg(front.url("https", "/"));
    command
}

/// What the page has written into itself.
fn result(dom: &str) -> Value {
    let text = dom.split_once("<pre id=\"result\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let text = text.unwrap_or_else(|| panic!("no result in {dom:?}")).0;
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_page_is_loaded_over_http2_and_talks_over_a_websocket() {
    let reported = Gate::default();
    let holding = reported.clone();
    let endpoint = Endpoint::behaving("c1", move |request| answer(request, &holding));
    let chat = ScriptServer::start("websocket_server.py", &["chat"]);
    let pages = App::new("pages").host(HOST).endpoint("v1", "c1", endpoint.address());
    let sockets = App::new("chat").host(HOST).path("/chat").endpoint("v1", "c1", chat.address);
    let front = Front::start(Config::new().app(&pages).app(&sockets));
    let report = finish(&mut chromium(&front), "", BROWSER);
    assert_eq!(report.code, Some(0), "{}", report.text());
    assert!(report.stdout.contains("result"), "{}", report.text());
    let seen = result(&report.stdout);
    assert_eq!((&seen["echoes"], &seen["uploaded"]), (&json!(40), &json!(true)), "{seen}");
    let socket = json!({"protocol": "chat.test", "answers": ["one", "chat"], "code": 4000});
    assert_eq!(seen["socket"], socket, "{seen}");
    // The page, forty echoes and the upload.
    assert_eq!(seen["protocols"], json!(["h2"]), "{seen}");
    assert!(seen["entries"].as_u64() >= Some(42), "{seen}");
    chat.wait_for_event("the server saw it close", |event| *event == json!({"code": 4000, "reason": "done"}));
    // The WebSocket was a stream of an HTTP/2 connection too (RFC 8441).
    eventually(DEADLINE, "the WebSocket has its line", || {
        front.log().iter().any(|line| line.contains("/chat HTTP/2"))
    });
    let others = front.log().iter().filter(|line| !line.contains(" HTTP/2.0\" ")).count();
    assert_eq!(others, 0, "{:?}", front.log());
}
