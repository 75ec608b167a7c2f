//! Whether this gateway could serve: what the driver is told of, again and again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use vip::ServingWatch;
use vip::driver::Handle;
use vip::eligibility::{Check, Thresholds};

use crate::config::ProbeConfig;
use crate::listeners::Doorways;
use crate::serve::{Command, confirm};

/// Between two looks at the workers.
const LISTENERS_EVERY: Duration = Duration::from_secs(1);
/// A worker answers within a tick; one that is busy for longer still serves.
const LISTENERS_PATIENCE: Duration = Duration::from_secs(1);
/// A worker that hangs goes on hanging; one that is slow once does not move addresses.
const LISTENERS: Thresholds = Thresholds { rise: 1, fall: 3 };
/// Of the answer's head: `HTTP/1.1 404 `.
const STATUS_BYTES: usize = 13;
/// What is asked for where no host is configured (RFC 6761 section 6.4: nobody has it).
const NOBODY: &str = "vip-probe.invalid";

/// What is looked at.
#[derive(Clone)]
pub struct Checks {
    pub serving: ServingWatch,
    pub workers: Vec<UnboundedSender<Command>>,
    pub doorways: Doorways,
    pub probe: Option<ProbeConfig>,
}

impl Checks {
    /// For the driver: which there are.
    pub fn required(&self) -> Vec<(Check, Thresholds)> {
        let fixed = [
            (Check::Serving, Thresholds::AT_ONCE),
            (Check::Carrier, Thresholds::AT_ONCE),
            (Check::Listeners, LISTENERS),
        ];
        let probe = self.probe.as_ref().map(|probe| (Check::Probe, probe.thresholds));
        fixed.into_iter().chain(probe).collect()
    }

    /// Reports until `cancel`.
    pub async fn run(self, driver: Arc<Handle>, cancel: CancellationToken) {
        let looking = async {
            tokio::join!(
                report_serving(self.serving.clone(), &driver),
                report_listeners(&self.workers, &driver),
                async {
                    if let Some(probe) = &self.probe {
                        report_probe(probe, &self.doorways, &driver).await;
                    }
                },
            );
        };
        cancel.run_until_cancelled(looking).await;
    }
}

async fn report_serving(mut serving: ServingWatch, driver: &Handle) {
    driver.report(Check::Serving, serving.is_serving());
    while serving.changed().await.is_some() {
        driver.report(Check::Serving, serving.is_serving());
    }
}

async fn report_listeners(workers: &[UnboundedSender<Command>], driver: &Handle) {
    let mut turns = interval(LISTENERS_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let accepts = timeout(LISTENERS_PATIENCE, confirm(workers)).await.unwrap_or(false);
        driver.report(Check::Listeners, accepts);
    }
}

async fn report_probe(probe: &ProbeConfig, doorways: &Doorways, driver: &Handle) {
    let mut turns = interval(probe.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_failed = false;
    loop {
        turns.tick().await;
        let outcome = match doorway(probe, doorways) {
            Some(address) => match timeout(probe.timeout, ask(address, probe)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {:?}", probe.timeout)),
            },
            None => Err(format!("there is no listener {:?} any more", &*probe.listener)),
        };
        // Whose host is nobody's is answered by the gateway itself.
        let verdict = outcome.and_then(|status| match status {
            500.. if probe.host.is_some() => Err(format!("the answer is {status}")),
            _ => Ok(()),
        });
        if let Err(why) = &verdict
            && !has_failed
        {
            tracing::warn!(
                why,
                listener = &*probe.listener,
                "the probe through this gateway's own data path fails"
            );
        }
        has_failed = verdict.is_err();
        driver.report(Check::Probe, verdict.is_ok());
    }
}

/// Where the listener is reached from this host.
fn doorway(probe: &ProbeConfig, doorways: &Doorways) -> Option<SocketAddr> {
    let doorways = doorways.load();
    let address = doorways.iter().find(|doorway| doorway.name == probe.listener)?.address;
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, address.port()))
}

/// The status of the answer.
async fn ask(address: SocketAddr, probe: &ProbeConfig) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (host, path) = (probe.host.as_deref().unwrap_or(NOBODY), &probe.path);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sluice-vip-probe\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; STATUS_BYTES];
    stream.read_exact(&mut head).await?;
    status(&head).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers speaks no HTTP"))
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_first_bytes() {
        assert_eq!(status(b"HTTP/1.1 404 "), Some(404));
        assert_eq!(status(b"HTTP/1.0 200 "), Some(200));
        for bad in [&b"HTTP/1.1 4x4 "[..], b"HTTP/2.0 200 ", b"HTTP/1.1 2", b"", b"SSH-2.0-Open"] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }
}
