//! Runs load generators of others for a fixed time.

use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use benches::generator::Outcome;
use tests::finish;

use super::site::HOST;
use super::workload::Ask;

/// Past its time a generator ends its connections and adds up. One that still runs then is stuck.
const GRACE: Duration = Duration::from_secs(20);
const POST_64K: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/macro/compare/post_64k.lua");

/// HTTP/1.1 on `connections` connections.
pub fn wrk(scheme: &str, port: u16, connections: u32, ask: Ask, time: Duration) -> anyhow::Result<Outcome> {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--latency", "--timeout", "10s"]);
    command.arg("--connections").arg(connections.to_string());
    command.arg("--duration").arg(format!("{}s", time.as_secs()));
    let path = match ask {
        Ask::Get(path) => path,
        Ask::GetAndClose(path) => {
            command.args(["--header", "Connection: close"]);
            path
        }
        Ask::Post64k(path) => {
            command.args(["--script", POST_64K]);
            path
        }
    };
    command.arg(format!("{scheme}://{HOST}:{port}{path}"));
    let report = finish(&mut command, "", time + GRACE);
    Outcome::of_wrk(&report.stdout).with_context(|| format!("wrk has no report: {}", report.text()))
}

/// HTTP/2 over TLS.
pub fn h2load(port: u16, connections: u32, streams: u32, time: Duration) -> anyhow::Result<Outcome> {
    let mut command = Command::new("h2load");
    command.arg("--threads=1").arg(format!("--clients={connections}"));
    command.arg(format!("--max-concurrent-streams={streams}"));
    command.arg(format!("--duration={}", time.as_secs()));
    // The name may stand for ::1 first, where nobody listens.
    command.arg(format!("--connect-to=127.0.0.1:{port}")).arg(format!("https://{HOST}:{port}/"));
    let report = finish(&mut command, "", time + GRACE);
    Outcome::of_h2load(&report.stdout).with_context(|| format!("h2load has no report: {}", report.text()))
}
