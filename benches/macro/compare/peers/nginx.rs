//! nginx: a keepalive pool to the endpoint, and buffers that hold a body of 64 KiB in either direction.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::super::site::{HOST, nginx, nginx_main};
use super::{BACKLOG, NEVER, POOL, Setup, first_line};

/// A client and an endpoint for each of 512 connections, and some to spare.
const CONNECTIONS: usize = 4096;
const LOG: &str = concat!(
    r#"{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$host","#,
    r#""path":"$request_uri","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"#,
    r#""endpoint":"$upstream_addr","agent":"$http_user_agent"}"#,
);

pub fn command(setup: &Setup<'_>) -> anyhow::Result<Command> {
    let file = setup.folder.join("nginx.conf");
    fs::write(&file, configuration(setup, stream_module()?.as_deref()))?;
    Ok(nginx(&setup.folder, &file))
}

pub fn version() -> String {
    let line = first_line(Command::new("nginx").arg("-v"));
    line.rsplit('/').next().unwrap_or("?").to_owned()
}

/// Debian ships what carries TCP as a module of its own; others link it in.
fn stream_module() -> anyhow::Result<Option<PathBuf>> {
    let output = Command::new("nginx").arg("-V").output().context("cannot run nginx")?;
    let options = String::from_utf8_lossy(&output.stderr);
    if !options.contains("--with-stream=dynamic") {
        return Ok(None);
    }
    let folder = options.split_ascii_whitespace().find_map(|option| option.strip_prefix("--modules-path="));
    let module =
        Path::new(folder.context("nginx does not say where its modules are")?).join("ngx_stream_module.so");
    anyhow::ensure!(
        module.is_file(),
        "nginx has no stream module; on Debian: apt-get install libnginx-mod-stream"
    );
    Ok(Some(module))
}

fn configuration(setup: &Setup<'_>, module: Option<&Path>) -> String {
    let Setup { site, ports, folder, access_log, .. } = setup;
    let load = module.map(|module| format!("load_module {};", module.display())).unwrap_or_default();
    let main = nginx_main(folder, CONNECTIONS);
    let folder = folder.display();
    let log = if *access_log {
        format!(
            "log_format json escape=json '{LOG}'; access_log {folder}/access.log json buffer=64k flush=1s;"
        )
    } else {
        "access_log off;".to_owned()
    };
    let (http, https, tcp) = (ports.http.port(), ports.https.port(), ports.tcp.port());
    let (endpoint, certificate, key) = (site.endpoint(), site.certificate(), site.key());
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        r#"{load} {main}
http {{
  {log}
  server_tokens off; keepalive_requests 1000000000; keepalive_timeout {NEVER};
  client_max_body_size 0; client_body_buffer_size 128k; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_buffers 16 32k; proxy_buffer_size 8k; proxy_max_temp_file_size 0;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:sessions:10m;
  upstream endpoint {{ server {endpoint}; keepalive {POOL}; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{http} default_server backlog={BACKLOG}; return 404; }}
  server {{
    listen 127.0.0.1:{http};
    listen 127.0.0.1:{https} ssl http2 backlog={BACKLOG};
    ssl_certificate {certificate}; ssl_certificate_key {key};
    server_name {HOST};
    location / {{ proxy_pass http://endpoint; }}
  }}
}}
stream {{
  server {{
    listen 127.0.0.1:{tcp} backlog={BACKLOG}; proxy_pass {endpoint}; proxy_buffer_size 64k; tcp_nodelay on;
  }}
}}
"#
    )
}
