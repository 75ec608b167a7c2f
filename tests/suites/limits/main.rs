//! What one client may ask, and that nobody else notices when one asks for more.

mod bodies;
mod connections;
mod heads;
mod slow;
mod slowhttptest;

use std::time::Duration;

use tests::{Config, DEADLINE, Gateway, Load, comes_true};

/// A minute and thousands of connections instead of seconds and hundreds.
fn is_long() -> bool {
    std::env::var_os("SLUICE_LONG").is_some()
}

/// A gateway whose web listener has these limits.
fn limited(config: Config, limits: &str) -> Gateway {
    Gateway::start(&config.gateway(&format!("limits = {{ {limits} }}")))
}

fn refused(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metrics().count("sluice_connections_refused_total", &[("reason", reason)])
}

/// Runs `attack` while honest clients ask without a pause.
///
/// # Panics
/// When one of them was not served, or none was served while the attack ran.
#[track_caller]
fn honest_during<T>(gateway: &Gateway, attack: impl FnOnce() -> T) -> T {
    const HONEST: usize = 4;
    let load = Load::start(gateway.web(), "honest.test", HONEST);
    assert!(comes_true(DEADLINE, || load.ok() > 0), "nobody was served before the attack");
    let before = load.ok();
    let result = attack();
    let during = load.ok() - before;
    let report = load.stop();
    assert_eq!(report.failed, 0, "{:?}", report.examples);
    assert!(during > 0, "nobody was served during the attack");
    result
}

/// For what is not a wait but a length of attack.
fn lasting(short: Duration, long: Duration) -> Duration {
    if is_long() { long } else { short }
}
