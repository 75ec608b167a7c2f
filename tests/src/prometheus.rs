//! A real Prometheus that scrapes gateways.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::DEADLINE;
use crate::client::RawClient;
use crate::eventually::yields;
use crate::port::HeldPort;
use crate::program::Program;

pub struct Prometheus {
    port: HeldPort,
    _program: Program,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes `targets` every second as the job `sluice`. Returns when it answers.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn scraping(targets: &[SocketAddr]) -> Self {
        let folder = TempDir::with_prefix("sluice-prometheus-").expect("a folder can be made");
        let list: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs:\n  - job_name: sluice\n    static_configs:\n      - targets: [{}]\n",
            list.join(", ")
        );
        fs::write(&config, text).expect("the folder is ours");
        let port = HeldPort::tcp();
        let program = Program::start(
            Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
                .arg(format!("--web.listen-address={}", port.address())),
        );
        let prometheus = Self { port, _program: program, _folder: folder };
        yields(DEADLINE * 2, "Prometheus is ready", || {
            let wire = std::net::TcpStream::connect(prometheus.port.address());
            wire.ok().filter(|_| prometheus.get("/-/ready") == "Prometheus Server is Ready.\n")
        });
        prometheus
    }

    /// The result of a query for this moment: one entry per series.
    ///
    /// # Errors
    /// Why Prometheus refuses it.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        let answer: Value = serde_json::from_str(&answer).expect("Prometheus answers in JSON");
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(answer["error"].to_string()),
        }
    }

    fn get(&self, target: &str) -> String {
        let response = RawClient::connect(self.port.address()).get("prometheus", target);
        String::from_utf8_lossy(&response.body).into_owned()
    }
}
