use discovery::remote::{Tls, User};
use discovery::zookeeper::Acl;
use topology::AppId;

use super::*;
use crate::access_log::{Rotation, StreamAddress, SyslogAddress};

const LISTENER: &str =
    "[[gateway.listener]]\nname = \"web\"\naddress = \"0.0.0.0:8080\"\nprotocol = \"http\"\n";

fn parse_at_etc(text: &str) -> Result<Config, Mistakes> {
    parse("sluice.toml", text, Path::new("/etc/sluice"))
}

/// `text` as the lines before a listener that is right.
fn mistakes_of(text: &str) -> String {
    parse_at_etc(text).unwrap_err().to_string()
}

fn pattern(text: &str) -> FilePattern {
    FilePattern::parse(Path::new("/etc/sluice"), text).unwrap()
}

#[test]
fn the_documented_file_reads_as_documented() {
    let config = parse_at_etc(
        r#"
[registry]
kind = "zookeeper"
servers = ["127.0.0.1:2181", "zk.example.com:2181", "[::1]:2181"]
prefix = "/caas/eu"
session_timeout = "10s"

[gateway]
id = "gw-1"
workers = 2
base_domain = "Apps.Example.com"
trusted_proxies = ["10.1.0.0/8", "192.0.2.1", "2001:db8::/32"]
drain_timeout = "5s"

[[gateway.listener]]
name = "web"
address = "0.0.0.0:8080"
protocol = "http"
proxy_protocol = "off"

[[gateway.listener]]
name = "web-tls"
address = "0.0.0.0:8443"
protocol = "http"
tls = { certificates = ["tls/*.pem"] }

[[gateway.listener]]
name = "db"
address = "0.0.0.0:3306"
protocol = "tcp"
app = "db"

[gateway.access_log]
path = "log/access.log"
format = "combined"

[admin]
address = "127.0.0.1:9901"

[apps]
files = ["apps/*.toml", "/srv/apps/*.toml"]
"#,
    )
    .unwrap();
    let servers = ["127.0.0.1:2181", "zk.example.com:2181", "[::1]:2181"].map(str::to_owned).to_vec();
    let session_timeout = Duration::from_secs(10);
    let registry = RegistryConfig::ZooKeeper(zookeeper::Settings {
        prefix: "/caas/eu".to_owned(),
        session_timeout,
        ..zookeeper::Settings::new(servers)
    });
    assert_eq!(config.registry, registry);
    let gateway = config.gateway;
    assert_eq!((gateway.id.as_str(), gateway.workers), ("gw-1", 2));
    assert_eq!(gateway.base_domain.as_deref(), Some("apps.example.com"));
    let trusted: Vec<_> = gateway.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(gateway.drain_timeout, Duration::from_secs(5));
    let protocols: Vec<_> = gateway.listeners.iter().map(|listener| listener.protocol.clone()).collect();
    let tls = TlsConfig {
        certificates: vec![pattern("tls/*.pem")],
        from_registry: true,
        min_version: MinTlsVersion::Tls12,
        client_auth: None,
    };
    let wanted = [
        ListenerProtocol::Http { tls: None, http2: true, https: HttpsConfig::default() },
        ListenerProtocol::Http { tls: Some(tls), http2: true, https: HttpsConfig::default() },
        ListenerProtocol::Tcp(TcpConfig {
            app: Some(AppId::parse("db").unwrap()),
            sni: Vec::new(),
            tls: None,
            idle_timeout: Duration::from_secs(3_600),
        }),
    ];
    assert_eq!(protocols, wanted);
    let target = Some(LogTarget::File { path: "/etc/sluice/log/access.log".into(), rotation: None });
    assert_eq!(
        gateway.access_log,
        AccessLogConfig { target, format: Format::Combined, ..AccessLogConfig::default() }
    );
    let admin = AdminConfig {
        address: Some("127.0.0.1:9901".parse().unwrap()),
        socket: None,
        tls: None,
        tokens: None,
        requires_token: false,
    };
    assert_eq!(config.admin, Some(admin));
    assert_eq!(config.apps.files, [pattern("apps/*.toml"), pattern("/srv/apps/*.toml")]);
}

