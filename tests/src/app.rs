//! An app's file, as its owner would write it.

use std::fmt::Write;
use std::net::SocketAddr;

#[derive(Debug, Clone)]
pub struct App {
    pub id: String,
    hosts: Vec<String>,
    paths: Vec<String>,
    lines: Vec<String>,
    health: Vec<String>,
    endpoints: String,
}

impl App {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            hosts: Vec::new(),
            paths: Vec::new(),
            lines: Vec::new(),
            health: Vec::new(),
            endpoints: String::new(),
        }
    }

    /// One app that takes every host, with one endpoint.
    pub fn everything(address: SocketAddr) -> Self {
        Self::new("all").host("*").endpoint("v1", "c1", address)
    }

    pub fn host(mut self, host: &str) -> Self {
        self.hosts.push(host.to_owned());
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        self.paths.push(path.to_owned());
        self
    }

    /// A line at the top level, such as `split = { v1 = 1 }`.
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Probed ten times a second; one result is enough either way.
    pub fn probed(self) -> Self {
        self.health(r#"interval = "100ms""#).health("rise = 1").health("fall = 1")
    }

    /// A line of `[health]`.
    pub fn health(mut self, line: &str) -> Self {
        self.health.push(line.to_owned());
        self
    }

    pub fn endpoint(self, version: &str, instance: &str, address: SocketAddr) -> Self {
        self.weighted(version, instance, address, 1)
    }

    pub fn weighted(mut self, version: &str, instance: &str, address: SocketAddr, weight: u16) -> Self {
        self.endpoints.push_str(&format!(
            "\n[[endpoint]]\nversion = \"{version}\"\ninstance = \"{instance}\"\naddress = \"{address}\"\nweight = {weight}\n"
        ));
        self
    }

    /// One more line of the last endpoint's section.
    pub fn endpoint_line(mut self, line: &str) -> Self {
        writeln!(self.endpoints, "{line}").expect("a string takes all");
        self
    }

    /// An endpoint that speaks plain bytes.
    pub fn tcp_endpoint(self, version: &str, instance: &str, address: SocketAddr) -> Self {
        self.speaking("tcp", version, instance, address)
    }

    /// An endpoint for datagrams.
    pub fn udp_endpoint(self, version: &str, instance: &str, address: SocketAddr) -> Self {
        self.speaking("udp", version, instance, address)
    }

    /// An endpoint that speaks HTTP/2 without TLS.
    pub fn h2_endpoint(self, version: &str, instance: &str, address: SocketAddr) -> Self {
        self.speaking("h2", version, instance, address)
    }

    fn speaking(mut self, protocol: &str, version: &str, instance: &str, address: SocketAddr) -> Self {
        self = self.weighted(version, instance, address, 1);
        writeln!(self.endpoints, "protocol = {protocol:?}").expect("a string takes all");
        self
    }

    /// An endpoint that speaks HTTP/2 by prior knowledge.
    pub fn http2_endpoint(mut self, version: &str, instance: &str, address: SocketAddr) -> Self {
        self = self.weighted(version, instance, address, 1);
        self.endpoints.push_str("protocol = \"h2\"\n");
        self
    }

    pub fn toml(&self) -> String {
        let mut text = format!("id = \"{}\"\n", self.id);
        for (key, values) in [("hosts", &self.hosts), ("paths", &self.paths)] {
            if !values.is_empty() {
                writeln!(text, "{key} = {values:?}").expect("a string takes all");
            }
        }
        for line in &self.lines {
            writeln!(text, "{line}").expect("a string takes all");
        }
        if !self.health.is_empty() {
            write!(text, "\n[health]\n{}\n", self.health.join("\n")).expect("a string takes all");
        }
        text + &self.endpoints
    }
}
