//! The start-up configuration of one gateway under test.

use std::net::SocketAddr;

use crate::app::App;

const ANY_PORT: &str = "127.0.0.1:0";

/// What `sluice.toml` says, and the files beside it.
#[derive(Debug, Clone)]
pub struct Config {
    registry: String,
    gateway: Vec<String>,
    listeners: Vec<ListenerConfig>,
    sections: Vec<String>,
    /// The lines of its section.
    access_log: String,
    admin: Vec<String>,
    /// A whole file, in the place of all of the above.
    verbatim: Option<String>,
    pub(crate) open_files: Option<u64>,
    pub(crate) files: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
struct ListenerConfig {
    name: String,
    address: String,
    lines: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// The listener that every configuration has.
    pub const WEB: &'static str = "web";

    /// Two workers, one HTTP listener, the embedded registry, no access log, no app.
    pub fn new() -> Self {
        Self::with_workers(2)
    }

    /// As [`Config::new`], with as many workers as a test can count with.
    pub fn with_workers(workers: usize) -> Self {
        let web = ListenerConfig {
            name: Self::WEB.to_owned(),
            address: ANY_PORT.to_owned(),
            lines: vec![r#"protocol = "http""#.to_owned()],
        };
        Self {
            registry: "kind = \"embedded\"\npath = \"registry\"\n".to_owned(),
            gateway: vec![
                r#"id = "gw-test""#.to_owned(),
                format!("workers = {workers}"),
                r#"base_domain = "apps.test""#.to_owned(),
            ],
            listeners: vec![web],
            sections: Vec::new(),
            access_log: "path = \"off\"".to_owned(),
            admin: vec!["address = \"127.0.0.1:0\"".to_owned()],
            verbatim: None,
            open_files: None,
            files: Vec::new(),
        }
    }

    /// A gateway in front of one endpoint that gets every request.
    pub fn in_front_of(address: SocketAddr) -> Self {
        Self::new().app(&App::everything(address))
    }

    /// A file that we ship, or that somebody else wrote. Its web listener is called so, and its admin listener is there.
    pub fn verbatim(toml: &str) -> Self {
        Self { verbatim: Some(toml.to_owned()), ..Self::new() }
    }

    pub fn app(self, app: &App) -> Self {
        self.file(&format!("apps/{}.toml", app.id), &app.toml())
    }

    /// A file in the gateway's folder.
    pub fn file(mut self, path: &str, contents: &str) -> Self {
        self.files.push((path.to_owned(), contents.to_owned()));
        self
    }

    /// A ZooKeeper at `server`, with sessions short enough for a test to see one expire.
    pub fn zookeeper(mut self, server: &str) -> Self {
        self.registry = format!(
            "kind = \"zookeeper\"\nservers = [\"{server}\"]\nprefix = \"/caas\"\nsession_timeout = \"6s\"\n"
        );
        self
    }

    /// As [`Self::zookeeper`], with an etcd at `server`.
    pub fn etcd(self, server: &str) -> Self {
        self.registry(&format!(
            "kind = \"etcd\"\nservers = [\"{server}\"]\nprefix = \"/caas\"\nsession_timeout = \"4s\"\n"
        ))
    }

    /// The lines of `[registry]`.
    pub fn registry(self, lines: &str) -> Self {
        Self { registry: lines.to_owned(), ..self }
    }

    /// The process may have this many files and sockets.
    pub fn open_files(self, most: u64) -> Self {
        Self { open_files: Some(most), ..self }
    }

    /// A line of `[gateway]`.
    pub fn gateway(mut self, line: &str) -> Self {
        self.gateway.push(line.to_owned());
        self
    }

    /// A line of `[admin]`.
    pub fn admin(mut self, line: &str) -> Self {
        self.admin.push(line.to_owned());
        self
    }

    /// `[admin]` at another address.
    pub fn admin_address(mut self, address: &str) -> Self {
        self.admin[0] = format!("address = {address:?}");
        self
    }

    /// With a socket over which the next process takes over.
    pub fn handover(self) -> Self {
        self.gateway(r#"handover = "gw.sock""#)
    }

    /// Another id than every test's.
    pub fn id(mut self, id: &str) -> Self {
        self.gateway.retain(|line| !line.starts_with("id = "));
        self.gateway(&format!("id = {id:?}"))
    }

    /// The same with so many workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.gateway.retain(|line| !line.starts_with("workers = "));
        self.gateway(&format!("workers = {workers}"))
    }

    pub fn trusting(self, network: &str) -> Self {
        self.gateway(&format!("trusted_proxies = [\"{network}\"]"))
    }

    /// The same without the listener `name`.
    pub fn without(mut self, name: &str) -> Self {
        self.listeners.retain(|listener| listener.name != name);
        self
    }

    /// One more listener with these lines beside its name and address.
    pub fn listener(self, name: &str, lines: &[&str]) -> Self {
        self.listener_at(name, ANY_PORT, lines)
    }

    pub fn listener_at(mut self, name: &str, address: &str, lines: &[&str]) -> Self {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        self.listeners.push(ListenerConfig { name: name.to_owned(), address: address.to_owned(), lines });
        self
    }

    /// One more section, with its heading.
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push(text.to_owned());
        self
    }

    pub fn access_log(mut self, path: &str, format: &str) -> Self {
        self.access_log = format!("path = \"{path}\"\nformat = \"{format}\"");
        self
    }

    /// The lines of `[gateway.access_log]`.
    pub fn access_log_lines(mut self, lines: &[&str]) -> Self {
        self.access_log = lines.join("\n");
        self
    }

    /// `sluice.toml`, for who starts nothing.
    pub fn toml(&self) -> String {
        self.render()
    }

    /// `sluice.toml`. Where a port is 0 the gateway says which one it got.
    pub(crate) fn render(&self) -> String {
        if let Some(whole) = &self.verbatim {
            return whole.clone();
        }
        let mut text = format!("[registry]\n{}\n[gateway]\n{}\n", self.registry, self.gateway.join("\n"));
        for ListenerConfig { name, address, lines } in &self.listeners {
            let lines = lines.join("\n");
            text.push_str(&format!(
                "\n[[gateway.listener]]\nname = \"{name}\"\naddress = \"{address}\"\n{lines}\n"
            ));
        }
        for section in &self.sections {
            text.push_str(&format!("\n{section}\n"));
        }
        text.push_str(&format!("\n[gateway.access_log]\n{}\n", self.access_log));
        text.push_str(&format!("\n[admin]\n{}\n", self.admin.join("\n")));
        text.push_str("\n[apps]\nfiles = [\"apps/*.toml\"]\n");
        text
    }
}