#[test]
fn registries_of_a_fleet_have_users_certificates_and_roots() {
    let zookeeper = r#"[registry]
kind = "zookeeper"
servers = ["zk-1:2281", "zk-2:2281/eu/edge"]
user = "sluice"
password_file = "zk.password"
acl = "readable"
tls = { ca = "ca.pem", certificate = "gw.pem" }
"#;
    let config = parse_at_etc(&format!("{zookeeper}{LISTENER}")).unwrap();
    let user = |file: &str| Some(User { name: "sluice".into(), password_file: file.into() });
    let tls = Tls {
        ca: Some("/etc/sluice/ca.pem".into()),
        certificate: Some("/etc/sluice/gw.pem".into()),
        server_name: None,
    };
    let wanted = zookeeper::Settings {
        prefix: "/eu/edge/caas".to_owned(),
        access: Access { user: user("/etc/sluice/zk.password"), tls: Some(tls) },
        acl: Acl::Readable,
        ..zookeeper::Settings::new(vec!["zk-1:2281".to_owned(), "zk-2:2281".to_owned()])
    };
    assert_eq!(config.registry, RegistryConfig::ZooKeeper(wanted));

    let etcd = r#"[registry]
kind = "etcd"
servers = ["[::1]:2379"]
prefix = "/sluice"
key_file = "registry.keys"
session_timeout = "10s"
user = "sluice"
password_file = "/run/etcd.password"
tls = { server_name = "etcd.internal" }
"#;
    let config = parse_at_etc(&format!("{etcd}{LISTENER}")).unwrap();
    let tls = Tls { server_name: Some("etcd.internal".to_owned()), ..Tls::default() };
    let wanted = etcd::Settings {
        servers: vec!["[::1]:2379".to_owned()],
        prefix: "/sluice".to_owned(),
        session_timeout: Duration::from_secs(10),
        access: Access { user: user("/run/etcd.password"), tls: Some(tls) },
    };
    assert_eq!(config.registry, RegistryConfig::Etcd(wanted));
    assert_eq!(config.registry_keys, Some("/etc/sluice/registry.keys".into()));
}

#[test]
fn a_registry_at_the_far_end_of_a_network_is_doubted_and_saved_by_default() {
    let belief = |lines: &str| {
        let text = format!("[registry]\nkind = \"etcd\"\nservers = [\"b:1\", \"a:1\"]\n{lines}\n");
        let config = parse_at_etc(&format!("{text}{LISTENER}")).unwrap();
        assert_eq!(config.registry.label().as_deref(), Some("etcd a:1,b:1/caas"));
        config.belief
    };
    let saved = Some("/etc/sluice/data/registry.saved".into());
    assert_eq!(belief(""), BeliefConfig { grace: Duration::from_secs(60), saved });
    let wanted = BeliefConfig { grace: Duration::ZERO, saved: None };
    assert_eq!(belief("mass_loss_grace = \"0s\"\nsaved = \"off\""), wanted);
    let saved = Some("/var/lib/sluice/saved".into());
    let wanted = BeliefConfig { grace: Duration::from_secs(300), saved };
    assert_eq!(belief("mass_loss_grace = \"5m\"\nsaved = \"/var/lib/sluice/saved\""), wanted);
    assert_eq!(parse_at_etc(LISTENER).unwrap().belief, BeliefConfig::default());
}

#[test]
fn a_zookeeper_user_keeps_its_nodes_to_itself_by_default() {
    let text = r#"[registry]
kind = "zookeeper"
servers = ["zk-1:2181"]
user = "sluice"
password_file = "zk.password"
"#;
    let RegistryConfig::ZooKeeper(settings) = parse_at_etc(&format!("{text}{LISTENER}")).unwrap().registry
    else {
        panic!("it is a ZooKeeper");
    };
    assert_eq!(settings.acl, Acl::Private);
}

#[test]
fn a_listener_is_all_that_must_be_said() {
    let config = parse_at_etc(LISTENER).unwrap();
    assert_eq!(config.registry, RegistryConfig::Embedded { path: "/etc/sluice/data/registry".into() });
    assert!(!config.gateway.id.is_empty());
    assert!((1..=256).contains(&config.gateway.workers));
    assert_eq!(config.gateway.access_log.target, Some(LogTarget::Stdout));
    assert_eq!(config.gateway.access_log.format, Format::Json);
    assert_eq!(config.gateway.drain_timeout, Duration::from_secs(30));
    assert_eq!((config.admin, config.apps), (None, AppsConfig::default()));
    assert_eq!((config.gateway.base_domain, config.gateway.trusted_proxies), (None, Vec::new()));
}

