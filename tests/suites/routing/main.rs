//! Which endpoint a request reaches, and what changes that.

mod balancing;
mod changes;
mod ketama;
mod matches;
mod matching;
mod shares;
mod standby;
mod sticky;

use tests::Gateway;

/// The id of the endpoint that answers.
#[track_caller]
fn answers(gateway: &Gateway, host: &str, target: &str) -> String {
    let response = gateway.get(host, target);
    assert_eq!(response.status, 200, "{host}{target}: {}", response.text());
    response.text()
}

/// Status and reason of a request that no endpoint answers.
#[track_caller]
fn refusal(gateway: &Gateway, host: &str, target: &str) -> (u16, String) {
    let response = gateway.get(host, target);
    let reason = response.reason().unwrap_or("none").to_owned();
    assert!(response.fields.get("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert!(response.text().ends_with(&format!(": {reason}\n")), "{:?}", response.text());
    (response.status, reason)
}

fn unknown_host() -> (u16, String) {
    (404, "unknown_host".to_owned())
}
