//! What one client may ask, and that nobody else notices when one asks for more.

mod bodies;
mod connections;
mod heads;
mod overload;
mod slow;
mod slowhttptest;

use std::time::{Duration, Instant};

use tests::{Config, DEADLINE, Gateway, Load, RawEndpoint, comes_true};

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

/// Sends without an end to whoever asks for `/endless`, as fast as it is taken, and a word to everybody else.
/// Nothing is said of a length: a long body of known length is spliced and takes no buffer.
fn endless() -> RawEndpoint {
    RawEndpoint::start_unrecorded(|wire, _| {
        let piece = vec![b'x'; 64 << 10];
        while let Some(head) = tests::read_head(wire)? {
            if head[0].contains("/endless") {
                wire.send(b"HTTP/1.1 200 OK\r\n\r\n")?;
                while wire.send(&piece).is_ok() {}
                return Ok(());
            }
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    })
}

/// Runs `attack` while honest clients ask without a pause, and prints how many were served before and meanwhile.
///
/// # Panics
/// When one of them was not served, or none was served while the attack ran.
#[track_caller]
fn honest_during<T>(gateway: &Gateway, attack: impl FnOnce() -> T) -> T {
    // In the long form as many as keep the machine busy: what is lost then is capacity.
    let honest = if is_long() { 64 } else { 4 };
    let load = Load::start(gateway.web(), "honest.test", honest);
    assert!(comes_true(DEADLINE, || load.ok() > 0), "nobody was served before the attack");
    let rate = |since: Instant, served: u64| served as f64 / since.elapsed().as_secs_f64();
    let (start, none) = (Instant::now(), load.ok());
    // For the figure alone.
    std::thread::sleep(lasting(Duration::ZERO, Duration::from_secs(10)));
    let calm = rate(start, load.ok() - none);
    let (start, before) = (Instant::now(), load.ok());
    let result = attack();
    let during = load.ok() - before;
    println!("served a second: {calm:.0} before the attack, {:.0} meanwhile", rate(start, during));
    let report = load.stop();
    assert_eq!(report.failed, 0, "{:?}", report.examples);
    assert!(during > 0, "nobody was served during the attack");
    result
}

/// For what is not a wait but a length of attack.
fn lasting(short: Duration, long: Duration) -> Duration {
    if is_long() { long } else { short }
}