#[test]
fn the_access_log_goes_to_one_place_with_what_belongs_to_it() {
    let read = |section: &str| {
        let config = parse_at_etc(&format!("{LISTENER}\n[gateway.access_log]\n{section}\n"));
        config.map(|config| config.gateway.access_log).map_err(|mistakes| mistakes.to_string())
    };
    let file = read("path = \"a.log\"\nrotate_size = \"100MiB\"\nkeep = 3\nbuffer = \"1MiB\"").unwrap();
    let rotation = Some(Rotation { bytes: 100 << 20, keep: 3 });
    assert_eq!(file.target, Some(LogTarget::File { path: "/etc/sluice/a.log".into(), rotation }));
    assert_eq!(file.buffer, 1 << 20);
    assert_eq!(read("path = \"off\"").unwrap().target, None);
    let syslog = read("syslog = \"unix:/dev/log\"\nfacility = \"local3\"").unwrap();
    assert_eq!(syslog.target, Some(LogTarget::Syslog(SyslogAddress::Unix("/dev/log".into()))));
    assert_eq!(syslog.facility, 19);
    let address = "10.0.0.1:514".parse().unwrap();
    for (text, wanted) in [
        ("syslog = \"udp:10.0.0.1:514\"", LogTarget::Syslog(SyslogAddress::Udp(address))),
        ("syslog = \"tcp:10.0.0.1:514\"", LogTarget::Syslog(SyslogAddress::Tcp(address))),
        ("socket = \"tcp:10.0.0.1:514\"", LogTarget::Socket(StreamAddress::Tcp(address))),
        ("socket = \"unix:s\"", LogTarget::Socket(StreamAddress::Unix("/etc/sluice/s".into()))),
    ] {
        assert_eq!(read(text).unwrap().target, Some(wanted), "{text}");
    }
    for (text, mistake) in [
        ("path = \"a\"\nsyslog = \"unix:/dev/log\"", "syslog: lines go to one place, and path says where"),
        ("keep = 3", "keep: is for files that are rotated"),
        ("path = \"-\"\nrotate_size = \"1MiB\"", "rotate_size: only files are rotated"),
        ("rotate_size = \"1KiB\"\npath = \"a\"", "\"1KiB\" is out of range; write 4KiB to 1024GiB"),
        ("facility = \"local0\"", "facility: is for syslog only"),
        ("syslog = \"unix:/dev/log\"\nfacility = \"local9\"", "is none of user, mail"),
        ("syslog = \"/dev/log\"", "is no syslog; write"),
        ("socket = \"udp:10.0.0.1:514\"", "is no socket; write"),
        ("socket = \"tcp:logs.example.com:514\"", "host names are not looked up"),
        ("buffer = \"1KiB\"", "write 128KiB to 4GiB"),
    ] {
        let mistakes = read(text).unwrap_err();
        assert!(mistakes.contains(mistake), "{text}: {mistakes}");
    }
}

#[test]
fn tcp_and_udp_have_keys_and_ports_of_their_own() {
    let config = parse_at_etc(
        r#"
[[gateway.listener]]
name = "dns"
address = "0.0.0.0:53"
protocol = "udp"
app = "dns"
idle_timeout = "5s"
max_sessions = 100

[[gateway.listener]]
name = "dns-tcp"
address = "0.0.0.0:53"
protocol = "tcp"
app = "dns"
proxy_protocol = "optional"

[[gateway.listener]]
name = "tls"
address = "0.0.0.0:443"
protocol = "tcp"
sni = { "DB.example.com" = "db", "*.x.example" = "x" }
idle_timeout = "2m"
proxy_protocol = "required"

[[gateway.listener]]
name = "ended"
address = "10.0.0.200:8443"
protocol = "tcp"
app = "db"
freebind = true
tls = { certificates = ["a.pem"] }
"#,
    )
    .unwrap();
    let app = |id: &str| AppId::parse(id).unwrap();
    let [dns, dns_tcp, tls, ended] = &config.gateway.listeners[..] else { panic!("four") };
    let idle_timeout = Duration::from_secs(5);
    let udp = UdpConfig { app: app("dns"), idle_timeout, max_sessions: 100 };
    assert_eq!(dns.protocol, ListenerProtocol::Udp(udp));
    assert_eq!(dns_tcp.proxy_protocol, Mode::Optional);
    let names = [("db.example.com", "db"), ("*.x.example", "x")];
    let sni = names.map(|(name, id)| (topology::HostPattern::parse(name).unwrap(), app(id))).to_vec();
    let idle_timeout = Duration::from_secs(120);
    assert_eq!(tls.protocol, ListenerProtocol::Tcp(TcpConfig { app: None, sni, tls: None, idle_timeout }));
    assert_eq!((dns.proxy_protocol, tls.proxy_protocol), (Mode::Off, Mode::Required));
    assert!(ended.protocol.tls().is_some());
    assert_eq!((tls.presence, ended.presence), (Presence::Required, Presence::Optional));
}

