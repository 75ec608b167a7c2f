//! What operators want done to a request on its way, asked by curl over HTTP/1.1 and HTTP/2, of endpoints
//! that speak either.

mod access;
mod compression;
mod cors;
mod docs;
mod forward_auth;
mod headers;
mod identity;
mod jwt;
mod mirror;
mod pages;
mod routes;

use std::process::Command;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, finish};

/// An app with these lines of its file, which may hold sections, before one endpoint.
fn config(endpoint: &Endpoint, filters: &str) -> Config {
    Config::new().app(&App::everything(endpoint.address()).line(filters))
}

fn start(filters: &str) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    (Gateway::start(&config(&endpoint, filters)), endpoint)
}

/// What curl prints with `--include`, without carriage returns.
#[track_caller]
fn curl(gateway: &Gateway, target: &str, more: &[&str]) -> String {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--include", "--path-as-is", "--max-time", "10", "--noproxy", "*"])
        .args(more)
        .arg(format!("http://{}{target}", gateway.web()));
    let report = finish(&mut command, "", DEADLINE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    report.stdout.replace('\r', "")
}

/// The status of the last answer that curl printed.
#[track_caller]
fn status(answer: &str) -> u16 {
    let mut lines = answer.lines().filter(|line| line.starts_with("HTTP/"));
    let status = lines.next_back().and_then(|line| line.split(' ').nth(1));
    status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {answer}"))
}

/// All values of a field in what curl printed.
fn field<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let head = answer.split("\n\n").next().unwrap_or_default();
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}
