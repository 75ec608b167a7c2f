//! Sluice, as it is by default: hosts routed, endpoints probed, metrics counted, forwarding fields added.

use std::fs;
use std::process::Command;

use anyhow::Context;

use super::super::site::HOST;
use super::{Ports, Setup};

pub fn command(setup: &Setup<'_>) -> anyhow::Result<Command> {
    let write = |path: &str, text: &str| {
        let path = setup.folder.join(path);
        let folder = path.parent().context("a file has a folder")?;
        fs::create_dir_all(folder)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("sluice.toml", &configuration(setup.ports, setup.access_log))?;
    write("tls/localhost.pem", &fs::read_to_string(setup.site.bundle())?)?;
    let endpoint = setup.site.endpoint();
    let endpoint = format!("[[endpoint]]\nversion = \"v1\"\ninstance = \"c1\"\naddress = \"{endpoint}\"\n");
    let web = format!("id = \"web\"\nhosts = [\"{HOST}\"]\n\n[health]\npath = \"/_ping\"\n\n{endpoint}");
    write("apps/web.toml", &web)?;
    write("apps/l4.toml", &format!("id = \"l4\"\n\n{endpoint}"))?;
    let mut command = match setup.binary {
        Some(binary) => Command::new(binary),
        None => tests::sluice(),
    };
    command.args(["run", "--config"]).arg(setup.folder.join("sluice.toml"));
    Ok(command)
}

fn configuration(ports: &Ports, access_log: bool) -> String {
    let (http, https, tcp) = (ports.http.address(), ports.https.address(), ports.tcp.address());
    let log = if access_log { "access.log" } else { "off" };
    format!(
        r#"[registry]
kind = "embedded"
path = "registry"

[gateway]
id = "compare"
workers = 1
base_domain = "apps.test"

[[gateway.listener]]
name = "web"
address = "{http}"
protocol = "http"

[[gateway.listener]]
name = "web-tls"
address = "{https}"
protocol = "http"
tls = {{ certificates = ["tls/*.pem"] }}

[[gateway.listener]]
name = "l4"
address = "{tcp}"
protocol = "tcp"
app = "l4"

[gateway.access_log]
path = "{log}"
format = "json"

[admin]
address = "127.0.0.1:0"

[apps]
files = ["apps/*.toml"]
"#
    )
}