#[test]
fn listeners_on_any_free_port_do_not_clash() {
    let twice = format!("{LISTENER}{}", LISTENER.replace("\"web\"", "\"other\"")).replace("8080", "0");
    assert_eq!(parse_at_etc(&twice).unwrap().gateway.listeners.len(), 2);
}

#[test]
fn mistakes_name_line_key_and_what_to_write() {
    let gateway = |line: &str| format!("[gateway]\nid = \"g\"\n{line}\n{LISTENER}");
    let before = |lines: &str| format!("{lines}\n{LISTENER}");
    let tcp = |lines: &str| LISTENER.replace("\"http\"", "\"tcp\"") + lines;
    for (text, wanted) in [
        // The five that are made most.
        (gateway("worker = 2"), "sluice.toml:3: gateway.worker: unknown key; did you mean \"workers\"?"),
        (
            gateway("workers = \"two\""),
            "sluice.toml:3: gateway.workers: must be an integer from 1 to 256, not the string \"two\"",
        ),
        (
            gateway("drain_timeout = \"30\""),
            "sluice.toml:3: gateway.drain_timeout: \"30\" is no duration; write a whole number with ms, s, m, h or d, such as \"300ms\" or \"5s\"",
        ),
        (
            LISTENER.replace("0.0.0.0", "localhost"),
            "sluice.toml:3: gateway.listener[0].address: \"localhost:8080\" is no address; write IP:port, such as \"0.0.0.0:8080\"",
        ),
        (
            format!("{LISTENER}{LISTENER}"),
            "sluice.toml:6: gateway.listener[1].name: a listener \"web\" stands above already\nsluice.toml:7: gateway.listener[1].address: 0.0.0.0:8080 is the address of listener \"web\" already",
        ),
        // Listeners.
        (
            LISTENER.replace("\"http\"", "\"htp\""),
            "sluice.toml:4: gateway.listener[0].protocol: \"htp\" is none of http, tcp, udp; did you mean \"http\"?",
        ),
        (
            LISTENER.replace("\"http\"", "\"tcp\""),
            "sluice.toml:1: gateway.listener[0].app: is missing; write app = \"db\", the app that gets every connection",
        ),
        (
            format!("{LISTENER}app = \"db\""),
            "sluice.toml:5: gateway.listener[0].app: is for protocol = \"tcp\" only: HTTP finds the app by its host; remove it",
        ),
        (
            format!("{LISTENER}proxy_protocol = \"on\""),
            "sluice.toml:5: gateway.listener[0].proxy_protocol: \"on\" is none of off, optional, required",
        ),
        (
            format!("{LISTENER}freebind = true"),
            "sluice.toml:5: gateway.listener[0].freebind: is for one address; a listener of all addresses serves those that come later anyway",
        ),
        (
            format!("{LISTENER}idle_timeout = \"5s\""),
            "sluice.toml:5: gateway.listener[0].idle_timeout: is for protocol = \"tcp\" or \"udp\"; remove it",
        ),
        (
            tcp("sni = { \"a.test\" = \"a\" }\ntls = { certificates = [\"a.pem\"] }"),
            "sluice.toml:5: gateway.listener[0].sni: chooses by a name and passes TLS on unread, but tls ends it here; remove one of the two",
        ),
        (
            tcp("sni = {}"),
            "sluice.toml:5: gateway.listener[0].sni: is empty; write sni = { \"db.example.com\" = \"db\" }, or remove it",
        ),
        (
            tcp(
                "sni = { \"*\" = \"a\", \"10.0.0.1\" = \"b\", \"a b\" = \"c\", \"a.test\" = \"d\", \"A.test\" = \"e\" }",
            ),
            "sluice.toml:5: gateway.listener[0].sni.\"*\": is any name; write app = \"…\" beside sni for the rest\nsluice.toml:5: gateway.listener[0].sni.\"10.0.0.1\": is an address, for which clients send no name; write a name such as db.example.com or *.db.example.com\nsluice.toml:5: gateway.listener[0].sni.\"a b\": is no server name; write a name such as db.example.com or *.db.example.com\nsluice.toml:5: gateway.listener[0].sni.\"A.test\": is the same name as one above",
        ),
        (
            tcp("app = \"db\"\nmax_sessions = 5"),
            "sluice.toml:6: gateway.listener[0].max_sessions: is for protocol = \"udp\" only; remove it",
        ),
        (
            LISTENER.replace("\"http\"", "\"udp\""),
            "sluice.toml:1: gateway.listener[0].app: is missing; write app = \"dns\", the app that gets every datagram",
        ),
        (
            LISTENER
                .replace("\"http\"", "\"udp\"\napp = \"dns\"\nproxy_protocol = \"off\"\nmax_sessions = 0"),
            "sluice.toml:6: gateway.listener[0].proxy_protocol: is for connections; remove it\nsluice.toml:7: gateway.listener[0].max_sessions: must be an integer from 1 to 1000000, not the integer 0",
        ),
        (
            format!("{LISTENER}tls = {{}}"),
            "sluice.toml:5: gateway.listener[0].tls.certificates: is missing; write certificates = [\"tls/*.pem\"]",
        ),
        (
            format!("{LISTENER}tls = {{ certificates = [\"tls/**\"] }}"),
            "sluice.toml:5: gateway.listener[0].tls.certificates[0]: \"tls/**\" is no file pattern: ** is not supported; write a path whose names may hold *, ? and [a-z]",
        ),
        (
            "[gateway]\nid = \"g\"".to_owned(),
            "sluice.toml:1: gateway.listener: is missing; write a [[gateway.listener]] section with name, address and protocol",
        ),
        (
            "[gateway]\nlistener = []".to_owned(),
            "sluice.toml:2: gateway.listener: is empty; write a [[gateway.listener]] section with name, address and protocol",
        ),
        (String::new(), "sluice.toml: gateway: is missing; write a [gateway] section with a listener"),
        // The gateway.
        (
            gateway("base_domain = \"*.a.de\""),
            "sluice.toml:3: gateway.base_domain: is no domain; write a name such as apps.example.com",
        ),
        (
            gateway("base_domain = \"10.0.0.1\""),
            "sluice.toml:3: gateway.base_domain: is no domain; write a name such as apps.example.com",
        ),
        (
            gateway("trusted_proxies = [\"10.0.0.0/33\"]"),
            "sluice.toml:3: gateway.trusted_proxies[0]: \"10.0.0.0/33\" is no network; write an address or a network such as 10.0.0.0/8 or 2001:db8::/32",
        ),
        (gateway("access_log = { path = \"\" }"), "sluice.toml:3: gateway.access_log.path: is no path"),
        (
            LISTENER.replace("[[gateway.listener]]", "[gateway]\nid = \"a/b\"\n[[gateway.listener]]"),
            "sluice.toml:2: gateway.id: is no gateway id; write 1 to 128 of a-z A-Z 0-9 . _ -, not starting with a dot",
        ),
        // The registry.
        (
            before("[registry]\nkind = \"zokeeper\""),
            "sluice.toml:2: registry.kind: is none of embedded, zookeeper, etcd; did you mean \"zookeeper\"?",
        ),
        (
            before("[registry]\nservers = [\"a:1\"]"),
            "sluice.toml:2: registry.servers: is for kind = \"zookeeper\" and \"etcd\" only; remove it",
        ),
        (
            before("[registry]\nkind = \"zookeeper\""),
            "sluice.toml:1: registry.servers: is missing; write servers = [\"127.0.0.1:2181\"]",
        ),
        (
            before("[registry]\nkind = \"etcd\"\nservers = []\npath = \"data\""),
            "sluice.toml:3: registry.servers: is empty; write servers = [\"127.0.0.1:2379\"]\nsluice.toml:4: registry.path: is for kind = \"embedded\" only; remove it",
        ),
        (
            before("[registry]\nkind = \"zookeeper\"\nservers = [\"zk\"]\nprefix = \"caas\""),
            "sluice.toml:3: registry.servers[0]: \"zk\" is no server; write host:port, such as \"zk-1.example.com:2181\"\nsluice.toml:4: registry.prefix: is no prefix; write a path such as \"/caas\", without a slash at its end",
        ),
        (
            before("[registry]\nkind = \"zookeeper\"\nservers = [\"a:1/x\", \"b:1/eu/\"]"),
            "sluice.toml:3: registry.servers[1]: \"b:1/eu/\": what follows the port is no prefix; write a path such as \"/caas\", without a slash at its end",
        ),
        (
            before("[registry]\nkind = \"zookeeper\"\nservers = [\"a:1/x\", \"b:1\"]"),
            "sluice.toml:3: registry.servers: has a path behind a server that is not the last; write it behind the last one",
        ),
        (
            before(
                "[registry]\nkind = \"zookeeper\"\nservers = [\"a:1\"]\nacl = \"private\"\ntls = { server_name = \"zk\" }",
            ),
            "sluice.toml:4: registry.acl: needs somebody to reserve nodes for; add user and password_file\nsluice.toml:5: registry.tls: needs the issuers of the servers' certificates; add ca = \"ca.pem\"\nsluice.toml:5: registry.tls: server_name is for kind = \"etcd\" only: a ZooKeeper proves to be the host that servers names; remove it",
        ),
        (
            before(
                "[registry]\nkind = \"etcd\"\nservers = [\"a:1/x\"]\nuser = \"a:b\"\nacl = \"open\"\ntls = { server_name = \"a b\" }",
            ),
            "sluice.toml:3: registry.servers[0]: \"a:1/x\" is no server; write host:port, such as \"etcd-1.example.com:2379\"\nsluice.toml:4: registry.user: is no user; write 1 to 256 bytes without white space and colons\nsluice.toml:4: registry.user: is of no use without password_file; add password_file = \"registry.password\"\nsluice.toml:5: registry.acl: is for kind = \"zookeeper\" only: etcd's roles are the cluster's; remove it\nsluice.toml:6: registry.tls.server_name: is no name that a certificate can prove; write etcd.internal, or an IP address",
        ),
        // Limits.
        (
            gateway(
                "limits = { header_timeout = \"0s\", max_head = \"1MiB\", max_uri = \"16\", max_fields = 3 }",
            ),
            "sluice.toml:3: gateway.limits.max_head: \"1MiB\" is out of range; write 1KiB to 48KiB\nsluice.toml:3: gateway.limits.max_fields: must be an integer from 16 to 256, not the integer 3\nsluice.toml:3: gateway.limits.max_uri: \"16\" is no size; write a whole number with B, KiB, MiB or GiB, such as \"64KiB\" or \"10MiB\"\nsluice.toml:3: gateway.limits.header_timeout: \"0s\" is out of range; write 1s to 1h",
        ),
        (
            format!("{LISTENER}limits = {{ max_uri = \"33KiB\" }}"),
            "sluice.toml:5: gateway.listener[0].limits.max_uri: is more than max_head, which it is a part of; raise max_head too",
        ),
        (
            format!(
                "{}app = \"db\"\nlimits = {{ max_body = \"1KiB\", max_connections = 5 }}",
                LISTENER.replace("http", "tcp")
            ),
            "sluice.toml:6: gateway.listener[0].limits.max_body: is for protocol = \"http\" only; remove it",
        ),
        (
            format!("{}app = \"dns\"\nlimits = {{ max_connections = 5 }}", LISTENER.replace("http", "udp")),
            "sluice.toml:6: gateway.listener[0].limits: is for connections; remove it: max_sessions limits sessions",
        ),
        (
            format!("{LISTENER}limits = {{ max_buffers = \"64MiB\" }}"),
            "sluice.toml:5: gateway.listener[0].limits.max_buffers: is for [gateway.limits]: all listeners share a worker's buffers; remove it",
        ),
        // The deploy API.
        (
            before("[deploy]\naddress = \"0.0.0.0:9900\""),
            "sluice.toml:2: deploy.address: 0.0.0.0:9900 is no loopback address: there the deploy API needs TLS, and tokens or client certificates; add tls = { certificates = [\"admin.pem\"] } and tokens = \"admin-tokens\", or write \"127.0.0.1:9900\"",
        ),
        (
            before("[deploy]\nruntime = \"docker\"\nstate = \"x\""),
            "sluice.toml:3: deploy.state: is for runtime = \"process\" only; remove it",
        ),
        (
            before("[deploy]\nruntime = \"docker\"\nmemory = \"1GiB\""),
            "sluice.toml:3: deploy.memory: is of this machine as a host; add host = \"host-1\", or remove it",
        ),
        (
            before("[deploy]\nruntime = \"docker\"\ndocker = { endpoint = \"tcp://x\" }"),
            "sluice.toml:3: deploy.docker.endpoint: \"tcp://x\" is no endpoint; write \"unix:///var/run/docker.sock\" or \"tcp://10.0.0.1:2376\"",
        ),
        (
            before("[deploy]\nlost_after = \"1s\""),
            "sluice.toml:2: deploy.lost_after: \"1s\" is out of range; write 5s to 1h",
        ),
        (
            before("[deploy]\nhost_address = \"0.0.0.0\""),
            "sluice.toml:2: deploy.host_address: is no IP address of this machine; write one such as \"10.0.0.1\"",
        ),
        // The admin API.
        (
            before("[admin]\naddress = \"0.0.0.0:9901\""),
            "sluice.toml:2: admin.address: 0.0.0.0:9901 is no loopback address: there the admin API needs TLS, and tokens or client certificates; add tls = { certificates = [\"admin.pem\"] } and tokens = \"admin-tokens\", or write \"127.0.0.1:9901\"",
        ),
        (
            format!("{}[admin]\naddress = \"127.0.0.1:8080\"", LISTENER.replace("0.0.0.0", "127.0.0.1")),
            "sluice.toml:6: admin.address: 127.0.0.1:8080 is the address of listener \"web\"",
        ),
        (before("[apps]"), "sluice.toml:1: apps.files: is missing; write files = [\"apps/*.toml\"]"),
        (before("[admn]"), "sluice.toml:1: admn: unknown key; did you mean \"admin\"?"),
    ] {
        assert_eq!(mistakes_of(&text), wanted, "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    let wanted = format!("{}: cannot be read: No such file or directory (os error 2)", path.display());
    assert_eq!(load(&path).unwrap_err().to_string(), wanted);
    assert_eq!(check(&path).unwrap_err().to_string(), wanted);
}

#[test]
fn checking_reports_the_mistakes_of_all_files_together() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let text = format!(
        "[apps]\nfiles = [\"apps/*.toml\", \"apps/a.toml\"]\n{LISTENER}tls = {{ certificates = [\"tls/*.pem\"] }}\n"
    );
    let config = write("sluice.toml", &text);
    let a = write("apps/a.toml", "id = \"a\"");
    let b = write("apps/b.toml", "id = \"b\"\nhostz = []");
    let c = write("apps/c.toml", "id = \"a\"");
    let found = check(Path::new(&config)).unwrap_err().to_string();
    let tls = folder.path().join("tls");
    let apps = format!(
        "{b}:2: hostz: unknown key; did you mean \"hosts\"?\n{c}: id: app \"a\" is in {a} already; keep one of the two"
    );
    let certificates =
        format!("{config}: gateway.listener[0].tls.certificates: no file matches {}/*.pem", tls.display());
    assert_eq!(found, format!("{certificates}\n{apps}"));

    write("sluice.toml", &format!("{text}worker = 1"));
    let found = check(Path::new(&config)).unwrap_err().to_string();
    assert!(found.starts_with(&format!("{config}:8: gateway.listener[0].worker: unknown key")), "{found}");
    assert!(found.ends_with(&apps), "{found}");

    for (name, text) in
        [("sluice.toml", text.as_str()), ("apps/b.toml", "id = \"b\""), ("apps/c.toml", "id = \"c\"")]
    {
        write(name, text);
    }
    let issued = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    write("tls/a.pem", &(issued.cert.pem() + &issued.signing_key.serialize_pem()));
    assert_eq!(check(Path::new(&config)), load(Path::new(&config)));
}

/// Every file below `conf` is one that a user starts from.
#[test]
fn the_configurations_that_we_ship_are_right() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let mut seen = 0;
    for entry in std::fs::read_dir(&conf).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            check(&path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            seen += 1;
        }
    }
    for entry in std::fs::read_dir(conf.join("apps")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        discovery::spec::parse_app_file(&path.display().to_string(), &text)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"));
        seen += 1;
    }
    assert!(seen >= 3, "{seen} files");
}

