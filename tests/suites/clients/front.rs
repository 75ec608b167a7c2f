//! A gateway that is reached plainly and through TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tests::{Config, DEADLINE, Finished, Gateway, certificate, eventually, finish};

/// For a client that moves much, or starts slowly, where every core is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The name on the certificate. Clients are told where it is, since no DNS knows it.
pub const HOST: &str = "shop.test";
const TLS: &str = "web-tls";

pub struct Front {
    pub gateway: Gateway,
    folder: TempDir,
}

impl Front {
    /// Adds a TLS listener to `config`, and an access log.
    pub fn start(config: Config) -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        let tls = [r#"protocol = "http""#, r#"tls = { certificates = ["tls/*.pem"] }"#];
        let config = config
            .listener(TLS, &tls)
            .file("tls/shop.pem", &certificate(folder.path(), HOST))
            .access_log("access.log", "combined");
        Self { gateway: Gateway::start(&config), folder }
    }

    /// Where clients of `scheme` go.
    pub fn address(&self, scheme: &str) -> SocketAddr {
        match scheme {
            "https" | "wss" => self.gateway.listener(TLS),
            _ => self.gateway.web(),
        }
    }

    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{HOST}:{}{path}", self.address(scheme).port())
    }

    /// The lines of the access log so far.
    pub fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.gateway.folder().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The certificate, which clients are to trust.
    pub fn certificate(&self) -> String {
        path(&self.folder().join(format!("{HOST}.crt")))
    }

    /// For what clients read and write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// As an argument for a program.
pub fn path(path: &Path) -> String {
    path.to_str().expect("the folder's name is text").to_owned()
}

/// Runs `command`, which has to be content.
#[track_caller]
pub fn run(command: &mut Command, input: &str) -> Finished {
    let report = finish(command, input, PATIENCE);
    assert_eq!(report.code, Some(0), "{command:?}: {}", report.text());
    report
}

/// Text that no compression and no lucky offset makes shorter: each line is different.
pub fn text_of(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(bytes + 17);
    while text.len() < bytes {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}\n"));
    }
    text.truncate(bytes);
    text
}

/// Of the only endpoint's last probe: its result, the endpoint's state, and the last error.
pub fn probed(gateway: &Gateway) -> (String, String, String) {
    let report = gateway.admin_json("/v1/endpoints");
    let text = |key: &str| report["items"][0][key].as_str().unwrap_or_default().to_owned();
    (text("last_probe_result"), text("state"), text("last_error"))
}

/// Waits until the only endpoint's last probe ended as `result` and left it in `state`; returns the last error.
#[track_caller]
pub fn await_probe(gateway: &Gateway, result: &str, state: &str) -> String {
    let mut error = String::new();
    eventually(DEADLINE, &format!("its probes end as {result}"), || {
        let seen = probed(gateway);
        error = seen.2;
        (&*seen.0, &*seen.1) == (result, state)
    });
    error
}
