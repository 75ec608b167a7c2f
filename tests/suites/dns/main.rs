//! Names: as dig asks for them, as BIND takes them as a secondary and as a primary, and as an attacker would like them.

mod attacks;
mod life;
mod queries;
mod secondary;
mod updates;

use std::net::SocketAddr;

use tests::{App, Config, Gateway, dig_short};

/// As `tsig-keygen` prints it.
pub const KEY: &str = "key \"platform\" {\n\talgorithm hmac-sha256;\n\tsecret \"rU5S0HgqPq8C0ry6Sx3zcV5Hx9bEbN7o6s7c4d3f2g0=\";\n};\n";

/// Nobody is behind it: names lead there whether or not.
pub fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

pub fn app(id: &str) -> App {
    App::new(id).endpoint("v1", "c1", nowhere())
}

/// A zone with two addresses and two name servers.
pub fn section(more: &str) -> String {
    format!(
        "[dns]\nlisten = [\"127.0.0.1:0\"]\nzone = \"apps.test\"\nhostmaster = \"dns@example.com\"\n\
         addresses = [\"192.0.2.10\", \"2001:db8::10\"]\n{more}\n\
         [[dns.nameserver]]\nname = \"ns1.apps.test\"\naddresses = [\"192.0.2.53\"]\n\
         [[dns.nameserver]]\nname = \"ns2.example.com\"\n"
    )
}

pub fn config(more: &str) -> Config {
    Config::new().section(&section(more))
}

/// Whether `name` leads to the zone's own addresses.
pub fn leads_to(server: SocketAddr, name: &str, wanted: &[&str]) -> bool {
    dig_short(server, &[name, "A"]) == wanted
}

pub fn serial(gateway: &Gateway) -> u64 {
    gateway.admin_json("/v1/dns")["serial"].as_u64().expect("a number")
}
