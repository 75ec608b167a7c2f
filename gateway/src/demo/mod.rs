//! `sluice demo`: a gateway, an embedded registry in a temporary folder and two apps whose instances
//! are processes of this same binary. Nothing is left behind when it ends.

mod apps;
pub mod instance;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Context as _;
use apps::Demo;
use gateway::app::Gateway;
use gateway::config;

use crate::signals::Signals;

/// Where most people look first; another free port if somebody has it.
const WEB_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9901;

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// Whatever keeps the gateway or an instance from starting.
pub async fn run() -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let folder = tempfile::Builder::new()
        .prefix("sluice-demo-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let (web, admin) = (free_port(WEB_PORT)?, free_port(ADMIN_PORT)?);
    let text = configuration(web, admin);
    let config =
        config::parse("demo", &text, folder.path()).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let gateway = Box::pin(Gateway::start(config)).await?;
    let demo = Demo::start(gateway.registry()).await;
    let ended = match demo {
        Ok(mut demo) => {
            print!("{}", introduction(&demo, web, admin, folder.path()));
            tokio::select! {
                () = signals.stop() => {}
                () = demo.report_ends() => {}
            }
            demo.stop().await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    gateway.shut_down(signals.stop()).await;
    folder.close().context("cannot remove the temporary folder")?;
    ended
}

/// `preferred`, or another one that nobody listens on.
fn free_port(preferred: u16) -> anyhow::Result<u16> {
    let port_of =
        |port| TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).and_then(|l| l.local_addr());
    Ok(port_of(preferred).or_else(|_| port_of(0)).context("no free port on the loopback")?.port())
}

fn configuration(web: u16, admin: u16) -> String {
    format!(
        r#"[registry]
kind = "embedded"
path = "registry"

[gateway]
id = "demo"
base_domain = "localhost"

[[gateway.listener]]
name = "web"
address = "127.0.0.1:{web}"
protocol = "http"

[gateway.access_log]
path = "access.log"

[admin]
address = "127.0.0.1:{admin}"
"#
    )
}

fn introduction(demo: &Demo, web: u16, admin: u16, folder: &Path) -> String {
    let victim = demo.victim();
    format!(
        "
Sluice demo: one gateway, an embedded registry, two apps, each in two versions.

{instances}
Ask for each app by its hostname:
  curl -H 'Host: shop.localhost' http://127.0.0.1:{web}/
  curl -H 'Host: blog.localhost' http://127.0.0.1:{web}/

See the split, 90 % to v1 and 10 % to v2:
  for i in $(seq 100); do curl -s -H 'Host: shop.localhost' http://127.0.0.1:{web}/; done | cut -d' ' -f1,2 | sort | uniq -c

Kill an instance, and see that no request fails and why it is out:
  kill {pid}        # {name}
  curl -s 'http://127.0.0.1:{admin}/v1/endpoints?app={app}'

blog v2 c2 fails its /_ping for 6 seconds in every 20: watch it leave and return below.

Look around:
  curl -s http://127.0.0.1:{admin}/metrics | grep -E '^sluice_(requests_total|endpoints)'
  curl -s http://127.0.0.1:{admin}/v1/apps
  curl -s http://127.0.0.1:{admin}/v1/table
  tail -f {folder}/access.log

Ctrl-C ends it and leaves nothing behind.

",
        instances = demo.describe(),
        pid = victim.pid(),
        name = victim.name(),
        app = victim.app(),
        folder = folder.display(),
    )
}
