//! What all peers share: the host that is asked for, its certificate, and the endpoint that answers.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use benches::cores;
use tempfile::TempDir;
use tests::{HeldPort, Wire, certificate};

use super::process::Process;

/// Every machine knows where it is, so neither names nor addresses need to be told to the load generators.
pub const HOST: &str = "localhost";
/// Connections from the proxy, and those of probes.
const ENDPOINT_CONNECTIONS: usize = 2048;
/// Small answers come from memory, bodies from files.
const BODIES: [(&str, usize); 2] = [("64k", 64 << 10), ("1m", 1 << 20)];

/// Dropped from above: the endpoint ends before its folder goes.
pub struct Site {
    endpoint: Process,
    port: HeldPort,
    folder: TempDir,
}

impl Site {
    /// Makes the files and starts the endpoint, an nginx on the core of the load.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("sluice-compare-")?;
        let path = folder.path();
        let pem = certificate(path, HOST);
        fs::write(path.join("bundle.pem"), pem)?;
        for (name, bytes) in BODIES {
            fs::write(path.join(name), noise(bytes))?;
        }
        let port = HeldPort::tcp();
        let configuration = path.join("endpoint.conf");
        fs::write(&configuration, endpoint_conf(path, port.port()))?;
        let mut command = nginx(path, &configuration);
        let mut endpoint = Process::start(&mut command, cores::LOAD, &path.join("endpoint.out"))?;
        let address = port.address();
        endpoint.wait_until("the endpoint answers", || Wire::connect(address, tests::DEADLINE).is_ok())?;
        Ok(Self { endpoint, port, folder })
    }

    pub fn endpoint(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join(format!("{HOST}.crt"))
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join(format!("{HOST}.key"))
    }

    /// Both in one file.
    pub fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle.pem")
    }

    /// A folder for one peer's files, below ours.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Ends the endpoint.
    pub fn stop(mut self) {
        self.endpoint.stop();
    }
}

/// A command for nginx that keeps to `folder`.
pub fn nginx(folder: &Path, configuration: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-e").arg(folder.join("error.log")).arg("-p").arg(folder).arg("-c").arg(configuration);
    command
}

/// What the endpoint and the nginx that is measured have in common. Started as root it would change to a user
/// who may not read the temporary folder.
pub fn nginx_main(folder: &Path, connections: usize) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let folder = folder.display();
    format!(
        "{user} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;\n\
         events {{ worker_connections {connections}; }}\n"
    )
}

fn endpoint_conf(folder: &Path, port: u16) -> String {
    let main = nginx_main(folder, ENDPOINT_CONNECTIONS);
    let folder = folder.display();
    format!(
        r#"{main}
http {{
  access_log off; server_tokens off; default_type text/plain;
  keepalive_requests 1000000000; keepalive_timeout 1h;
  sendfile on; open_file_cache max=16; client_max_body_size 0; client_body_buffer_size 128k;
  client_body_temp_path {folder}/endpoint-body; proxy_temp_path {folder}/endpoint-proxy;
  fastcgi_temp_path {folder}/endpoint-fastcgi; uwsgi_temp_path {folder}/endpoint-uwsgi;
  scgi_temp_path {folder}/endpoint-scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {folder};
    location = / {{ return 200 "twelve bytes"; }}
    location = /_ping {{ return 200 "up"; }}
    location = /sink {{ return 200 "taken"; }}
  }}
}}
"#
    )
}

/// Bytes that nothing can compress, the same in every run.
fn noise(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}
