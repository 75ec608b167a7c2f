//! `sluice upgrade`, as operators and service managers call it.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tests::{Config, DEADLINE, Endpoint, Finished, Gateway, eventually, finish, sluice};

use crate::traffic::connections;
use crate::{assert_goes_on, failures};

fn upgrade(gateway: &Gateway) -> Finished {
    let file = gateway.folder().join("sluice.toml");
    finish(sluice().args(["upgrade", "--config"]).arg(file), "", DEADLINE * 2)
}

/// A process that is not our child.
struct Stray(Pid);

impl Drop for Stray {
    fn drop(&mut self) {
        // Fails only when it is gone.
        kill_process(self.0, Signal::KILL).ok();
    }
}

#[test]
fn an_upgrade_returns_when_the_next_process_serves() {
    let endpoint = Endpoint::start("c1");
    let mut gateway = Gateway::start(&Config::in_front_of(endpoint.address()).handover());
    let client = connections(gateway.web());
    let ended = upgrade(&gateway);
    let pid = gateway.admin_json("/v1/process")["pid"].as_u64().and_then(|pid| i32::try_from(pid).ok());
    let next = Stray(Pid::from_raw(pid.expect("a number")).expect("not 0"));
    assert_eq!(ended.code, Some(0), "{}", ended.text());
    let said = format!(
        "process {} (sluice {}) serves as generation 2",
        next.0.as_raw_nonzero(),
        env!("CARGO_PKG_VERSION")
    );
    assert!(ended.stdout.contains(&said), "{}", ended.text());
    assert!(ended.stdout.contains(&format!("process {} drains", gateway.pid())), "{}", ended.text());
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
    client.stop("new connections");
    kill_process(next.0, Signal::TERM).expect("it runs");
    eventually(DEADLINE, "it ends", || test_kill_process(next.0).is_err() || is_ended(next.0));
}

/// Whether nobody has looked after it yet.
fn is_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn an_upgrade_that_fails_says_why_and_changes_nothing() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address()).handover();
    let gateway = Gateway::start(&base);
    gateway.put_config(&base.clone().access_log("nowhere/access.log", "json"));
    let ended = upgrade(&gateway);
    assert_eq!(ended.code, Some(1));
    for words in
        ["nowhere/access.log", "the new process ended", &format!("process {} goes on", gateway.pid())]
    {
        assert!(ended.text().contains(words), "no {words:?} in {}", ended.text());
    }
    eventually(DEADLINE, "the failure is counted", || failures(&gateway) == 1);
    assert_goes_on(&gateway, gateway.pid());
    gateway.put_config(&base.gateway("wrokers = 2"));
    let ended = upgrade(&gateway);
    assert_eq!(ended.code, Some(1));
    assert!(ended.text().contains("wrokers"), "{}", ended.text());
    assert_goes_on(&gateway, gateway.pid());
}

#[test]
fn an_upgrade_needs_somebody_to_take_over_from() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address());
    let gateway = Gateway::start(&base);
    let ended = upgrade(&gateway);
    assert_eq!(ended.code, Some(1));
    assert!(ended.text().contains("gateway.handover"), "{}", ended.text());
    gateway.put_config(&base.handover());
    let ended = upgrade(&gateway);
    assert_eq!(ended.code, Some(1));
    assert!(ended.text().contains("no running gateway answers"), "{}", ended.text());
}
