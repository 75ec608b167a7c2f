//! The gateway under test, its apps and where they are.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use tests::{App, Config, Endpoint, Gateway, certificate};

use super::endpoint::{Instance, Speaks};

/// Asked by everybody for everything short, and their endpoints die.
pub const SHORT: [&str; 3] = ["shop", "grid", MESH];
/// The one among them whose endpoints speak HTTP/2.
const MESH: &str = "mesh";
/// Long bodies and slow streams.
pub const LONG: &str = "bulk";
pub const WEBSOCKETS: &str = "chat";
pub const TCP: &str = "db";
/// Asked by attackers, and by nobody else.
pub const VICTIM: &str = "victim";
/// Of each app. One of them may be dead at a time.
const INSTANCES: usize = 3;
/// So short that a process without clients soon has no socket left but those that it listens on.
const UPSTREAM_IDLE: &str = "5s";
/// Certificates that take turns.
pub const CERTIFICATES: usize = 3;
pub const TLS_NAME: &str = "tls.soak.test";
/// What they are for: all hosts of the apps, [`TLS_NAME`] too.
const CERTIFIED: &str = "*.soak.test";

/// An app whose endpoints die.
pub struct Mortal {
    pub id: &'static str,
    pub instances: Vec<Instance>,
}

pub struct Site {
    pub mortals: Vec<Mortal>,
    /// Never dies: of attackers and of apps that come and go.
    pub steady: Endpoint,
    endless: Instance,
    /// In PEM, each with its key.
    pub certificates: Vec<String>,
    /// In DER.
    pub known: Vec<Vec<u8>>,
}

/// Where clients and the disturbance find the gateway, whatever process serves.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub web: SocketAddr,
    pub tls: SocketAddr,
    pub db: SocketAddr,
    pub folder: PathBuf,
}

impl Site {
    pub fn new() -> anyhow::Result<Self> {
        let mortal = |id, speaks| {
            let instances = (0..INSTANCES).map(|number| Instance::start(id, number, speaks)).collect();
            Mortal { id, instances }
        };
        let mortals = vec![
            mortal(SHORT[0], Speaks::Http1),
            mortal(SHORT[1], Speaks::Http1),
            mortal(MESH, Speaks::Http2),
            mortal(LONG, Speaks::Http1),
            mortal(WEBSOCKETS, Speaks::Http1),
            mortal(TCP, Speaks::Bytes),
        ];
        let scratch = tempfile::tempdir()?;
        let pems: Vec<_> = (0..CERTIFICATES).map(|_| certificate(scratch.path(), CERTIFIED)).collect();
        let known = pems.iter().map(|pem| der(pem)).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            mortals,
            steady: Endpoint::start("steady"),
            endless: Instance::start(VICTIM, 0, Speaks::Http1),
            certificates: pems,
            known,
        })
    }

    pub fn start(&self) -> (Gateway, Config) {
        let config = self.config();
        (Gateway::start(&config), config)
    }

    /// Limits are the defaults, but for a head's time: an attacker that is cut off sooner comes back sooner.
    pub fn config(&self) -> Config {
        let tls = ["protocol = \"http\"", "tls = { certificates = [\"tls/*.pem\"] }"];
        let victim =
            App::new(VICTIM).host(&host(VICTIM)).line(&idle()).endpoint("v1", "c0", self.endless.address());
        let config = Config::new()
            .app(&victim)
            .file("tls/soak.pem", &self.certificates[0])
            .listener("web-tls", &tls)
            .listener("db", &["protocol = \"tcp\"", "app = \"db\""])
            .gateway("limits = { header_timeout = \"5s\" }")
            .handover();
        self.mortals.iter().fold(config, |config, mortal| config.app(&self.app(mortal, 0)))
    }

    /// An app in one of many ways to write it that route the same.
    pub fn app(&self, mortal: &Mortal, variant: u16) -> App {
        let id = mortal.id;
        let mut app = App::new(id).host(&host(id));
        if variant % 3 == 1 {
            app = app.host(&format!("v{variant}.{}", host(id)));
        }
        if variant % 4 == 1 {
            app = app.line("split = { v1 = 1 }");
        }
        app = app.line(&idle());
        app = app.health("interval = \"500ms\"").health("rise = 1").health("fall = 2");
        for (number, instance) in mortal.instances.iter().enumerate() {
            let name = format!("c{number}");
            app = match id {
                TCP => app.tcp_endpoint("v1", &name, instance.address()),
                MESH => app.h2_endpoint("v1", &name, instance.address()),
                _ => app.weighted("v1", &name, instance.address(), 1 + (variant + number as u16) % 5),
            };
        }
        app
    }

    pub fn addresses(&self, gateway: &Gateway) -> Addresses {
        Addresses {
            web: gateway.web(),
            tls: gateway.listener("web-tls"),
            db: gateway.listener("db"),
            folder: gateway.folder().to_owned(),
        }
    }
}

impl Addresses {
    /// Saves a file as an editor does: complete, or not at all.
    pub fn save(&self, path: &str, contents: &str) -> anyhow::Result<()> {
        let path = self.folder.join(path);
        let staged = path.with_extension("staged");
        fs::write(&staged, contents)?;
        Ok(fs::rename(staged, path)?)
    }

    pub fn save_app(&self, app: &App) -> anyhow::Result<()> {
        self.save(&format!("apps/{}.toml", app.id), &app.toml())
    }

    pub fn remove_app(&self, id: &str) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.folder.join(format!("apps/{id}.toml")))?)
    }
}

pub fn host(app: &str) -> String {
    format!("{app}.soak.test")
}

fn idle() -> String {
    format!("timeouts = {{ upstream_idle = {UPSTREAM_IDLE:?} }}")
}

/// The first certificate of a PEM.
fn der(pem: &str) -> anyhow::Result<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    Ok(CertificateDer::from_pem_slice(pem.as_bytes())?.to_vec())
}