#[test]
fn tls_of_listeners_and_to_endpoints_reads_as_documented() {
    let config = parse_at_etc(
        r#"
[gateway]
id = "gw-1"

[[gateway.listener]]
name = "tls"
address = "0.0.0.0:8443"
protocol = "http"
tls = { certificates = ["tls/*.pem"], min_version = "1.3", client_ca = "clients.crt", client_auth = "optional" }
hsts = "365d"

[[gateway.listener]]
name = "members"
address = "0.0.0.0:8444"
protocol = "http"
tls = { certificates = ["tls/*.pem"], client_ca = "/srv/clients.crt" }

[[gateway.listener]]
name = "plain"
address = "0.0.0.0:80"
protocol = "http"
https_redirect = true
https_port = 8443

[[gateway.upstream_tls]]
name = "internal"
ca = "ca.crt"
server_name = "shop.internal"
certificate = "client.pem"

[[gateway.upstream_tls]]
name = "public"
"#,
    )
    .unwrap();
    let tls = |min_version, ca: &str, mode| {
        let client_auth = Some(ClientAuthConfig { ca: ca.into(), mode });
        Some(TlsConfig {
            certificates: vec![pattern("tls/*.pem")],
            from_registry: true,
            min_version,
            client_auth,
        })
    };
    let hsts = Some(Duration::from_secs(31_536_000));
    let wanted = [
        ListenerProtocol::Http {
            http2: true,
            tls: tls(MinTlsVersion::Tls13, "/etc/sluice/clients.crt", ClientAuthMode::Optional),
            https: HttpsConfig { hsts, ..HttpsConfig::default() },
        },
        ListenerProtocol::Http {
            http2: true,
            tls: tls(MinTlsVersion::Tls12, "/srv/clients.crt", ClientAuthMode::Required),
            https: HttpsConfig::default(),
        },
        ListenerProtocol::Http {
            tls: None,
            http2: true,
            https: HttpsConfig { redirect: true, port: 8443, hsts: None },
        },
    ];
    let protocols: Vec<_> = config.gateway.listeners.into_iter().map(|listener| listener.protocol).collect();
    assert_eq!(protocols, wanted);
    let internal = UpstreamTlsConfig {
        name: "internal".into(),
        ca: Some("/etc/sluice/ca.crt".into()),
        server_name: Some("shop.internal".try_into().unwrap()),
        certificate: Some("/etc/sluice/client.pem".into()),
    };
    let public = UpstreamTlsConfig { name: "public".into(), ca: None, server_name: None, certificate: None };
    assert_eq!(config.gateway.upstream_tls, [internal, public]);
}

