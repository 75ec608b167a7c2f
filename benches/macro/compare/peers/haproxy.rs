//! HAProxy: one thread, connections to the endpoint shared by all clients, splice where it helps.

use std::fs;
use std::process::Command;

use super::super::site::HOST;
use super::{BACKLOG, NEVER, Setup, first_line};

/// Clients. Far more than come: it closes idle connections to the endpoint when a quarter of the files are open
/// that it could need at most (tune.pool-high-fd-ratio), and 512 clients would have it do nothing else.
const CONNECTIONS: u32 = 5000;

pub fn command(setup: &Setup<'_>) -> anyhow::Result<Command> {
    let file = setup.folder.join("haproxy.cfg");
    fs::write(&file, configuration(setup))?;
    fs::write(setup.folder.join("hosts.map"), format!("{HOST} endpoint\n"))?;
    let mut command = Command::new("haproxy");
    command.arg("-W").arg("-f").arg(&file);
    Ok(command)
}

pub fn version() -> String {
    let line = first_line(Command::new("haproxy").arg("-v"));
    line.split_ascii_whitespace().nth(2).unwrap_or("?").to_owned()
}

/// It writes no file itself: its log goes to a file as its standard output.
fn configuration(setup: &Setup<'_>) -> String {
    let Setup { site, ports, folder, access_log, .. } = setup;
    let folder = folder.display();
    let (log_to, log) = match access_log {
        true => ("log stdout format raw local0", "log global\n  option httplog"),
        false => ("", ""),
    };
    let (http, https, tcp) = (ports.http.port(), ports.https.port(), ports.tcp.port());
    let (endpoint, bundle) = (site.endpoint(), site.bundle());
    let bundle = bundle.display();
    format!(
        r"global
  {log_to}
  nbthread 1
  maxconn {CONNECTIONS}
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  {log}
  timeout client {NEVER}
  timeout server {NEVER}
  timeout connect 3s
  http-reuse always
  option splice-auto
frontend web
  bind 127.0.0.1:{http} backlog {BACKLOG}
  bind 127.0.0.1:{https} backlog {BACKLOG} ssl crt {bundle} alpn h2,http/1.1
  use_backend %[req.hdr(host),field(1,:),lower,map({folder}/hosts.map)]
backend endpoint
  server one {endpoint}
listen tcp
  mode tcp
  bind 127.0.0.1:{tcp} backlog {BACKLOG}
  server one {endpoint}
"
    )
}