#[test]
fn a_listener_has_the_general_limits_but_for_those_of_its_own() {
    let config = parse_at_etc(
        r#"
[gateway]
id = "gw-1"

[gateway.limits]
header_timeout = "5s"
max_body = "10MiB"
max_requests = 1000
max_buffers = "64MiB"

[[gateway.listener]]
name = "web"
address = "0.0.0.0:80"
protocol = "http"

[[gateway.listener]]
name = "upload"
address = "0.0.0.0:81"
protocol = "http"
limits = { max_body = "0B", min_body_rate = 0, max_connections_per_client = 0, max_connections = 100 }
"#,
    )
    .unwrap();
    let general = Limits {
        header_timeout: Duration::from_secs(5),
        max_body: 10 << 20,
        max_requests: 1_000,
        ..Limits::default()
    };
    let own = Limits {
        max_body: u64::MAX,
        min_body_rate: 0,
        max_connections: 100,
        max_connections_per_client: Some(u32::MAX),
        ..general.clone()
    };
    let limits: Vec<_> = config.gateway.listeners.iter().map(|listener| (*listener.limits).clone()).collect();
    assert_eq!(limits, [general, own]);
    assert_eq!(config.gateway.max_buffers, Some(64 << 20));
}

#[test]
fn tenants_are_read_once_each_with_what_they_may_use() {
    use crate::table::limits::TenantLimits;
    let gateway = |sections: &str| format!("[gateway]\nid = \"gw\"\n{sections}{LISTENER}");
    let config = parse_at_etc(&gateway(
        "[[gateway.tenant]]\nname = \"acme\"\nin_flight = 9\nqueue = 0\n[[gateway.tenant]]\nname = \"*\"\nconnections = 5\n",
    ));
    let acme = TenantLimits { in_flight: Some(9), connections: None, queue: Some(0) };
    let others = TenantLimits { in_flight: None, connections: Some(5), queue: None };
    let named = |name: &str, limits| (Arc::<str>::from(name), limits);
    assert_eq!(config.unwrap().gateway.tenants, vec![named("acme", acme), named("*", others)]);
    let mistakes = mistakes_of(&gateway(
        "[[gateway.tenant]]\nname = \"a b\"\nin_flight = 0\n[[gateway.tenant]]\nname = \"x\"\n[[gateway.tenant]]\nname = \"x\"\nqueue = 1\n",
    ));
    for wanted in [
        "sluice.toml:4: gateway.tenant[0].name: is no tenant's name; write 1 to 128",
        "sluice.toml:5: gateway.tenant[0].in_flight: must be an integer from 1 to",
        "sluice.toml:6: gateway.tenant[1]: limits nothing; write in_flight = 1000",
        "sluice.toml:9: gateway.tenant[2].name: a tenant \"x\" stands above already",
    ] {
        assert!(mistakes.contains(wanted), "{wanted} is not in:\n{mistakes}");
    }
}
